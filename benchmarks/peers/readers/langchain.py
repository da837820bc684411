"""Read through LangChain's chat models: `astream` of ChatOpenAI, ChatAnthropic and ChatMistralAI."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

_PACKAGES = {"anthropic": "anthropic", "mistral": "mistralai"}


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire."""
    model = _model(wire, url)

    async def read(token: Token) -> None:
        async for chunk in model.astream(QUESTION):
            if chunk.text:
                token(str(chunk.text))

    return read


def _model(wire: str, url: str) -> Any:
    package: Any = import_module(f"langchain_{_PACKAGES.get(wire, 'openai')}")
    if wire == "anthropic":
        return package.ChatAnthropic(model=MODEL, api_key=KEY, base_url=root(wire, url))
    if wire == "mistral":
        return package.ChatMistralAI(model=MODEL, api_key=KEY, endpoint=versioned(wire, url))
    return package.ChatOpenAI(
        model=MODEL, api_key=KEY, base_url=versioned(wire, url), use_responses_api=wire == "openai-responses"
    )
