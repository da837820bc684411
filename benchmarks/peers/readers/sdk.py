"""Read through the vendors' SDKs: their typed streams, and their raw responses whose bytes are not decoded."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from benchmarks.peers.wires import KEY, MAX_TOKENS, MODEL, QUESTION, TEMPERATURE, Read, Token, root, versioned

if TYPE_CHECKING:
    import anthropic
    import openai
    from mistralai.client import Mistral

_SAID: Any = [{"role": "user", "content": QUESTION}]


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire; `variant` is `typed` or `raw`."""
    if wire == "anthropic":
        import anthropic

        claude = anthropic.AsyncAnthropic(api_key=KEY, base_url=root(wire, url))
        return _anthropic_raw(claude) if variant == "raw" else _anthropic(claude)
    if wire == "mistral":
        from mistralai.client import Mistral

        mistral = Mistral(api_key=KEY, server_url=root(wire, url))
        return _mistral_raw(mistral) if variant == "raw" else _mistral(mistral)
    import openai

    client = openai.AsyncOpenAI(api_key=KEY, base_url=versioned(wire, url))
    if variant == "raw":
        return _openai_raw(client, wire)
    return _responses(client) if wire == "openai-responses" else _chat(client)


def _chat(client: openai.AsyncOpenAI) -> Read:
    async def read(token: Token) -> None:
        async for event in await client.chat.completions.create(model=MODEL, messages=_SAID, stream=True):
            if event.choices and event.choices[0].delta.content:
                token(event.choices[0].delta.content)

    return read


def _responses(client: openai.AsyncOpenAI) -> Read:
    async def read(token: Token) -> None:
        async for event in await client.responses.create(model=MODEL, input=_SAID, stream=True):
            if event.type == "response.output_text.delta":
                token(event.delta)

    return read


def _anthropic(client: anthropic.AsyncAnthropic) -> Read:
    async def read(token: Token) -> None:
        async with client.messages.stream(model=MODEL, max_tokens=MAX_TOKENS, messages=_SAID) as stream:
            async for text in stream.text_stream:
                token(text)

    return read


def _mistral(client: Mistral) -> Read:
    async def read(token: Token) -> None:
        async with await client.chat.stream_async(model=MODEL, messages=_SAID) as stream:
            async for event in stream:
                if event.data.choices and event.data.choices[0].delta.content:
                    token(event.data.choices[0].delta.content)

    return read


async def _pass_on(response: Any, token: Token) -> None:
    async with aclosing(response.aiter_bytes()) as reads:
        async for data in reads:
            token(data)


# The raw calls ask for what streamcore asks for, so that both sides pay for the same request.
def _openai_raw(client: openai.AsyncOpenAI, wire: str) -> Read:
    async def read(token: Token) -> None:
        asked: Any
        if wire == "openai-responses":
            asked = client.responses.with_streaming_response.create(
                model=MODEL,
                input=_SAID,
                stream=True,
                temperature=TEMPERATURE,
                store=False,
                include=["reasoning.encrypted_content"],
            )
        else:
            asked = client.chat.completions.with_streaming_response.create(
                model=MODEL,
                messages=_SAID,
                stream=True,
                temperature=TEMPERATURE,
                stream_options={"include_usage": True},
            )
        async with asked as raw:
            await _pass_on(raw.http_response, token)

    return read


def _anthropic_raw(client: anthropic.AsyncAnthropic) -> Read:
    async def read(token: Token) -> None:
        async with client.messages.with_streaming_response.create(
            model=MODEL,
            max_tokens=MAX_TOKENS,
            messages=_SAID,
            stream=True,
            extra_body={"temperature": TEMPERATURE},
        ) as raw:
            await _pass_on(raw.http_response, token)

    return read


def _mistral_raw(client: Mistral) -> Read:
    async def read(token: Token) -> None:
        async with await client.chat.stream_async(model=MODEL, messages=_SAID, temperature=TEMPERATURE) as stream:
            await _pass_on(stream.response, token)

    return read
