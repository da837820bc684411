"""Read through any-llm: one `AnyLLM` instance, as its documentation advises for services, and its async calls."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

any_llm: Any = import_module("any_llm")
_SAID = [{"role": "user", "content": QUESTION}]


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire."""
    vendor = wire.partition("-")[0]
    base = root(wire, url) if vendor in ("anthropic", "mistral") else versioned(wire, url)
    made = any_llm.AnyLLM.create(vendor, api_key=KEY, api_base=base)

    async def read(token: Token) -> None:
        async for chunk in await made.acompletion(model=MODEL, messages=_SAID, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                token(chunk.choices[0].delta.content)

    async def read_responses(token: Token) -> None:
        async for event in await made.aresponses(model=MODEL, input_data=QUESTION, stream=True):
            if event.type == "response.output_text.delta":
                token(event.delta)

    return read_responses if wire == "openai-responses" else read
