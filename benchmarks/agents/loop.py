"""Run the same two requests with streamcore but without its agent: what a loop by hand would cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamcore import Message, Request, get_provider, stream_request
from streamcore.tools import tool


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the two requests once."""
    base_url = root if wire == "anthropic" else f"{root}/v1"
    provider = get_provider(wire, api_key="sk-benchmark", model="m", base_url=base_url)

    @tool
    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    async def run() -> int:
        pieces = 0
        messages = [Message("user", "Look it up.")]
        for _ in range(2):
            stream = stream_request(Request(messages, max_tokens=100_000, tools=[lookup]), provider=provider)
            async with stream:
                while (batch := await stream.next_batch()) is not None:
                    for chunk in batch:
                        pieces += chunk.kind == "text"
            answer = stream.partial
            messages.append(answer.to_message())
            for call in answer.tool_calls:
                call.parse()
                messages.append(Message("tool", words(), tool_call_id=call.id))
        return pieces

    return run
