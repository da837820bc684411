"""Compare `streamcore serve --workers 2` with one worker: tokens a second, and CPU a token, with answers kept in Redis.

Both services keep their answers in one Redis. A client reads stored answers of `/v1/responses`, as many at once from
two workers as from one. Client, simulator and Redis share the cores with the workers, so two workers cannot be twice as
fast on two cores; the CPU a token tells what sharing costs.

    python benchmarks/workers.py            writes its section of docs/benchmarks.md; exits 1 if a target is missed
    python benchmarks/workers.py --quick    two rounds; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
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
_SERVES = re.compile(r"worker (\d+) serves")


@dataclass(slots=True)
class Figures:
    """What was measured of one or two workers."""

    rates: list[float] = field(default_factory=list[float])
    costs: list[float] = field(default_factory=list[float])
    """Seconds of the workers' CPU a token."""
    shares: list[float] = field(default_factory=list[float])
    """The part of the CPU that the busiest worker used."""
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that answers."""

    url: str
    workers: Sequence[int]
    """The processes of its workers."""

    def cpu(self) -> list[float]:
        """Return the seconds of CPU that each worker has used."""
        found = [Path(f"/proc/{worker}/stat").read_text("ascii").rpartition(")")[2].split() for worker in self.workers]
        return [(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") for fields in found]


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
def served(count: int, home: Path, environment: Mapping[str, str], redis: str) -> Generator[Service]:
    """Serve with so many workers, once all of them have started."""
    port, log = free_port(), home / f"{count}-workers.log"
    serve = [sys.executable, "-m", "streamcore.cli", "serve", "--allow-model", "*", "--port", str(port), "--log-json"]
    serve += ["--relay", redis, "--max-streams", "1000", "--max-per-user", "1000", "--workers", str(count)]
    with started(serve, log, environment) as process:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
        found: list[int] = [process.pid] if count == 1 else []
        while len(found) < count or not answers(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"the service does not answer:\n{log.read_text('utf-8')[-2000:]}")
            time.sleep(0.2)
            if count > 1:
                found = [int(number) for number in _SERVES.findall(log.read_text("utf-8"))]
        yield Service(url, found)


@contextmanager
def services(home: Path) -> Generator[tuple[Service, Service]]:
    """Run Redis, the simulator, a service with one worker and one with two."""
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
        redis = f"redis://127.0.0.1:{port}/0"
        one, two = (stack.enter_context(served(count, home, environment, redis)) for count in (1, 2))
        yield one, two


async def read(session: aiohttp.ClientSession, url: str) -> int:
    """Read one stored answer; return the number of its tokens."""
    body = {"model": "openai/m", "input": "Count.", "stream": True, "store": True}
    whole = b""
    async with session.post(f"{url}/v1/responses", json=body, headers={"Authorization": f"Bearer {KEY}"}) as response:
        response.raise_for_status()
        whole = await response.read()
    return whole.count(_DELTA)


async def read_all(service: Service, streams: int) -> list[int]:
    """Read answers at once."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        return list(await asyncio.gather(*(read(session, service.url) for _ in range(streams))))


def measure(service: Service, figures: Figures) -> None:
    """Measure one round."""
    before, start = service.cpu(), time.monotonic()
    counts = asyncio.run(read_all(service, STREAMS))
    seconds, cpu = time.monotonic() - start, [b - a for a, b in zip(before, service.cpu(), strict=True)]
    figures.rates.append(sum(counts) / seconds)
    figures.costs.append(sum(cpu) / max(1, sum(counts)))
    figures.shares.append(max(cpu) / sum(cpu))
    figures.lost += sum(count != TOKENS for count in counts)


_BODY = """\
## Two workers

Stored answers of `/v1/responses` through `streamcore serve` and through `streamcore serve --workers 2`, kept in one
Redis; {streams} answers of {tokens} tokens at once, medians of {rounds} rounds that take turns. Client, simulator and
Redis share the cores with the workers, so the factor in tokens a second stays below 2 on a machine with two.
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
    with tempfile.TemporaryDirectory() as home, services(Path(home)) as (with_one, with_two):
        for number in range(rounds + 1):  # the first round warms up
            measure(with_one, one if number else Figures())
            measure(with_two, two if number else Figures())
    rows = [
        [
            title,
            f"{statistics.median(each.rates):,.0f}",
            f"{statistics.median(each.costs) * 1e6:.1f}",
            f"{statistics.median(each.shares):.0%}",
            str(each.lost),
        ]
        for title, each in (("one worker", one), ("two workers", two))
    ]
    factor = statistics.median([b / a for a, b in zip(one.rates, two.rates, strict=True)])
    cost = statistics.median([b / a for a, b in zip(one.costs, two.costs, strict=True)])
    rows.append(["factor", f"{factor:.2f}", f"{cost:.2f}", "", ""])
    figures = table(["", "tokens/s", "us CPU a token", "CPU of the busiest worker", "answers that lost tokens"], rows)
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
