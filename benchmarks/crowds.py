"""Read ten thousand streams at once, a token every 200 ms each, and a thousand as fast as one core can.

The simulator and each reader have a process of their own, and one core each. Tokens begin when all requests should have
been sent, so that opening streams does not compete with reading them. Five seconds are measured, which begin some
seconds after the first token of the last stream, when a reader has caught up. Lag is how much later than planned a
token arrived, relative to the most punctual token of its stream. Memory is what the reader's process grew by.

    python benchmarks/crowds.py            writes its section of docs/benchmarks.md; exits 1 if a target is missed
    python benchmarks/crowds.py --quick    a thousand streams instead of ten thousand; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers.processes import Server  # noqa: E402
from benchmarks.peers.worker import Crowd, setup  # noqa: E402
from benchmarks.sections import Target, about, table, target_table, write_section  # noqa: E402
from streamcore.net.open_files import raise_limit  # noqa: E402

WIRE = "openai"


@dataclass(frozen=True, slots=True)
class Reader:
    """Name one way to read, and the event loop on which it runs."""

    title: str
    module: str
    variant: str
    loop: str = "asyncio"


@dataclass(frozen=True, slots=True)
class Load:
    """Describe how many streams are read at once, and how fast their tokens come."""

    streams: int
    interval: float
    """The seconds between two tokens of a stream."""
    ramp: float
    """The seconds within which all requests are sent; the simulator's tokens begin a second later."""
    windows: int = 5
    warm_up: float = 5.0
    """The seconds between the first token of the last stream and the first window: a reader catches up in them."""

    @property
    def offered(self) -> float:
        """Tokens a second of all streams."""
        return self.streams / self.interval


BARE_HTTPX2 = Reader("bare reading, httpx2", "bare", "httpx2")
BARE_AIOHTTP = Reader("bare reading, aiohttp", "bare", "aiohttp")
HTTPX2 = Reader("streamcore, httpx2", "ours", "request-httpx2")
AIOHTTP = Reader("streamcore, aiohttp", "ours", "request-aiohttp")
AIOHTTP_UVLOOP = Reader("streamcore, aiohttp, uvloop", "ours", "request-aiohttp", "uvloop")
BARE_UVLOOP = Reader("bare reading, aiohttp, uvloop", "bare", "aiohttp", "uvloop")

MANY = Load(10_000, interval=0.2, ramp=20.0)
MANY_WITH_SDK = Load(10_000, interval=0.2, ramp=60.0)  # a request through an SDK takes 2 to 4 ms of CPU
FEW = Load(1000, interval=0.2, ramp=2.0, windows=2, warm_up=1.0)
FAST = Load(1000, interval=0.01, ramp=2.0, warm_up=3.0)
FASTER = Load(1000, interval=1000 / 150_000, ramp=2.0, warm_up=3.0)

STALL = 8.0
"""The seconds within which a further 1% of the streams must bring a token, or the others count as lost."""
MEMORY, WHOLE = 32.0, 0.98
"""The targets of ten thousand streams: KiB a stream, and the share of the offered tokens."""
ON_ASYNCIO, ON_UVLOOP = 100_000.0, 150_000.0
"""The targets of a thousand streams: tokens a second on one core."""


def read(reader: Reader, load: Load, url: str, short: str) -> None:
    """Read the crowd in this process, and print what was found as JSON."""
    raise_limit()
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})  # the simulator has the other core
    opened = import_module(f"benchmarks.peers.readers.{reader.module}")

    async def run() -> None:
        await setup(opened.open_reader(reader.variant, WIRE, short), 2)  # late imports, caches
        crowd = Crowd(opened.open_reader(reader.variant, WIRE, url), load.streams, load.interval)
        cap = load.ramp + 30

        def watch() -> None:
            print(json.dumps(crowd.watch(cap, 1.0, load.windows, load.warm_up, stall=STALL)), flush=True)
            os._exit(0)  # to close ten thousand streams takes a reader up to a minute, which is not measured

        await crowd.run(load.ramp, watch)

    if reader.loop == "uvloop":
        run_on_uvloop: Any = import_module("uvloop").run
        run_on_uvloop(run())
    else:
        _run(run())


def _run(job: Coroutine[Any, Any, None]) -> None:
    asyncio.run(job)


def measure(reader: Reader, load: Load, home: Path) -> dict[str, Any]:
    """Read the crowd in a process of its own; return what it found, and how late the simulator was."""
    log = home / "servers.log"
    tokens = int((load.ramp + 60) / load.interval)
    with Server(log, 1) as short, Server(log, tokens, 1 / load.interval, load.ramp + 1, gate=True) as server:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(server.process.pid, {0})
        command = [sys.executable, __file__, "--read", json.dumps([reader.module, reader.variant, reader.loop])]
        command += ["--load", json.dumps([load.streams, load.interval, load.ramp, load.windows, load.warm_up])]
        done = subprocess.run(
            [*command, "--url", server.url, "--short", short.url], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
        return {**found, "server": server.statistics()["lag_p99"]}


def row(reader: Reader, found: dict[str, Any]) -> list[str]:
    """Return the table's row of a reader."""
    rate, cpu, lag, p99 = (_median(found, name) for name in ("rate", "cpu", "lag_median", "lag_p99"))
    cells = [f"{rate:,.0f}", f"{cpu * 1e6:.1f}", f"{lag * 1000:.1f}", f"{p99 * 1000:.1f}"]
    cells += [f"{found['memory'] / 1024:.1f}", f"{found['running']:,}", f"{found['failed']:,}"]
    return [reader.title, *cells, f"{found['server']:.1f}"]


def _median(found: dict[str, Any], name: str) -> float:
    figures = [window[name] for window in found["windows"] if window[name] is not None]
    return statistics.median(figures) if figures else 0.0


HEAD = [
    "",
    "tokens/s",
    "us CPU a token",
    "median lag, ms",
    "p99 lag, ms",
    "KiB a stream",
    "running",
    "failed",
    "server",
]


def crowd(plans: list[tuple[Load, Reader]], home: Path) -> tuple[str, list[Target]]:
    """Measure many slow streams; return the table, and the targets of streamcore."""
    rows: list[list[str]] = []
    targets: list[Target] = []
    for load, reader in plans:
        found = measure(reader, load, home)
        rows.append(row(reader, found))
        print(rows[-1], file=sys.stderr, flush=True)
        if reader.module == "ours":
            name = f"{load.streams:,} streams, {reader.title.removeprefix('streamcore, ')}"
            lost = load.streams - found["running"] + found["failed"]
            targets += [
                Target(f"{name}: lost", lost, 0),
                Target(f"{name}: tokens/s", _median(found, "rate"), WHOLE * load.offered, at_least=True),
                Target(f"{name}: memory a stream", found["memory"] / 1024, MEMORY, unit=" KiB"),
            ]
    return table(HEAD, rows), targets


def fast(home: Path) -> tuple[str, list[Target]]:
    """Measure a thousand streams as fast as one core reads them; return the table, and the targets."""
    plans = [(FAST, BARE_AIOHTTP, 0.0), (FAST, AIOHTTP, ON_ASYNCIO)]
    if find_spec("uvloop") is not None:
        plans += [(FASTER, BARE_UVLOOP, 0.0), (FASTER, AIOHTTP_UVLOOP, ON_UVLOOP)]
    rows: list[list[str]] = []
    targets: list[Target] = []
    for load, reader, target in plans:
        found = measure(reader, load, home)
        rows.append(row(reader, found))
        rows[-1].insert(1, f"{load.offered:,.0f}")
        print(rows[-1], file=sys.stderr, flush=True)
        if target:
            rate = _median(found, "rate")
            targets.append(Target(f"1,000 streams, {reader.loop}: tokens/s", rate, WHOLE * target, at_least=True))
    return table([HEAD[0], "offered", *HEAD[1:]], rows), targets


_BODY = """\
## Ten thousand streams on one core

Openai chat; {streams:,} streams at once, a token every {interval:g} ms each. The reader has one core, the simulator the
other; `server` is the simulator's own p99 lag in milliseconds, below which no reader can be. `running` streams have
delivered tokens, `failed` ones an error. Memory is the growth of the reader's process, its tasks included, when the
last stream has delivered its first token. Requests are sent within {ramp:g} s, those of streamcore in {ramp_sdk:g} s,
since one through an SDK takes 2 to 4 ms of CPU; tokens begin a second later. When all streams have begun, at the latest
about 30 s later, a reader has {warm_up:g} s to catch up, and {windows} windows of one second are measured; the figures
are their medians.
{about}

{many}

A thousand streams, as fast as one core reads them, after {fast_warm_up:g} s:

{fast}

{targets}

A rate counts as met from {whole:.0%} of what was offered: a window begins and ends between two tokens. A rate above
what was offered means that the reader still reads what arrived before. httpx2 looks through all connections of its pool
whenever a request begins or ends, so with one pool, as in bare reading, it does not open ten thousand streams in time.
streamcore sends over several pools of httpx2; the default on asyncio is aiohttp.
"""


def main() -> None:
    """Measure and write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a thousand streams, two readers; writes nothing")
    for name in ("--read", "--load", "--url", "--short"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(Reader("", *json.loads(options.read)), Load(*json.loads(options.load)), options.url, options.short)
        return
    raise_limit()
    start = time.monotonic()
    plans = [(MANY, BARE_HTTPX2), (MANY, BARE_AIOHTTP), (MANY_WITH_SDK, HTTPX2), (MANY_WITH_SDK, AIOHTTP)]
    if find_spec("uvloop") is not None:
        plans.append((MANY_WITH_SDK, AIOHTTP_UVLOOP))
    if options.quick:
        plans = [(FEW, BARE_AIOHTTP), (FEW, AIOHTTP)]
    load = plans[0][0]
    with tempfile.TemporaryDirectory() as home:
        many, targets = crowd(plans, Path(home))
        fastest, more = ("", []) if options.quick else fast(Path(home))
    targets += more
    print(f"{many}\n\n{fastest}\n\n{target_table(targets)}")
    if not options.quick:
        body = _BODY.format(
            streams=load.streams,
            interval=load.interval * 1000,
            warm_up=load.warm_up,
            ramp=MANY.ramp,
            ramp_sdk=MANY_WITH_SDK.ramp,
            windows=load.windows,
            fast_warm_up=FAST.warm_up,
            about=about("python benchmarks/crowds.py", time.monotonic() - start),
            many=many,
            fast=fastest,
            targets=target_table(targets),
            whole=WHOLE,
        )
        write_section("crowds", "benchmarks/crowds.py", body)
    sys.exit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
