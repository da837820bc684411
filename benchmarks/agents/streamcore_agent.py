"""Run the agent with streamcore: `stream_agent`, each text chunk as it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamcore import Message, Request, get_provider, stream_agent
from streamcore.tools import tool


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the agent once, and returns how many pieces of text it yielded."""
    base_url = root if wire == "anthropic" else f"{root}/v1"
    provider = get_provider(wire, api_key="sk-benchmark", model="m", base_url=base_url)

    @tool
    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    async def run() -> int:
        pieces = 0
        request = Request([Message("user", "Look it up.")], max_tokens=100_000)
        async with stream_agent(request, provider=provider, tools=[lookup]) as stream:
            while (batch := await stream.next_batch()) is not None:
                for chunk in batch:
                    pieces += chunk.kind == "text"
        return pieces

    return run
