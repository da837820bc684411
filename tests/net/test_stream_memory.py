"""Limit what an open stream keeps in memory, its connection included, by the allocations that Python counts."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from streamcore import Provider, Request, Stream, aclose_providers, get_provider, stream_request
from tests.support import KEY, ask

WARM, STREAMS = 20, 100
KIB = {"aiohttp": 25.0, "httpx2": 25.0}
"""The limits. On Python 3.11 a stream takes 20 KiB."""
LARGE = 1_000_000
"""The characters of a large message."""


def event(delta: dict[str, str]) -> bytes:
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    data = json.dumps({**fields, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    line = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(line), line)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nx-request-id: req_1\r\n"
MORE = b"".join(b"x-header-%d: a value of the vendor's\r\n" % number for number in range(10))
ANSWER = HEAD + MORE + b"\r\n" + event({"role": "assistant", "content": ""}) + event({"content": "Hello"})


@pytest.fixture
def address() -> Iterator[str]:
    """Start a server whose answers stay open, and return its address. It keeps only the sockets."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=WARM + STREAMS)
    open_sockets: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection = listening.accept()[0]
            except OSError:
                return
            open_sockets.append(connection)
            received = b""
            while not whole(received):
                received += connection.recv(65536)
            received = b""
            connection.sendall(ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in (listening, *open_sockets):
            one.close()


def whole(request: bytes) -> bool:
    head, mark, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(mark) and length is not None and len(body) >= int(length[1])


async def begun(request: Request, provider: Provider) -> Stream:
    """Return the stream of a request whose first text has arrived."""
    stream = stream_request(request, provider=provider)
    while (await anext(stream)).kind != "text":
        pass
    return stream


@pytest.mark.long
@pytest.mark.parametrize("transport", KIB)
def test_an_open_stream_keeps_little_memory(transport: str, address: str) -> None:
    async def kib_a_stream() -> float:
        provider = get_provider("openai", model="m", api_key=KEY, base_url=address, transport=transport)
        streams = [await begun(ask(), provider) for _ in range(WARM)]
        gc.collect()
        tracemalloc.start()
        try:
            streams += [await begun(ask(), provider) for _ in range(STREAMS)]
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        for stream in streams:
            await stream.aclose()
        await aclose_providers()
        return size / STREAMS / 1024

    assert asyncio.run(kib_a_stream()) < KIB[transport]


@pytest.mark.parametrize("transport", KIB)
def test_an_open_stream_does_not_keep_the_bytes_of_its_request(transport: str, address: str) -> None:
    async def kept() -> int:
        provider = get_provider("openai", model="m", api_key=KEY, base_url=address, transport=transport)
        large = ask("x" * LARGE)
        first = await begun(large, provider)
        tracemalloc.start()
        try:
            second = await begun(large, provider)
            gc.collect()
            size = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        for stream in (first, second):
            await stream.aclose()
        await aclose_providers()
        return size

    assert asyncio.run(kept()) < LARGE / 2
