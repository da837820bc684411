"""Run the agent with the Anthropic SDK's own tool runner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

anthropic: Any = import_module("anthropic")


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the agent once."""
    client = anthropic.AsyncAnthropic(api_key="sk-benchmark", base_url=root)

    @anthropic.beta_async_tool  # type: ignore[untyped-decorator,unused-ignore]
    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    async def run() -> int:
        pieces = 0
        runner = client.beta.messages.tool_runner(
            model="m",
            max_tokens=100_000,
            tools=[lookup],
            messages=[{"role": "user", "content": "Look it up."}],
            stream=True,
        )
        async for stream in runner:
            async for event in stream:
                pieces += event.type == "text"
        return pieces

    return run
