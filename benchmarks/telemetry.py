"""Measure what OpenTelemetry costs: the CPU time per token and per request, with its SDK and exporters in memory.

CPU of this process in microseconds, medians of rounds that take turns. Spans end in a processor that drops them,
since what an exporter costs is the application's choice.

    python benchmarks/telemetry.py [--chunks 5000] [--requests 400] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, nullcontext

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from streamcore import Chunk, Message, Request, Usage, stream_request
from streamcore.observe import observe
from streamcore.pricing import load_prices
from streamcore.telemetry import OpenTelemetryObserver

REQUEST = Request([Message("user", "Count.")], model="m")
TOKEN_TARGET, REQUEST_TARGET = 1.0, 150.0


class Source:
    """Yield one chunk a read."""

    name = "source"

    def __init__(self, chunks: int) -> None:
        self._reads = [[Chunk("text", "token ")] for _ in range(chunks)]

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Yield the reads."""
        yield [Chunk("start", id="r", model="m-1")]
        for read in self._reads:
            yield read
        yield [Chunk("finish", finish_reason="stop", raw_finish_reason="stop")]
        yield [Chunk("usage", usage=Usage(input_tokens=10, output_tokens=10))]

    async def aclose(self) -> None:
        """Do nothing."""


async def _answers(source: Source, count: int) -> None:
    for _ in range(count):
        async with stream_request(REQUEST, provider=source) as stream:
            async for _chunk in stream:
                pass


def _seconds(source: Source, count: int, observed: AbstractContextManager[None]) -> float:
    gc.collect()
    with observed:
        start = time.process_time()
        asyncio.run(_answers(source, count))
        return time.process_time() - start


def measure(chunks: int, requests: int, rounds: int) -> bool:
    """Print the costs; return True if they are within the targets."""
    tracers = TracerProvider()
    tracers.add_span_processor(SpanProcessor())
    meters = MeterProvider([InMemoryMetricReader()])
    observer = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters)
    asyncio.run(load_prices())  # once in a process, and not a cost of requests
    short, long = Source(1), Source(chunks)
    per_request: list[float] = []
    per_token: list[float] = []
    for _ in range(rounds):
        few = _seconds(short, requests, observe(observer)) - _seconds(short, requests, nullcontext())
        many = _seconds(long, 20, observe(observer)) - _seconds(long, 20, nullcontext())
        per_request.append(few / requests * 1e6)
        per_token.append((many - 20 * few / requests) / (20 * chunks) * 1e6)
    request, token = statistics.median(per_request), statistics.median(per_token)
    print(f"{'per request':14}{request:10.1f} us, at most {REQUEST_TARGET:g}")
    print(f"{'per token':14}{token:10.3f} us, at most {TOKEN_TARGET:g}")
    return request <= REQUEST_TARGET and token <= TOKEN_TARGET


def main() -> None:
    """Run the benchmark; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=5000)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer chunks and rounds")
    options = parser.parse_args()
    if options.quick:
        options.chunks, options.requests, options.rounds = 1000, 200, 3
    sys.exit(0 if measure(options.chunks, options.requests, options.rounds) else 1)


if __name__ == "__main__":
    main()
