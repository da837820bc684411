"""Read through litellm: `acompletion(stream=True)`, and `aresponses` for the Responses API."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.peers.wires import KEY, MODEL, QUESTION, Read, Token, root, versioned

litellm: Any = import_module("litellm")
_SAID = [{"role": "user", "content": QUESTION}]


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire."""
    base = root(wire, url) if wire == "anthropic" else versioned(wire, url)
    vendor = wire.partition("-")[0]
    # Of a model that it does not know it would ask a whole answer, and stream that.
    model = "gpt-4.1-mini" if wire == "openai-responses" else MODEL
    settings = {"model": f"{vendor}/{model}", "api_key": KEY, "api_base": base, "stream": True}

    async def read(token: Token) -> None:
        async for chunk in await litellm.acompletion(messages=_SAID, **settings):
            if chunk.choices and chunk.choices[0].delta.content:
                token(chunk.choices[0].delta.content)

    async def read_responses(token: Token) -> None:
        async for event in await litellm.aresponses(input=QUESTION, **settings):
            if event.type == "response.output_text.delta":
                token(event.delta)

    return read_responses if wire == "openai-responses" else read
