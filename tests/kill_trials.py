"""Kill workers with kill -9 at random times, and check that their threads go on at the right node.

    python -m tests.kill_trials sqlite [RUNS [SEED]]
    python -m tests.kill_trials redis [RUNS [SEED]]
    python -m tests.kill_trials postgres [RUNS [SEED]]

A run is one thread of a five-node graph against the simulator, in forked processes that are killed, except the last.
Checked from outside, by the events that the workers printed: no node whose `node_complete` was seen runs again, each
worker begins at the node that the checkpoint names, and every checkpoint that a kill leaves is whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import certifi

import streamcore_openai.chat  # noqa: F401  # pyright: ignore[reportUnusedImport]
from streamcore import stream_graph_with_tokens
from streamcore.checkpoints import open_checkpointer
from tests.graphs import write_graph
from tests.servers import open_store
from tests.support import KEY, wait_until

MOST_KILLS = 4
"""The largest number of workers of a run that are killed; the next one is not."""
NODES = ["one", "two", "three", "four", "five"]
GRAPH = """
    name: five
    tools:
      count: {type: python, module: tests.kill_trials, function: count}
    nodes:
      one: {prompt: say, skip_if_exists: false, state_key: one}
      two: {type: passthrough, output: {two: "{state.one} and more"}}
      three: {prompt: say, skip_if_exists: false, state_key: three}
      four: {type: python, tool: count, state_key: four}
      five: {prompt: say, skip_if_exists: false, state_key: five}
    edges:
      - {from: START, to: one}
      - {from: one, to: two}
      - {from: two, to: three}
      - {from: three, to: four}
      - {from: four, to: five}
      - {from: five, to: END}
"""
Event = Mapping[str, Any]
Instant = tuple[float, int]
"""Seconds after the line with this number: 0 is the fork, 1 the first line that the worker prints."""


def count(state: Mapping[str, Any]) -> int:
    """Return the result of node four."""
    return len(state["three"])


class Trials:
    """Runs of one graph on one store, and their results."""

    def __init__(self, path: Path, store: Mapping[str, Any], seed: int) -> None:
        self._path = path
        self._store = store
        self._random = random.Random(seed)
        self.kills = 0
        self.instants: Callable[[], Instant]
        self.stopped_at: dict[str, int] = {}

    def run(self, runs: int) -> None:
        share_imports(self._path, self._store)
        began = time.monotonic()
        lines = len(self._worker("measured", None))
        whole = time.monotonic() - began
        self.instants = lambda: (
            (self._random.uniform(0, whole), 0)
            if self._random.random() < 0.5
            else (self._random.uniform(0, 0.004), self._random.randrange(lines))
        )
        for number in range(runs):
            self._one(f"thread-{number}")

    def _one(self, thread: str) -> None:
        completed: list[str] = []
        for attempt in range(MOST_KILLS + 1):
            before = self._saved(thread)
            due = before["next"] if before else NODES[:1]
            if not due:
                break  # killed after its last save: there is nothing left to do
            events = self._worker(thread, self.instants() if attempt < MOST_KILLS else None)
            started = [event["node"] for event in events if event["type"] == "node_start"]
            finished = [event["node"] for event in events if event["type"] == "node_complete"]
            assert started[:1] in ([], due), f"{thread}: began at {started[0]}, and the checkpoint said {due}"
            assert not set(finished) & set(completed), f"{thread}: {finished} after {completed}"
            assert not set(started) & set(completed), f"{thread}: {started} began again after {completed}"
            completed += finished
            after = self._saved(thread)
            known = [node for node in NODES if after and node in after["state"]]
            assert known == NODES[: len(known)], f"{thread}: a torn checkpoint: {after}"
            assert set(completed) <= set(known), f"{thread}: {completed} was reported, and {known} is saved"
            if any(event["type"] == "graph_complete" for event in events):
                break
            where = after["next"][0] if after and after["next"] else "START" if not after else "END"
            self.stopped_at[where] = self.stopped_at.get(where, 0) + 1
        state = (self._saved(thread) or {})["state"]
        assert list(state) == NODES, state
        assert state["four"] == len(state["three"]), state
        assert state["two"] == f"{state['one']} and more", state

    def _worker(self, thread: str, kill_at: Instant | None) -> list[Event]:
        """Run the graph in a separate process, kill it at a given time, and return the events that it printed."""

        async def work(say: Callable[[str], None]) -> None:
            config = {"thread_id": thread, "checkpointer": self._store}
            async for event in stream_graph_with_tokens(self._path, {}, config):
                say(json.dumps(event))

        lines = in_a_fork(work, kill_at)
        self.kills += not any('"type": "graph_complete"' in line for line in lines)
        return [json.loads(line) for line in lines]

    def _saved(self, thread: str) -> dict[str, Any] | None:
        async def look(say: Callable[[str], None]) -> None:
            saved = await open_checkpointer(self._store).load(f"five/{thread}")
            say(json.dumps(dict(saved.data) if saved else None))

        (line,) = in_a_fork(look, None)
        found: dict[str, Any] | None = json.loads(line)
        return found


def share_imports(path: Path, store: Mapping[str, Any]) -> None:
    """Run the graph here once, so that the forks have everything imported; leave no thread running."""
    open_checkpointer(store)

    async def run() -> None:
        async for _ in stream_graph_with_tokens(path):
            pass

    asyncio.run(run())
    wait_until(lambda: threading.active_count() == 1, "the threads of the run have ended")


def in_a_fork(work: Callable[[Callable[[str], None]], Any], kill_at: Instant | None) -> list[str]:
    """Fork, run `work(say)` there, and return the complete lines that it printed; kill it at that time."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            asyncio.run(work(lambda line: _write(writing, line)))
            code = 0
        except BaseException:  # noqa: BLE001  the process ends here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)  # what the parent has open is the parent's to close
    os.close(writing)
    seconds, from_line = kill_at or (60.0, 0)
    reported, deadline, killed = b"", time.monotonic() + 60, False
    while True:
        if kill_at is not None and reported.count(b"\n") >= from_line:
            deadline, kill_at = time.monotonic() + seconds, None
        if select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(reading, 65536)
            reported += piece
            if not piece:
                break
        else:
            assert not killed, "a killed worker does not end"
            assert seconds < 60, "a worker that was not killed does not end"
            os.kill(child, signal.SIGKILL)
            deadline, killed = time.monotonic() + 60, True  # the pipe still has what it wrote before
    os.close(reading)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), f"a worker ended with {status}"
    return reported.decode().splitlines()


def _write(to: int, line: str) -> None:
    os.write(to, line.encode() + b"\n")  # one call: a pipe takes a short line whole or not at all


def main() -> None:
    """Run the trials and print the results; a failed assertion ends them."""
    kind = sys.argv[1]
    runs, seed = int((*sys.argv, "50")[2]) if len(sys.argv) > 2 else 50, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        simulator = subprocess.Popen(
            [sys.executable, "-m", "streamcore.testing", "--tokens", "40", "--rate", "1000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(simulator.wait)
        stack.callback(simulator.kill)
        assert simulator.stdout is not None
        root = stack.enter_context(simulator.stdout).readline().strip()
        os.environ |= {"STREAMCORE_PROVIDER": "openai", "OPENAI_BASE_URL": f"{root}/v1"}
        os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_MODEL": "m"}
        certificates = Path(certifi.where()).read_text("utf-8").partition("-----END")
        authority = folder / "one.pem"  # reading all of them takes longer than a run
        authority.write_text(f"{certificates[0]}-----END CERTIFICATE-----\n", "utf-8")
        os.environ["SSL_CERT_FILE"] = str(authority)
        store = open_store(kind, folder, stack)
        trials = Trials(write_graph(folder, GRAPH, say="Hello"), store, seed)
        trials.run(runs)
    stops = ", ".join(f"{where} {times}" for where, times in sorted(trials.stopped_at.items()))
    print(f"{runs} runs on {kind}: {trials.kills} workers killed, next was: {stops}")


if __name__ == "__main__":
    main()
