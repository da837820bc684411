"""Ask the notebook: `python examples/agent/agent.py "When is tram 28 full?"`, with a provider in the environment."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from streamcore import Stream, ToolCall, stream_prompt
from streamcore.tools import Deny
from streamcore.tools.decisions import Approver

HERE = Path(__file__).parent


def ask(message: str, approve: Approver | None = None) -> Stream:
    """Return the stream of the agent."""
    return stream_prompt("notebook", {"message": message}, prompts_dir=HERE, approve=approve)


async def agree(call: ToolCall) -> bool | Deny:
    """Ask at the terminal."""
    answer = await asyncio.to_thread(input, f"\n{call.name} {call.arguments}\nRun it? [y/N] ")
    return True if answer.strip().lower() == "y" else Deny("the user said no")


async def main(message: str) -> None:
    """Print the text of all answers, and a line for each result."""
    async with ask(message, agree) as stream:
        async for chunk in stream:
            if chunk.kind == "text":
                print(chunk.text, end="", flush=True)
            elif chunk.tool_result is not None:
                print(f"\n[{chunk.tool_result.name}: {chunk.tool_result.content}]")
    print()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What do I know about Lisbon?"))
