"""Read an answer with httptools and msgspec and nothing else: about the least that Python can spend on a token.

It knows one vendor's events at a time, keeps nothing but text, and has no errors, no timeouts and no closing: it is a
limit to compare with, not a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httptools
import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chat(msgspec.Struct):
    choices: list[_Choice]


class _Responses(msgspec.Struct):
    type: str
    delta: Any = None


class _Text(msgspec.Struct):
    text: str = ""


class _Messages(msgspec.Struct):
    type: str
    delta: _Text = msgspec.UNSET  # type: ignore[assignment]


def _chat() -> Callable[[bytes], str | None]:
    decode = msgspec.json.Decoder(_Chat).decode

    def text(data: bytes) -> str | None:
        choices = decode(data).choices
        return choices[0].delta.content if choices else None

    return text


def _responses() -> Callable[[bytes], str | None]:
    decode = msgspec.json.Decoder(_Responses).decode

    def text(data: bytes) -> str | None:
        event = decode(data)
        return event.delta if event.type == "response.output_text.delta" else None

    return text


def _messages() -> Callable[[bytes], str | None]:
    decode = msgspec.json.Decoder(_Messages).decode

    def text(data: bytes) -> str | None:
        event = decode(data)
        return event.delta.text if event.type == "content_block_delta" else None

    return text


_TEXTS = {"openai": _chat, "mistral": _chat, "openai-responses": _responses, "anthropic": _messages}


class _Connection(asyncio.Protocol):
    """One connection that is kept open; `httptools` calls `on_body` and `on_message_complete`."""

    def __init__(self, text: Callable[[bytes], str | None]) -> None:
        self._text = text
        self._rest = b""
        self._tokens: list[str] = []
        self._done = False
        self._waiting: asyncio.Future[None] | None = None
        self._transport: Any = None
        self._parser: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def on_body(self, data: bytes) -> None:
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            start = event.find(b"data: ")
            if start < 0 or event.endswith(b"[DONE]"):
                continue
            token = self._text(event[start + 6 :])
            if token:
                self._tokens.append(token)

    def on_message_complete(self) -> None:
        self._done = True

    async def ask(self, request: bytes) -> AsyncGenerator[str]:
        """Send a request and yield the tokens of its answer."""
        self._parser, self._done, self._rest = httptools.HttpResponseParser(self), False, b""
        self._transport.write(request)
        while True:
            if not self._tokens:
                if self._done:
                    return
                self._waiting = asyncio.get_running_loop().create_future()
                await self._waiting
            tokens, self._tokens = self._tokens, []
            for token in tokens:
                yield token


async def open_by_hand(wire: str, port: int, request: bytes, tls: Any = None) -> Callable[[], AsyncGenerator[str]]:
    """Connect, and return a function that sends the request and yields the tokens of the answer."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: _Connection(_TEXTS[wire]()), "127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1" if tls else None
    )
    return lambda: connection.ask(request)
