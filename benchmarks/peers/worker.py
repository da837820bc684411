"""Measure one reader inside its own environment: a line of JSON comes in, one goes out. `race.py` starts it and asks.

Only the standard library and the peer are imported here. CPU is that of this process with all its threads; each
measurement begins with a garbage collection and is otherwise left to the interpreter's defaults.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import time
from array import array
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers.wires import Read

_LIMIT = 60.0  # seconds for one measurement; a stream that hangs is a failure
_EVENT = b"data: "  # what a bare reader counts instead of tokens


async def burst(read: Read) -> dict[str, Any]:
    """Read one answer that comes as fast as it is read."""
    pieces: list[Any] = []
    gc.collect()
    pace = _pace()
    cpu = time.process_time()
    await read(pieces.append)
    cpu = time.process_time() - cpu
    pace = (pace + _pace()) / 2
    text = "".join(pieces) if pieces and isinstance(pieces[0], str) else None
    return {"cpu": cpu, "pace": pace, "pieces": len(pieces), "text": text}


async def setup(read: Read, requests: int) -> dict[str, Any]:
    """Ask for a short answer again and again."""
    pieces: list[Any] = []
    gc.collect()
    pace = _pace()
    cpu = time.process_time()
    for _ in range(requests):
        await read(pieces.append)
    cpu = time.process_time() - cpu
    return {"cpu": cpu / requests, "pace": (pace + _pace()) / 2, "pieces": len(pieces)}


def _pace() -> float:
    """Return the seconds of CPU that a fixed piece of work takes now: how fast the machine is at this moment."""
    texts: dict[int, str] = {}
    cpu = time.process_time()
    for number in range(12_000):
        texts[number & 255] = str(number)
    return time.process_time() - cpu


class Crowd:
    """Many streams at once, each of which should bring a token every `interval` seconds without end.

    A thread does the measuring: the event loop of a reader that falls behind has turns of many seconds.
    """

    def __init__(self, read: Read, streams: int, interval: float) -> None:
        self._read = read
        self._interval = interval
        # When each stream would have begun, had each token come in its turn. Plain doubles take 8 bytes each.
        self._turns = [array("d") for _ in range(streams)]
        self.failed = 0

    async def run(self, ramp: float, watch: Callable[[], None]) -> None:
        """Open all streams within `ramp` seconds; drop them when `watch`, in its thread, is done."""
        streams = len(self._turns)
        tasks = [asyncio.create_task(self._one(number, ramp * number / streams)) for number in range(streams)]
        await asyncio.to_thread(watch)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def watch(
        self, cap: float, window: float, windows: int, warm_up: float = 0, stall: float = float("inf")
    ) -> dict[str, Any]:
        """Wait until each stream has brought a token, and `warm_up` seconds; then measure.

        Waiting ends early after `cap` seconds, or if, once tokens arrive, no further 1% of the streams has brought one
        for `stall` seconds.
        """
        before, start = _resident(), time.monotonic()
        progress, counted = start, 0
        while not all(self._turns) and time.monotonic() - start < cap:
            time.sleep(0.05)
            begun = sum(map(bool, self._turns))
            if begun >= counted + len(self._turns) / 100:
                progress, counted = time.monotonic(), begun
            elif counted and time.monotonic() - progress > stall:
                break
        opened, running = time.monotonic() - start, sum(map(bool, self._turns))
        memory = (_resident() - before - sum(len(turns) * 8 for turns in self._turns)) / len(self._turns)
        time.sleep(warm_up)
        moments = [self._moment()]
        for _ in range(windows):
            time.sleep(window)
            moments.append(self._moment())
        measured = [self._between(*pair) for pair in pairwise(moments)]
        return {"opened": opened, "running": running, "failed": self.failed, "memory": memory, "windows": measured}

    def _moment(self) -> tuple[float, float, list[int]]:
        return time.monotonic(), time.process_time(), [len(turns) for turns in self._turns]

    def _between(
        self, begin: tuple[float, float, list[int]], end: tuple[float, float, list[int]]
    ) -> dict[str, float | None]:
        """Say what came between two moments, and how late."""
        lags: list[float] = []
        for turns, first, last in zip(self._turns, begin[2], end[2], strict=True):
            begun = min(turns, default=0.0)
            lags.extend(turn - begun for turn in turns[first:last])
        lags.sort()
        count = len(lags)
        return {
            "rate": count / (end[0] - begin[0]),
            "cpu": (end[1] - begin[1]) / count if lags else None,
            "lag_median": lags[count // 2] if lags else None,
            "lag_p99": lags[count * 99 // 100] if lags else None,
        }

    async def _one(self, number: int, wait: float) -> None:
        turns, interval, clock = self._turns[number], self._interval, time.monotonic

        def token(piece: Any) -> None:
            now = clock()
            for _ in range(1 if isinstance(piece, str) else piece.count(_EVENT)):
                turns.append(now - len(turns) * interval)

        await asyncio.sleep(wait)
        try:
            await self._read(token)
        except Exception as error:  # noqa: BLE001  any peer's error is a failed stream, counted and shown
            self.failed += 1
            print(f"stream {number} failed: {error!r}", file=sys.stderr)


def _resident() -> int:
    """Return the bytes of memory that this process uses now; where the system does not report it, the most it used."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


async def answer(
    asked: dict[str, Any], reader: Callable[[str, str], Read], say: Callable[[dict[str, Any]], None]
) -> None:
    """Do what one line asks, and say what came of it."""
    read = reader(asked["wire"], asked["url"])
    if asked["do"] == "crowd":
        crowd = Crowd(read, asked["streams"], asked["interval"])
        await crowd.run(asked["ramp"], lambda: say(crowd.watch(asked["cap"], asked["window"], asked["windows"])))
        return
    async with asyncio.timeout(_LIMIT):
        say(await (burst(read) if asked["do"] == "burst" else setup(read, asked["requests"])))


async def serve(opened: Callable[[str, str, str], Read], variant: str, out: TextIO) -> None:
    """Answer line by line; readers, and so their clients, are kept from one line to the next."""
    readers: dict[tuple[str, str], Read] = {}

    def reader(wire: str, url: str) -> Read:
        if (wire, url) not in readers:
            readers[wire, url] = opened(variant, wire, url)
        return readers[wire, url]

    def say(said: dict[str, Any]) -> None:
        print(json.dumps(said), file=out, flush=True)

    while line := sys.stdin.readline():  # blocking: nothing else is to run between two measurements
        try:
            await answer(json.loads(line), reader, say)
        except Exception as error:  # noqa: BLE001  what a peer cannot do is a result, too
            say({"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Import the reader, say what that cost, and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reader", help="a module of benchmarks/peers/readers")
    parser.add_argument("variant", nargs="?", default="")
    options = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between the lines
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    memory, wall, cpu = _resident(), time.perf_counter(), time.process_time()
    try:
        module = import_module(f"benchmarks.peers.readers.{options.reader}")
        module.open_reader(options.variant, "openai", "http://127.0.0.1:9")
    except ImportError as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
        return
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": _resident() - memory}), file=out, flush=True)
    asyncio.run(serve(module.open_reader, options.variant, out))


if __name__ == "__main__":
    main()
