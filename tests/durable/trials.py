"""Kill workers of durable runs with kill -9, and check what their readers got.

    python -m tests.durable.trials postgres [RUNS [SECONDS]]     two workers, PostgreSQL and Redis
    python -m tests.durable.trials sqlite [RUNS [SECONDS]]       one worker that is restarted, SQLite and Redis

A run is a graph of five nodes with an agent and a question. SECONDS after the newest worker is ready (a quarter longer
after each kill, so that runs end), a worker is killed while one of its nodes streams. With PostgreSQL another one is
ready before; with SQLite the next one is started after that. Checked from outside: all runs end as done, no node whose
completion a reader got runs again, and a node's text after its last restart is its output. Printed: the time from a
kill to the next event of a run that it interrupted.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from streamcore import Chunk, ToolCall
from streamcore.durable import DurableRuns
from streamcore.request import Request
from streamcore.testing import ScriptedProvider
from tests.graphs import write_graph
from tests.servers import PostgresServer, RedisServer
from tests.support import DEADLINE

LEASE = 2.0
AT_ONCE = 12
"""How many runs run at the same time."""
WORDS = 40
GRAPH = """
    name: five
    tools:
      look: {type: python, module: tests.durable.trials, function: look, idempotent: true}
    nodes:
      one: {prompt: say, skip_if_exists: false, state_key: one}
      helper: {type: agent, prompt: say, tools: [look], state_key: helper}
      ask: {type: interrupt, message: "Go on?", resume_key: answer}
      four: {type: passthrough, output: {four: "{state.answer}"}}
      five: {prompt: say, skip_if_exists: false, state_key: five}
    edges:
      - {from: START, to: one}
      - {from: one, to: helper}
      - {from: helper, to: ask}
      - {from: ask, to: four}
      - {from: four, to: five}
      - {from: five, to: END}
"""
NODES = ["one", "helper", "ask", "four", "five"]


async def look(key: str) -> str:
    """Look something up."""
    return f"found {key}"


def answer(request: Request) -> Iterator[Any]:
    """Yield an answer of some words; an agent's first answer calls its tool."""
    yield Chunk("start")
    if request.tools and request.messages[-1].role != "tool":
        call = ToolCall(f"call{random.randrange(10**9)}", "look", json.dumps({"key": "x"}), 0)
        yield Chunk("tool_call", tool_call=call)
        yield Chunk("finish", finish_reason="tool_calls")
        return
    for number in range(WORDS):
        yield 0.02
        yield f"{random.randrange(1000)} {number} "
    yield Chunk("finish", finish_reason="stop")


def opened(database: str, redis: str, graph: str, *, work: bool) -> DurableRuns:
    config = {"provider": ScriptedProvider(answer), "model": "m"}
    return DurableRuns(database=database, graphs=[graph], relay=redis, config=config, work=work, lease=LEASE)


async def work(database: str, redis: str, graph: str) -> None:
    """Work until killed."""
    async with opened(database, redis, graph, work=True) as runs:
        print(runs.worker, flush=True)
        await anyio.sleep_forever()


class Workers:
    """Start and kill worker processes.

    Args:
        spare: whether another worker is ready before one is killed; else it is started after that.
        arguments: the database, the relay and the graph.
    """

    def __init__(self, *arguments: str, spare: bool) -> None:
        self._command = [sys.executable, "-W", "error", "-m", "tests.durable.trials", "work", *arguments]
        self._spare = spare
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.killed: list[float] = []

    def prepare(self) -> None:
        """Start workers until there is one, or with a spare one two; return when they are ready."""
        self._start(1 + self._spare)

    def one(self) -> None:
        """Start a worker if there is none, and return when it is ready."""
        self._start(1)

    def _start(self, count: int) -> None:
        while len(self._running) < count:
            folder = Path(__file__).parents[2]
            process = subprocess.Popen(self._command, stdout=subprocess.PIPE, cwd=folder)
            assert process.stdout is not None
            name = process.stdout.readline().decode().strip()
            assert name, "the worker ended"
            self._running[name] = process

    def kill(self, name: str | None) -> None:
        """Kill a worker; if it is dead already, the oldest one."""
        worker = self._running.pop(name if name in self._running else next(iter(self._running)))
        worker.kill()
        self.killed.append(time.monotonic())
        _end(worker)

    def end(self) -> None:
        """Kill all workers."""
        for worker in self._running.values():
            worker.kill()
            _end(worker)


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.wait()
    if worker.stdout is not None:
        worker.stdout.close()


class Trial:
    """One run, as its reader gets it."""

    def __init__(
        self, runs: DurableRuns, name: str, at_once: anyio.CapacityLimiter, streams: Callable[[str], None]
    ) -> None:
        self._runs = runs
        self._at_once = at_once
        self._name = name
        self._streams = streams
        self.completed: Counter[str] = Counter()
        self.restarts: list[float] = []

    async def follow(self) -> None:
        """Start the run, read it to its end, and answer its question."""
        async with self._at_once:
            await self._follow()

    async def _follow(self) -> None:
        await self._runs.start("five", {}, run_id=self._name)
        await self._read(self._name)
        with anyio.fail_after(2 * DEADLINE):
            while (await self._runs.status(self._name)).state in ("queued", "running"):  # noqa: ASYNC110
                await anyio.sleep(0.1)
        status = await self._runs.status(self._name)
        assert status.state == "waiting", status
        await self._read(await self._runs.resume(self._name, "yes"))
        with anyio.fail_after(2 * DEADLINE):
            while (await self._runs.status(self._name)).state in ("queued", "running"):  # noqa: ASYNC110
                await anyio.sleep(0.1)
        status = await self._runs.status(self._name)
        assert status.state == "done", status
        assert self.completed == Counter(NODES), self.completed

    async def _read(self, segment: str) -> None:
        texts: dict[str, str] = {}
        async for event in await self._runs.read(segment):
            assert isinstance(event, Mapping), event
            node = event.get("node", "")
            if event["type"] in ("restart", "step"):
                texts[node] = ""
            if event["type"] == "restart":
                assert not self.completed[node], f"{self._name}: {node} began again after its completion"
                self.restarts.append(time.monotonic())
            elif event["type"] == "token":
                texts[node] = texts.get(node, "") + event["content"]
                self._streams(self._name)
            elif event["type"] == "node_complete":
                self.completed[node] += 1
                if node in texts:
                    assert texts[node] == event["output"][node], (self._name, node, texts[node], event["output"])


@dataclass(slots=True)
class Killer:
    """Kill workers while their nodes stream.

    Attributes:
        runs: the runs.
        workers: the workers.
        seconds: how long it waits after the newest worker is ready; a quarter longer after each kill, so that runs end.
        most: how many it kills; None: no limit.
    """

    runs: DurableRuns
    workers: Workers
    seconds: float
    most: int | None = None
    _run: str = ""
    _streams: anyio.Event = field(default_factory=anyio.Event)

    def note(self, run: str) -> None:
        """Note that a node of a run streams."""
        self._run = run
        self._streams.set()

    async def run(self) -> None:
        """Kill until cancelled."""
        killed = self.workers.killed
        while self.most is None or len(killed) < self.most:
            await anyio.to_thread.run_sync(self.workers.prepare)
            await anyio.sleep(self.seconds * (1 + len(killed) / 4))
            self._streams = anyio.Event()
            await self._streams.wait()
            self.workers.kill((await self.runs.status(self._run)).worker)
        await anyio.to_thread.run_sync(self.workers.one)


async def trials(
    kind: str, count: int, seconds: float, folder: Path, database: str, redis: str, most: int | None = None
) -> int:
    """Run them, kill workers meanwhile, print the results, and return how many workers were killed."""
    graph = str(write_graph(folder, GRAPH, say="Hello"))
    async with opened(database, redis, graph, work=False) as runs:
        at_once = anyio.CapacityLimiter(AT_ONCE)
        workers = Workers(database, redis, graph, spare=kind == "postgres")
        killer = Killer(runs, workers, seconds, most)
        try:
            await anyio.to_thread.run_sync(workers.prepare)
            began = time.monotonic()
            found = [Trial(runs, f"run-{number}", at_once, killer.note) for number in range(count)]
            async with anyio.create_task_group() as killing:
                killing.start_soon(killer.run)
                async with anyio.create_task_group() as group:
                    for trial in found:
                        group.start_soon(trial.follow)
                killing.cancel_scope.cancel()
        finally:
            workers.end()
    waited = [at - max(kill for kill in workers.killed if kill < at) for trial in found for at in trial.restarts]
    times = f"median {statistics.median(waited):.1f} s, longest {max(waited):.1f} s" if waited else "none"
    print(
        f"{count} runs on {kind} in {time.monotonic() - began:.0f} s: {len(workers.killed)} workers killed, "
        f"{len(waited)} nodes begun again; from kill to going on: {times}"
    )
    return len(workers.killed)


def main() -> None:
    """Run the trials, or one of their workers."""
    if sys.argv[1] == "work":
        asyncio.run(work(*sys.argv[2:5]))
        return
    kind, runs, seconds = (*sys.argv[1:], *("postgres", "30", "4")[len(sys.argv) - 1 :])[:3]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer(folder)).url
        database = f"sqlite:///{folder}/runs.db"
        if kind == "postgres":
            database = stack.enter_context(PostgresServer()).url
        asyncio.run(trials(kind, int(runs), float(seconds), folder, database, redis))


if __name__ == "__main__":
    os.environ["PYTHONUNBUFFERED"] = "1"
    main()
