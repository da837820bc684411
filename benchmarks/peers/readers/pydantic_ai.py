"""Read through pydantic-ai: `Agent.run_stream` and `stream_text(delta=True)`, each token as it comes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

pydantic_ai: Any = import_module("pydantic_ai")
_MODELS = {
    "openai": ("OpenAIChatModel", "OpenAIProvider"),
    "openai-responses": ("OpenAIResponsesModel", "OpenAIProvider"),
    "anthropic": ("AnthropicModel", "AnthropicProvider"),
    "mistral": ("MistralModel", "MistralProvider"),
}


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire."""
    vendor = wire.partition("-")[0]
    model, provider = _MODELS[wire]
    made: Any = getattr(import_module(f"pydantic_ai.models.{vendor}"), model)
    behind: Any = getattr(import_module(f"pydantic_ai.providers.{vendor}"), provider)
    base = root(wire, url) if vendor in ("anthropic", "mistral") else versioned(wire, url)
    agent = pydantic_ai.Agent(made(MODEL, provider=behind(api_key=KEY, base_url=base)))

    async def read(token: Token) -> None:
        async with agent.run_stream(QUESTION) as result:
            # The default, debounce_by=0.1, hands out a tenth of a second's text at once: not token by token.
            async for text in result.stream_text(delta=True, debounce_by=None):
                token(text)

    return read
