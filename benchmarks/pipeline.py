"""Measure the CPU time that the pipeline's stages add to a chunk: clocks and contract, and smoothing.

The source is a list in memory, so that nothing but the stages is measured. CPU of this process, microseconds per
chunk, medians of rounds that take turns.

    python benchmarks/pipeline.py [--chunks 20000] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Self

from streamcore import Chunk, Message, Request, stream_request

REQUEST = Request([Message("user", "Count.")])
CONTRACT_TARGET, SMOOTH_TARGET, BATCH_TARGET = 0.4, 6.0, 1.0


class Source:
    """Yield reads of a fixed size; with `turns`, run the event loop once between them."""

    name = "source"

    def __init__(self, chunks: int, size: int, *, turns: bool) -> None:
        self._reads = [[Chunk("text", "token ")] * size for _ in range(chunks // size)]
        self._turns = turns

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Yield the reads."""
        for read in self._reads:
            if self._turns:
                await asyncio.sleep(0)
            yield read
        yield [Chunk("finish", finish_reason="stop")]

    async def aclose(self) -> None:
        """Do nothing."""


async def bare(source: Source) -> None:
    """Iterate over the provider itself."""
    async for chunks in source.stream(REQUEST):
        for _ in chunks:
            pass


class Plain:
    """Iterate over the chunks of a source without any stage, and close it."""

    def __init__(self, source: AsyncGenerator[list[Chunk]]) -> None:
        self._source = source
        self._pending: list[Chunk] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._pending:
            return self._pending.pop()
        while True:
            chunks = await anext(self._source)
            if len(chunks) == 1:
                return chunks[0]
            if chunks:
                self._pending = chunks[::-1]
                return self._pending.pop()


async def plain(source: Source) -> None:
    """Iterate over a stream without any stage."""
    async with aclosing(source.stream(REQUEST)) as reads:
        async for _ in Plain(reads):
            pass


async def contract(source: Source) -> None:
    """Iterate over a stream with its default stages: clocks, contract and retries."""
    async for _ in stream_request(REQUEST, provider=source):
        pass


async def smooth(source: Source) -> None:
    """Iterate over a smoothed stream."""
    stream = stream_request(REQUEST, provider=source, stream_options={"buffer_size": 10, "emit_interval": 20})
    async with stream:
        async for _ in stream:
            pass


def measure(chunks: int, rounds: int) -> bool:
    """Print the table; return whether every target is met."""
    single, turning, batches = (
        Source(chunks, 1, turns=False),
        Source(chunks, 1, turns=True),
        Source(chunks, 20, turns=True),
    )
    runs: dict[str, Callable[[], Awaitable[None]]] = {
        "the source alone, one chunk a read": lambda: bare(single),
        "a stream without stages": lambda: plain(single),
        "clocks and contract": lambda: contract(single),
        "the source, a turn of the loop a read": lambda: bare(turning),
        "smoothed, one chunk a read": lambda: smooth(turning),
        "the source, 20 chunks a read": lambda: bare(batches),
        "smoothed, 20 chunks a read": lambda: smooth(batches),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()
            start = time.process_time()
            asyncio.run(_await(run))
            if number:
                taken[name].append((time.process_time() - start) / chunks * 1e6)
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    for name, figures in taken.items():
        print(f"{name:38} {medians[name]:6.2f} us a chunk ({min(figures):.2f}-{max(figures):.2f})")
    names = list(runs)
    good = True
    for bare_name, name, target in (
        (names[1], names[2], CONTRACT_TARGET),
        (names[3], names[4], SMOOTH_TARGET),
        (names[5], names[6], BATCH_TARGET),
    ):
        added = medians[name] - medians[bare_name]
        good = good and added <= target
        missed = "" if added <= target else "  MISSED"
        print(f"{name} adds {added:.2f} us to {bare_name!r}, at most {target}{missed}")
    return good


async def _await(run: Callable[[], Awaitable[None]]) -> None:
    await run()


def main() -> None:
    """Measure; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--chunks", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer chunks and rounds")
    options = parser.parse_args()
    if options.quick:
        options.chunks, options.rounds = 5000, 3
    sys.exit(0 if measure(options.chunks, options.rounds) else 1)


if __name__ == "__main__":
    main()
