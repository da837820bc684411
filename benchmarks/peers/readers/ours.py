"""Read through streamcore: a prompt file's text, or the chunks of a request, on either transport."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.wires import KEY, MODEL, PROMPTS, QUESTION, Read, Token, root, versioned
from streamcore import Message, Request, execute_prompt_streaming, get_provider, stream_request


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer; `variant` is `prompt` or `request`, then a dash and the transport."""
    function, _, transport = variant.partition("-")
    base = root(wire, url) if wire in ("anthropic", "mistral") else versioned(wire, url)
    settings: dict[str, Any] = {"transport": transport}
    found = get_provider(wire, api_key=KEY, base_url=base, model=MODEL, **settings)
    if function == "request":
        request = Request([Message("user", QUESTION)])

        async def read_chunks(token: Token) -> None:
            async with stream_request(request, provider=found) as stream:
                async for chunk in stream:
                    if chunk.kind == "text":
                        token(chunk.text)

        return read_chunks

    async def read_prompt(token: Token) -> None:
        async for text in execute_prompt_streaming("count", provider=found, prompts_dir=PROMPTS):
            token(text)

    return read_prompt
