"""Measure the CPU time that the relay adds to a token: in memory, with Redis, and with many simultaneous runs.

A source hands out tokens; one reader takes them straight from it, another through the relay; the difference of this
process' CPU time is the relay's. In memory each token comes by itself, in its own turn of the loop. Through Redis some
come with each read, and each read is an append of its own; once for a reader on the producer's worker, once for one on
another (here in the same process, so that its cost is in the figure). Figures are medians of rounds that take turns.
Then many runs go on at the same time, one token every 50 ms each, and each reader must
get every character.

    python benchmarks/relay.py [--quick] [--redis redis://...]      exits 1 if a target is missed

Without --redis a redis-server is started, if there is one; else Redis is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import cast

from streamcore import Chunk, Message, Request, Stream, stream_request
from streamcore.relay import MemoryLog, Relay, RunLog, open_log

MEMORY_TARGET_US = 5.0
REDIS_TARGET_US = 40.0
RUNS = 500
BATCH = 20
PAUSE = 0.004
"""Seconds between two reads, so that an append is over when the next one comes."""
TOKENS = (" token", "\n", " 日本", " <b>", ",", " and", " so", "\n  on")
ASKED = Request([Message("user", "Count.")])


class Source:
    """Yield some chunks for each read; run the event loop once, or pause, between reads."""

    name = "bench"

    def __init__(self, tokens: int, batch: int = 1, pause: float = 0.0) -> None:
        self._chunks = [Chunk("text", TOKENS[n % len(TOKENS)]) for n in range(tokens)]
        self._batch = batch
        self._pause = pause

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Answer."""
        for start in range(0, len(self._chunks), self._batch):
            await asyncio.sleep(self._pause)
            yield self._chunks[start : start + self._batch]
        yield [Chunk("finish", finish_reason="stop")]

    async def aclose(self) -> None:
        """Do nothing."""


def answer(tokens: int, batch: int = 1, pause: float = 0.0) -> Stream:
    """Return an answer of so many tokens."""
    return stream_request(ASKED, provider=Source(tokens, batch, pause))


async def consume(items: AsyncIterator[object]) -> int:
    """Read to the end, and return the number of characters received."""
    return sum([len(item.text) async for item in items if isinstance(item, Chunk)])


def characters(tokens: int) -> int:
    """Return how many characters an answer has."""
    return sum(len(TOKENS[n % len(TOKENS)]) for n in range(tokens))


async def relay_us(log: RunLog, reading: RunLog, tokens: int, batch: int, number: int) -> float:
    """Return the microseconds of CPU that the relay adds to a token."""
    pause = 0.0 if batch == 1 else PAUSE
    start = time.process_time()
    wanted = await consume(answer(tokens, batch, pause))
    straight = time.process_time() - start
    async with Relay(log) as relay, Relay(reading) as other:
        start = time.process_time()
        await relay.start(f"bench-{number}-{id(reading)}", answer(tokens, batch, pause))
        got = await consume(other.read(f"bench-{number}-{id(reading)}"))
        relayed = time.process_time() - start
    if got != wanted:
        raise SystemExit(f"{wanted} characters were sent, and {got} were received")
    return (relayed - straight) / tokens * 1e6


async def crowd(log: RunLog, runs: int, tokens: int, pause: float) -> tuple[int, float, float]:
    """Run many answers; return how many readers received everything, the CPU in use, and the delay in seconds."""
    wanted = characters(tokens)
    async with Relay(log, max_runs=runs) as relay:

        async def one(number: int) -> bool:
            name = f"crowd-{number}-{id(log)}"
            await relay.start(name, answer(tokens, 1, pause))
            return await consume(relay.read(name)) == wanted

        cpu, begun = time.process_time(), time.monotonic()
        whole = sum(await asyncio.gather(*[one(number) for number in range(runs)]))
        seconds = time.monotonic() - begun
        return whole, (time.process_time() - cpu) / seconds, seconds - tokens * pause


async def redis_kb(url: str, tokens: int, batch: int) -> float:
    """Return how many kB of Redis a finished answer uses."""
    from redis.asyncio import Redis

    name = f"size-{batch}"
    async with Relay(open_log(url)) as relay:
        await relay.start(name, answer(tokens, batch, PAUSE))
        await consume(relay.read(name))
    async with Redis.from_url(url) as redis:  # pyright: ignore[reportUnknownMemberType]
        keys = [f"streamcore:relay:{{{name}}}:{kind}" for kind in ("run", "items")]
        size = cast("Callable[..., Awaitable[int]]", redis.memory_usage)  # pyright: ignore[reportUnknownMemberType]
        return sum([await size(key, samples=0) for key in keys]) / 1000


@contextmanager
def redis_url(given: str | None) -> Generator[str | None]:
    """Run a Redis during the block and yield its URL; None if there is no Redis."""
    program = shutil.which("redis-server")
    if given is not None or program is None:
        yield given
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "")
        server = subprocess.Popen([program, *place], stdout=subprocess.DEVNULL)
        try:
            while server.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


async def measure(url: str | None, tokens: int, rounds: int, runs: int) -> bool:
    """Print the figures; return whether all targets are met."""
    rows: list[tuple[str, float, RunLog, RunLog, int]] = []
    memory = MemoryLog()
    rows.append(("memory, token by token", MEMORY_TARGET_US, memory, memory, 1))
    if url is not None:
        redis, other = open_log(url), open_log(url)
        rows.append((f"Redis, {BATCH} a read, same worker", REDIS_TARGET_US, redis, redis, BATCH))
        rows.append((f"Redis, {BATCH} a read, another worker", REDIS_TARGET_US, redis, other, BATCH))
    found: list[list[float]] = [[] for _ in rows]
    for number in range(rounds):
        for (_, _, log, reading, batch), figures in zip(rows, found, strict=True):
            figures.append(await relay_us(log, reading, tokens if batch == 1 else tokens // 2, batch, number))
    met = True
    print("microseconds of CPU a token        median    best   target")
    for (name, target, *_), figures in zip(rows, found, strict=True):
        median = statistics.median(figures)
        met = met and median <= target
        print(f"{name:34} {median:6.1f} {min(figures):7.1f} {target:8g}")
    for name, log in (("memory", memory), *((("Redis", open_log(url)),) if url is not None else ())):
        whole, cpu, late = await crowd(log, runs, 100, 0.05)
        met = met and whole == runs
        print(f"{whole} of {runs} simultaneous runs, 20 tokens/s each, were complete with {name}: ", end="")
        print(f"{cpu:.0%} of a CPU, {late:.1f} s late")
    if url is not None:
        alone, together = [await redis_kb(url, 1000, batch) for batch in (1, BATCH)]
        print(f"an answer of 1,000 tokens uses {alone:.0f} kB of Redis with one token per read, ", end="")
        print(f"{together:.0f} kB with {BATCH} per read")
    print("targets:", "met" if met else "MISSED", "" if url is not None else "(without Redis: no redis-server here)")
    return met


def main() -> int:
    """Measure."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="fewer tokens, rounds and runs")
    arguments.add_argument("--redis", help="the URL of a Redis to use instead of starting one")
    given = arguments.parse_args()
    with redis_url(given.redis) as url:
        met = asyncio.run(measure(url, *((2000, 3, 100) if given.quick else (10_000, 7, RUNS))))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
