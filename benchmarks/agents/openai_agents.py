"""Run the agent with the OpenAI Agents SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

agents: Any = import_module("agents")


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the agent once."""
    agents.set_tracing_disabled(True)
    client = agents.AsyncOpenAI(api_key="sk-benchmark", base_url=f"{root}/v1")

    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    agent = agents.Agent(
        name="helper",
        model=agents.OpenAIChatCompletionsModel(model="m", openai_client=client),
        tools=[agents.function_tool(lookup)],
    )

    async def run() -> int:
        pieces = 0
        result = agents.Runner.run_streamed(agent, "Look it up.")
        async for event in result.stream_events():
            pieces += event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        return pieces

    return run
