"""Read through LangChain's chat models: `astream` of ChatOpenAI, ChatAnthropic and ChatMistralAI."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

langchain_openai: Any = import_module("langchain_openai")
langchain_anthropic: Any = import_module("langchain_anthropic")
langchain_mistralai: Any = import_module("langchain_mistralai")


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return what reads the wire once."""
    model = _model(wire, url)

    async def read(token: Token) -> None:
        async for chunk in model.astream(QUESTION):
            if chunk.text:
                token(str(chunk.text))

    return read


def _model(wire: str, url: str) -> Any:
    if wire == "anthropic":
        return langchain_anthropic.ChatAnthropic(model=MODEL, api_key=KEY, base_url=root(wire, url))
    if wire == "mistral":
        return langchain_mistralai.ChatMistralAI(model=MODEL, api_key=KEY, endpoint=versioned(wire, url))
    return langchain_openai.ChatOpenAI(
        model=MODEL, api_key=KEY, base_url=versioned(wire, url), use_responses_api=wire == "openai-responses"
    )
