"""Run the agent with pydantic-ai: `Agent.run_stream`, each token as it comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

pydantic_ai: Any = import_module("pydantic_ai")


def open_agent(wire: str, root: str, words: Callable[[], str]) -> Callable[[], Awaitable[int]]:
    """Return a function that runs the agent once."""
    models: Any = import_module(f"pydantic_ai.models.{wire}")
    providers: Any = import_module(f"pydantic_ai.providers.{wire}")
    if wire == "anthropic":
        model = models.AnthropicModel("m", provider=providers.AnthropicProvider(api_key="sk-benchmark", base_url=root))
    else:
        provider = providers.OpenAIProvider(api_key="sk-benchmark", base_url=f"{root}/v1")
        model = models.OpenAIChatModel("m", provider=provider)

    async def lookup(topic: str) -> str:
        """Look a topic up."""
        return words()

    agent = pydantic_ai.Agent(model, tools=[lookup])

    async def run() -> int:
        pieces = 0
        async with agent.run_stream("Look it up.") as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                pieces += bool(text)
        return pieces

    return run
