"""Measure what a durable run costs a token, and how fast its tokens reach a reader in another process.

1. Delay: a worker in another process executes a run on SQLite and Redis, a token every 20 ms; each token is the time at
   which it was made, and a reader in this process compares it with the time at which it arrives.
2. CPU: the same graph through the same relay in Redis, without an engine and as a durable run, in this process; both
   are read from Redis. A long and a short run tell what a token costs and what a run costs. Figures are medians of
   rounds that take turns.
3. DBOS's own streams, for comparison: a workflow writes a token at a time to SQLite.

    python -m benchmarks.durable [--quick]      exits 1 if a target is missed

It needs the extras durable and redis, and a redis-server.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dbos import DBOS

from benchmarks.relay import redis_url
from streamcore import Chunk, Request
from streamcore.durable import DurableRuns
from streamcore.graph.config import Config
from streamcore.graph.load import load_graph
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.relay import Relay, open_log
from streamcore.testing import ScriptedProvider

DELAY_TARGET_MS = 5.0
CPU_TARGET_US = 3.0
PACE = 0.02
BATCH = 20
GRAPH = """\
name: bench
state: {count: int}
prompts_relative: true
prompts_dir: .
nodes:
  one: {prompt: say, skip_if_exists: false, state_key: one}
edges:
  - {from: START, to: one}
  - {from: one, to: END}
"""


def timed(request: Request) -> Iterator[Any]:
    """Yield as many tokens as the prompt says, which are the times at which they are made."""
    for _ in range(int(request.messages[-1].text)):
        yield PACE
        yield f"{time.time()} "
    yield Chunk("finish", finish_reason="stop")


def fast(request: Request) -> Iterator[Any]:
    """Yield as many tokens as the prompt says, some in each read."""
    for _ in range(int(request.messages[-1].text) // BATCH):
        yield 0.004
        yield [" token"] * BATCH
    yield Chunk("finish", finish_reason="stop")


def opened(folder: Path, redis: str, answer: Callable[[Request], Iterator[Any]], *, work: bool) -> DurableRuns:
    """Return durable runs of the graph."""
    config = {"provider": ScriptedProvider(answer), "model": "m"}
    database = f"sqlite:///{folder / 'runs.db'}"
    return DurableRuns(database=database, graphs=[folder / "graph.yaml"], relay=redis, config=config, work=work)


async def work(folder: Path, redis: str) -> None:
    """Work until this process is killed."""
    async with opened(folder, redis, timed, work=True):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def tokens_of(events: AsyncIterator[Any]) -> AsyncIterator[str]:
    """Yield the tokens among events."""
    async for event in events:
        if isinstance(event, Mapping) and event["type"] == "token":
            yield event["content"]


async def delays(folder: Path, redis: str, tokens: int) -> list[float]:
    """Return the milliseconds from each token to its reader in this process."""
    command = [sys.executable, "-m", "benchmarks.durable", "--work", str(folder), redis]
    worker = await asyncio.to_thread(lambda: subprocess.Popen(command, stdout=subprocess.PIPE))
    try:
        assert worker.stdout is not None
        await asyncio.to_thread(worker.stdout.readline)
        async with opened(folder, redis, timed, work=False) as runs:
            run = await runs.start("bench", {"count": tokens})
            return [
                (time.time() - float(moment)) * 1000
                async for token in tokens_of(await runs.read(run))
                for moment in token.split()
            ]
    finally:
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()


async def cpu_seconds(folder: Path, redis: str, tokens: int, rounds: int) -> tuple[float, float]:
    """Return the seconds of CPU of a run of so many tokens, without an engine and with it."""
    alone: list[float] = []
    durable: list[float] = []
    graph = load_graph(folder / "graph.yaml")
    state = {"count": tokens}
    async with (
        opened(folder, redis, fast, work=True) as runs,
        Relay(open_log(redis)) as relay,
        Relay(open_log(redis)) as reading,  # as a durable run's, whose reader is there before its producer
    ):
        for number in range(rounds + 1):  # the first round warms up
            name = f"alone-{tokens}-{number}"
            config = Config(provider=ScriptedProvider(fast), model="m", thread_id=name)
            start = time.process_time()
            await relay.start(name, stream_graph_with_tokens(graph, state, config))
            counts = [len([token async for token in tokens_of(reading.read(name))])]
            alone.append(time.process_time() - start)
            start = time.process_time()
            run = await runs.start("bench", state)
            counts.append(len([token async for token in tokens_of(await runs.read(run))]))
            durable.append(time.process_time() - start)
            if counts != [tokens, tokens]:
                raise SystemExit(f"{tokens} tokens were sent, and {counts} were received")
    return statistics.median(alone[1:]), statistics.median(durable[1:])


@DBOS.workflow(name="bench_stream")
async def _streams(tokens: int) -> None:
    for _ in range(tokens):
        await asyncio.sleep(PACE)
        await DBOS.write_stream_async("tokens", str(time.time()))
    await DBOS.close_stream_async("tokens")


async def dbos_streams(folder: Path, tokens: int) -> tuple[float, float]:
    """Return the CPU of a token in DBOS's own streams in microseconds, and its median delay in milliseconds."""
    url = f"sqlite:///{folder / 'streams.db'}"
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "enable_otlp": False})
    DBOS.launch()
    try:
        start = time.process_time()
        handle = await DBOS.start_workflow_async(_streams, tokens)
        late = [
            (time.time() - float(moment)) * 1000
            async for moment in DBOS.read_stream_async(handle.get_workflow_id(), "tokens")
        ]
        return (time.process_time() - start) / tokens * 1e6, statistics.median(late)
    finally:
        DBOS.destroy()


def measure(redis: str, tokens: int, rounds: int) -> bool:
    """Print the figures; return whether the targets are met."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folder = Path(one)
        for each in (folder, Path(other)):
            (each / "graph.yaml").write_text(GRAPH, "utf-8")
            (each / "say.yaml").write_text('user: "{count}"\n', "utf-8")
        late = sorted(asyncio.run(delays(Path(other), redis, min(tokens, 500))))
        median, p99 = statistics.median(late), late[int(len(late) * 0.99)]
        print(f"delay of a token to another process: median {median:.1f} ms, p99 {p99:.1f} ms", end="")
        print(f"   (target {DELAY_TARGET_MS:g})")
        long = asyncio.run(cpu_seconds(folder, redis, tokens, rounds))
        short = asyncio.run(cpu_seconds(folder, redis, BATCH, rounds))
        alone, durable = [(more - less) / (tokens - BATCH) * 1e6 for more, less in zip(long, short, strict=True)]
        print(f"CPU a token: relayed {alone:.1f} us, durable {durable:.1f} us, ", end="")
        print(f"the engine {durable - alone:+.1f} us   (target {CPU_TARGET_US:g})")
        print(f"CPU a run: relayed {short[0] * 1000:.1f} ms, durable {short[1] * 1000:.1f} ms")
        cost, own = asyncio.run(dbos_streams(folder, min(tokens, 200)))
        print(f"DBOS's own streams: {cost:.0f} us of CPU a token, median delay {own:.1f} ms")
    met = median <= DELAY_TARGET_MS and durable - alone <= CPU_TARGET_US
    print("targets:", "met" if met else "MISSED")
    return met


def main() -> int:
    """Measure, or work."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="fewer tokens and rounds")
    arguments.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.work:
        asyncio.run(work(Path(given.work[0]), given.work[1]))
        return 0
    with redis_url(None) as url:
        if url is None:
            raise SystemExit("redis-server is not installed (Debian: apt-get install redis-server)")
        met = measure(url, *((4000, 3) if given.quick else (20_000, 5)))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
