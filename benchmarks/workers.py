"""Compare two workers of `streamcore serve` with one: tokens a second, and CPU a token, with answers kept in Redis.

Each worker is a process of its own, as behind a load balancer; all keep their answers in one Redis. A client reads
stored answers of `/v1/responses`, as many at once from two workers as from one. Client, simulator and Redis share the
cores with the workers, so two workers cannot be twice as fast on two cores; the CPU a token tells what sharing costs.

    python benchmarks/workers.py            writes its section of docs/benchmarks.md; exits 1 if a target is missed
    python benchmarks/workers.py --quick    two rounds; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.sections import Target, about, table, target_table, write_section  # noqa: E402

KEY = "benchmark-key-of-this-machine"
TOKENS, STREAMS, ROUNDS = 1000, 12, 5
LIMIT = 1.15
"""What a token may cost with two workers, as a multiple of one worker's."""
START_SECONDS = 120.0
_DELTA = b"event: response.output_text.delta"


@dataclass(slots=True)
class Figures:
    """What was measured of one or two workers."""

    rates: list[float] = field(default_factory=list[float])
    costs: list[float] = field(default_factory=list[float])
    """Seconds of the workers' CPU a token."""
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that answers."""

    url: str
    process: int

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.process}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def started(
    command: Sequence[str], log: Path, more: Mapping[str, str] | None = None
) -> Generator[subprocess.Popen[str]]:
    """Run a process, and end it."""
    environment = {**os.environ, **(more or {})}
    with log.open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answers(url: str) -> bool:
    """Return True if a worker answers."""
    try:
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310  our own server
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def workers(count: int, home: Path) -> Generator[list[Worker]]:
    """Run Redis, the simulator and workers."""
    with ExitStack() as stack:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(home)]
        stack.enter_context(started(command, home / "redis.log"))
        simulator = stack.enter_context(
            started([sys.executable, "-m", "streamcore.testing", "--tokens", str(TOKENS)], home / "simulator.log")
        )
        assert simulator.stdout is not None
        environment = {
            "OPENAI_BASE_URL": simulator.stdout.readline().strip() + "/v1",
            "OPENAI_API_KEY": KEY,
            "STREAMCORE_API_KEYS": KEY,
        }
        found: list[Worker] = []
        for number in range(count):
            own, log = free_port(), home / f"worker-{number}.log"
            serve = [sys.executable, "-m", "streamcore.cli", "serve", "--allow-model", "*", "--port", str(own)]
            serve += ["--relay", f"redis://127.0.0.1:{port}/0", "--max-streams", "1000", "--max-per-user", "1000"]
            process = stack.enter_context(started(serve, log, environment))
            found.append(Worker(f"http://127.0.0.1:{own}", process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not all(answers(worker.url) for worker in found):
            if time.monotonic() > deadline:
                raise SystemExit(f"a worker does not answer:\n{(home / 'worker-0.log').read_text('utf-8')[-2000:]}")
            time.sleep(0.2)
        yield found


async def read(session: aiohttp.ClientSession, url: str) -> int:
    """Read one stored answer; return the number of its tokens."""
    body = {"model": "openai/m", "input": "Count.", "stream": True, "store": True}
    whole = b""
    async with session.post(f"{url}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}) as response:
        response.raise_for_status()
        whole = await response.read()
    return whole.count(_DELTA)


async def read_all(found: Sequence[Worker], streams: int) -> list[int]:
    """Read answers at once, from the workers in turn."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        reads = [read(session, found[number % len(found)].url) for number in range(streams)]
        return list(await asyncio.gather(*reads))


def measure(found: Sequence[Worker], figures: Figures) -> None:
    """Measure one round."""
    before, start = sum(worker.cpu() for worker in found), time.monotonic()
    counts = asyncio.run(read_all(found, STREAMS))
    seconds, cpu = time.monotonic() - start, sum(worker.cpu() for worker in found) - before
    figures.rates.append(sum(counts) / seconds)
    figures.costs.append(cpu / max(1, sum(counts)))
    figures.lost += sum(count != TOKENS for count in counts)


_BODY = """\
## Two workers

Stored answers of `/v1/responses` through `streamcore serve`, kept in one Redis; {streams} answers of {tokens} tokens at
once, from one worker and from two, medians of {rounds} rounds that take turns. Client, simulator and Redis share the
cores with the workers, so the factor in tokens a second stays below 2 on a machine with two.
{about}

{figures}

{targets}
"""


def main() -> None:
    """Measure and write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds; writes nothing")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        raise SystemExit("this needs redis-server, which is not installed (Debian: apt-get install redis-server)")
    rounds, start = 2 if options.quick else ROUNDS, time.monotonic()
    one, two = Figures(), Figures()
    with tempfile.TemporaryDirectory() as home, workers(3, Path(home)) as found:
        for number in range(rounds + 1):  # the first round warms up
            measure(found[:1], one if number else Figures())
            measure(found[1:], two if number else Figures())
    rows = [
        [title, f"{statistics.median(each.rates):,.0f}", f"{statistics.median(each.costs) * 1e6:.1f}", str(each.lost)]
        for title, each in (("one worker", one), ("two workers", two))
    ]
    factor = statistics.median([b / a for a, b in zip(one.rates, two.rates, strict=True)])
    cost = statistics.median([b / a for a, b in zip(one.costs, two.costs, strict=True)])
    rows.append(["factor", f"{factor:.2f}", f"{cost:.2f}", ""])
    figures = table(["", "tokens/s", "us CPU a token", "answers that lost tokens"], rows)
    targets = [
        Target("CPU a token, two workers / one", cost, LIMIT, unit="x"),
        Target("answers that lost tokens", one.lost + two.lost, 0),
    ]
    print(f"{figures}\n\n{target_table(targets)}")
    if not options.quick:
        ran = about("python benchmarks/workers.py", time.monotonic() - start)
        shown = {"figures": figures, "targets": target_table(targets), "about": ran}
        write_section(
            "workers",
            "benchmarks/workers.py",
            _BODY.format(streams=STREAMS, tokens=TOKENS, rounds=rounds, **shown),
        )
    sys.exit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
