"""Measure the CPU time of sending an event: from chunk to bytes, and with uvicorn next to plain ASGI streaming.

The server runs in a process of its own with one worker and reads its own CPU time; its chunks come from a provider
without a network, through the pipeline. Plain streaming sends the same bytes from a generator. Figures are the medians
of several rounds that take turns. Then 300 clients read at the same time, and each must get every character.

    python benchmarks/sse.py [--events 3000] [--rounds 5] [--clients 300] [--quick]      exits 1 if a target is missed
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any, get_args

import httpx2
import uvicorn
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from streamcore import Chunk, Message, Request, stream_request
from streamcore.sse import Encoder, Format, encode, sse_response

ENCODE_TARGET_US = 8.0
RATIO_TARGET = 2.0
TOKENS = (" token", "\n", " 日本", " <b>", ",", " and", " so", "\n  on")
FORMATS: tuple[Format, ...] = get_args(Format)


def tokens(events: int) -> list[str]:
    """Return the tokens of an answer."""
    return [TOKENS[n % len(TOKENS)] for n in range(events)]


class Source:
    """Yield one chunk for each read; run the event loop once between reads."""

    name = "bench"

    def __init__(self, events: int, pause: float) -> None:
        self._tokens = tokens(events)
        self._pause = pause

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Answer."""
        for token in self._tokens:
            await asyncio.sleep(self._pause)
            yield [Chunk("text", token)]
        yield [Chunk("finish", finish_reason="stop")]

    async def aclose(self) -> None:
        """Do nothing."""


def frames(fmt: Format, events: int) -> list[bytes]:
    """Return the messages of an answer."""
    encoder: Encoder = encode(fmt, ids=True)
    return [encoder.start(), *(encoder.feed([Chunk("text", token)]) for token in tokens(events)), encoder.end()]


def make_app() -> FastAPI:
    """Build the service to measure."""
    app = FastAPI()
    request = Request([Message("user", "Count.")])

    async def sse(format: Format, events: int, pause: float) -> Any:  # noqa: A002  the query's name
        return sse_response(stream_request(request, provider=Source(events, pause)), format)

    async def plain(format: Format, events: int, pause: float) -> Any:  # noqa: A002
        async def body() -> AsyncGenerator[bytes]:
            for frame in frames(format, events):
                await asyncio.sleep(pause)
                yield frame

        return StreamingResponse(body(), media_type="text/event-stream")

    app.get("/sse")(sse)
    app.get("/plain")(plain)
    app.get("/cpu")(lambda: time.process_time())
    return app


def encode_us(fmt: Format, events: int) -> float:
    """Return the microseconds that an event takes from chunk to bytes."""
    encoder = encode(fmt, ids=True)
    batches = [[Chunk("text", token)] for token in tokens(events)]
    start = time.process_time()
    for batch in batches:
        encoder.feed(batch)
    return (time.process_time() - start) / events * 1e6


async def read(client: httpx2.AsyncClient, path: str, **query: Any) -> bytes:
    """Read a whole body."""
    parts: list[bytes] = []
    async with client.stream("GET", path, params=query) as response:
        async for part in response.aiter_bytes():
            parts.append(part)
    return b"".join(parts)


async def server_us(client: httpx2.AsyncClient, path: str, fmt: Format, events: int) -> float:
    """Return the microseconds of the server's CPU that an event takes."""
    before = float((await client.get("/cpu")).text)
    await read(client, path, format=fmt, events=events, pause=0)
    return (float((await client.get("/cpu")).text) - before) / events * 1e6


def is_whole(body: bytes, events: int) -> bool:
    """Return True if a body in format json has every character, in order, and its end."""
    messages = [json.loads(line[6:]) for line in body.decode().split("\n") if line.startswith("data: ")]
    text = "".join(message["text"] for message in messages if message.get("kind") == "text")
    return text == "".join(tokens(events)) and messages[-1].get("complete") is True


async def crowd(url: str, clients: int, events: int) -> tuple[int, float]:
    """Read with many clients at once; return how many received everything, and the seconds it took."""
    limits = httpx2.Limits(max_connections=clients)
    start = time.monotonic()
    async with httpx2.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
        reads = [read(client, "/sse", format="json", events=events, pause=0.02) for _ in range(clients)]
        bodies = await asyncio.gather(*reads)
    return sum(is_whole(body, events) for body in bodies), time.monotonic() - start


async def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    async with httpx2.AsyncClient(base_url=url) as client:
        while server.poll() is None:
            try:
                await client.get("/cpu")
            except httpx2.ConnectError:
                await asyncio.sleep(0.05)
            else:
                return
    raise SystemExit("the server did not start")


async def measure(url: str, server: subprocess.Popen[bytes], events: int, rounds: int, clients: int) -> bool:
    """Print the figures; return whether all targets are met."""
    met = True
    await wait_for(url, server)
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        print("microseconds of CPU an event   encode   sse_response   plain ASGI   ratio")
        for fmt in FORMATS:
            figures = [
                (
                    encode_us(fmt, events),
                    await server_us(client, "/sse", fmt, events),
                    await server_us(client, "/plain", fmt, events),
                )
                for _ in range(rounds)
            ]
            coded, sse, plain = (statistics.median(column) for column in zip(*figures, strict=True))
            ratio = statistics.median(row[1] / row[2] for row in figures)
            met = met and coded <= ENCODE_TARGET_US and ratio <= RATIO_TARGET
            print(f"{fmt:28} {coded:8.1f} {sse:14.1f} {plain:12.1f} {ratio:7.2f}")
    whole, seconds = await crowd(url, clients, 200)
    print(f"{whole} of {clients} simultaneous clients received all of 200 events, 20 ms apart, in {seconds:.1f} s")
    met = met and whole == clients
    print(
        "targets",
        f"(encode {ENCODE_TARGET_US:g} us, ratio {RATIO_TARGET:g}, nothing lost):",
        "met" if met else "MISSED",
    )
    return met


def main() -> int:
    """Start the server, measure, and stop it."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--events", type=int, default=3000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--clients", type=int, default=300)
    arguments.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("--quick", action="store_true", help="fewer events, rounds and clients")
    given = arguments.parse_args()
    if given.quick:
        given.events, given.rounds, given.clients = 1000, 3, 50
    if given.serve:
        uvicorn.run(make_app(), host="127.0.0.1", port=given.serve, log_level="error")
        return 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        met = asyncio.run(measure(f"http://127.0.0.1:{port}", server, given.events, given.rounds, given.clients))
    finally:
        server.kill()
        server.wait()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
