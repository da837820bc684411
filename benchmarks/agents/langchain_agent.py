"""Run the agent with LangChain: `create_agent`, streamed by messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

langchain_agents: Any = import_module("langchain.agents")


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the agent once."""
    if wire == "anthropic":
        package: Any = import_module("langchain_anthropic")
        model = package.ChatAnthropic(model="m", api_key="sk-benchmark", base_url=root, max_tokens=100_000)
    else:
        package = import_module("langchain_openai")
        model = package.ChatOpenAI(model="m", api_key="sk-benchmark", base_url=f"{root}/v1")

    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    agent = langchain_agents.create_agent(model, tools=[lookup])

    async def run() -> int:
        pieces = 0
        given = {"messages": [{"role": "user", "content": "Look it up."}]}
        async for chunk, _ in agent.astream(given, stream_mode="messages"):
            pieces += type(chunk).__name__ == "AIMessageChunk" and bool(chunk.text)
        return pieces

    return run
