"""Read the bytes of a response and do nothing with them, through httpx2 or aiohttp: the floor of every layer."""

from __future__ import annotations

from contextlib import aclosing
from importlib import import_module
from typing import Any

from benchmarks.peers.wires import PATHS, Read, Token, body


def open_reader(variant: str, wire: str, url: str) -> Read:
    """Return the function that reads an answer of the wire; `variant` is the HTTP client."""
    return (_aiohttp if variant == "aiohttp" else _httpx2)(url + PATHS[wire], body(wire))


def _httpx2(url: str, asked: dict[str, Any]) -> Read:
    httpx2: Any = import_module("httpx2")
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    client = httpx2.AsyncClient(timeout=60, limits=limits)

    async def read(token: Token) -> None:
        async with client.stream("POST", url, json=asked) as response, aclosing(response.aiter_bytes()) as reads:
            async for data in reads:
                token(data)

    return read


def _aiohttp(url: str, asked: dict[str, Any]) -> Read:
    aiohttp: Any = import_module("aiohttp")
    session: Any = None

    async def read(token: Token) -> None:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with session.post(url, json=asked) as response:
            async for data in response.content.iter_any():
                token(data)

    return read
