"""Measure what a gateway adds to a stream: `streamcore serve` and the litellm proxy, before the same simulator.

    python benchmarks/endpoints.py            both, and write the figures into docs/benchmarks.md
    python benchmarks/endpoints.py --quick    streamcore and the bare relay, fewer rounds

Each server runs in a process of its own with one worker, litellm in an environment under .bench. A client reads
`/v1/chat/completions` from the simulator itself, then through each server in turn, a bare relay of the same bytes
(`benchmarks/bare_relay.py`) among them. CPU time is that of the server's processes: of a token, the CPU time of long
answers less that of short ones; of an answer, the rest. A paced token has its share of the answer. Exit code 1 if a
frame of a stream through streamcore is lost, or if it does not cost at least ten times less CPU a token than litellm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.peers.contestants import Contestant  # noqa: E402
from benchmarks.peers.environments import prepare  # noqa: E402
from streamcore.testing import Simulator  # noqa: E402
from streamcore.testing.simulator.answers import Asked, counted  # noqa: E402

PINS = ("litellm[proxy]==1.108.7",)
KEY = f"sk-{secrets.token_hex(16)}"
"""The key of the vendor, and of both servers."""
SHORT, LONG = 20, 1020
INTERVAL = 0.02
"""Seconds between two tokens of a paced stream."""
CHEAPER = 10.0
"""How many times less CPU a token streamcore must take than litellm."""
MARKS = "<!-- endpoints: written by benchmarks/endpoints.py -->", "<!-- endpoints: end -->"
BURST, PACED = "openai/burst", "groq/paced"
"""The models: two providers of the same dialect, each with an upstream of its own."""
START_SECONDS = 180.0
_CPU_CLOCK = 2
"""The clock of a process's CPU time, in the number that Linux makes of a process and a clock (clock_getcpuclockid)."""
_CONTENT = re.compile(rb'"content": ?"')


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    answers: int
    """Answers of each length in a round of the burst."""
    streams: int
    """Paced streams at once, of which the times are measured."""
    crowd: int
    """Paced streams at once, of which the whole ones are counted."""
    tokens: int
    """Tokens of a paced stream."""


FULL, QUICK = Plan(5, 10, 10, 100, 100), Plan(2, 5, 5, 20, 30)


@dataclass(slots=True)
class Figures:
    """What was measured of one server; times in seconds."""

    title: str
    first: list[float] = field(default_factory=list[float])
    gaps: list[float] = field(default_factory=list[float])
    token: list[float] = field(default_factory=list[float])
    answer: list[float] = field(default_factory=list[float])
    paced: list[float] = field(default_factory=list[float])
    """CPU time of a token that arrives alone."""
    whole: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers; `urls` are the base URLs of the two models."""

    urls: Mapping[str, str]
    process: int | None = None

    def cpu(self) -> float:
        """Return the CPU time of the process and those that it started, to the nanosecond."""
        if self.process is None:
            return 0.0
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parents[int(entry.name)] = int(
                        (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[1]
                    )
                except OSError:
                    continue  # it has ended
        ours = {self.process}
        while more := {child for child, parent in parents.items() if parent in ours} - ours:
            ours |= more
        return sum(map(_process_seconds, ours))


def _process_seconds(process: int) -> float:
    """Return the CPU time of all threads of a process, those included that have ended."""
    try:
        return time.clock_gettime((~process << 3) | _CPU_CLOCK)
    except OSError:
        return 0.0  # it has ended


# The servers


@contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Generator[subprocess.Popen[str]]:
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=output, text=True, cwd=ROOT, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@contextmanager
def upstream(rate: float | None, folder: Path) -> Generator[str]:
    """Run a simulator whose answers have as many tokens as the message says; yield its base URL."""
    command = [sys.executable, __file__, "--upstream", str(rate or 0)]
    with _process(command, {}, folder / f"upstream-{rate or 0}.log") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip() + "/v1"


def _simulate(rate: float) -> None:
    def answer(asked: Asked) -> Any:
        return counted(int(asked.text))

    with Simulator(answer, rate=rate or None) as simulator:
        print(simulator.url, flush=True)
        threading.Event().wait()  # until it is killed


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def streamcore_server(upstreams: Mapping[str, str], folder: Path) -> Generator[Running]:
    """Run `streamcore serve` as a gateway."""
    port = _free_port()
    environment = {
        "OPENAI_BASE_URL": upstreams[BURST],
        "OPENAI_API_KEY": KEY,
        "GROQ_BASE_URL": upstreams[PACED],
        "GROQ_API_KEY": KEY,
        "STREAMCORE_API_KEYS": KEY,
    }
    command = [
        sys.executable,
        "-m",
        "streamcore.cli",
        "serve",
        "--allow-model",
        "*",
        "--max-streams",
        "1000",
        "--max-per-user",
        "1000",
    ]
    with _process([*command, "--port", str(port)], environment, folder / "streamcore.log") as process:
        yield _answering(process, _one_url(port), folder / "streamcore.log")


@contextmanager
def bare_relay(upstreams: Mapping[str, str], folder: Path) -> Generator[Running]:
    """Run a relay that only passes bytes on."""
    port = _free_port()
    command = [sys.executable, str(ROOT / "benchmarks" / "bare_relay.py"), str(port)]
    names = {BURST: "burst", PACED: "paced"}
    command += [f"{names[model]}={url}" for model, url in upstreams.items()]
    with _process(command, {}, folder / "relay.log") as process:
        urls = {model: f"http://127.0.0.1:{port}/{name}" for model, name in names.items()}
        yield _answering(process, urls, folder / "relay.log")


@contextmanager
def litellm_server(upstreams: Mapping[str, str], folder: Path) -> Generator[Running]:
    """Run the litellm proxy."""
    contestant = Contestant("litellm-proxy", "litellm proxy", "peer", "litellm", requires=PINS)
    reason = prepare(contestant, ROOT / ".bench")
    if reason is not None:
        raise SystemExit(f"the litellm proxy cannot be installed: {reason}")
    port = _free_port()
    listed = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": url, "api_key": KEY}}
        for name, url in upstreams.items()
    ]
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": listed, "litellm_settings": {"telemetry": False}}), "utf-8")
    binary = contestant.python(ROOT / ".bench").with_name("litellm")
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": KEY,
    }
    command = [str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    with _process(command, environment, folder / "litellm.log") as process:
        yield _answering(process, _one_url(port), folder / "litellm.log")


def _one_url(port: int) -> dict[str, str]:
    return dict.fromkeys((BURST, PACED), f"http://127.0.0.1:{port}/v1")


def _answering(process: subprocess.Popen[str], urls: Mapping[str, str], log: Path) -> Running:
    """Return the server once it answers."""
    running = Running(urls, process.pid)
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if asyncio.run(_read_all(running, BURST, 1, SHORT))[0].whole(SHORT):
                return running
        except aiohttp.ClientError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"the server does not answer:\n{log.read_text('utf-8')[-2000:]}")


# The client


@dataclass(slots=True)
class Read:
    """A stream that was read: the time of its request, and the time of each event."""

    begun: float
    pieces: list[tuple[float, bytes]] = field(default_factory=list[tuple[float, bytes]])

    def whole(self, tokens: int) -> bool:
        """Return whether every token arrived, in order, and the mark of the end."""
        body = b"".join(piece for _, piece in self.pieces)
        found: list[str] = []
        for line in body.split(b"\n"):
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", ()):
                    found.append(choice["delta"].get("content") or "")
        return [text for text in found if text] == [*counted(tokens).tokens] and b"data: [DONE]" in body

    def times(self) -> list[float]:
        """Return when each frame with text was complete."""
        return [at for at, piece in self.pieces for _ in _CONTENT.findall(piece)]


async def _read(session: aiohttp.ClientSession, url: str, model: str, tokens: int) -> Read:
    body = {"model": model, "messages": [{"role": "user", "content": str(tokens)}], "stream": True}
    found = Read(time.perf_counter())
    async with session.post(
        f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}
    ) as response:
        response.raise_for_status()
        async for piece in response.content.iter_any():
            found.pieces.append((time.perf_counter(), piece))
    return found


async def _read_all(running: Running, model: str, streams: int, tokens: int, *, at_once: bool = True) -> list[Read]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=300)) as session:
        readers = [_read(session, running.urls[model], model, tokens) for _ in range(streams)]
        return [*await asyncio.gather(*readers)] if at_once else [await reader for reader in readers]


# The measurements


def measure_paced(running: Running, plan: Plan, figures: Figures) -> None:
    """Measure times of streams whose tokens come one by one."""
    before = running.cpu()
    reads = asyncio.run(_read_all(running, PACED, plan.streams, plan.tokens))
    figures.paced.append((running.cpu() - before) / (plan.streams * plan.tokens))
    for read in reads:
        times = read.times()
        figures.first.append(times[0] - read.begun)
        figures.gaps += [later - earlier for earlier, later in pairwise(times)]


def measure_burst(running: Running, plan: Plan, figures: Figures) -> None:
    """Measure the CPU time of answers that arrive as fast as they are read."""
    costs: list[float] = []
    for tokens in (SHORT, LONG):
        before = running.cpu()
        asyncio.run(_read_all(running, BURST, plan.answers, tokens, at_once=False))
        costs.append((running.cpu() - before) / plan.answers)
    token = (costs[1] - costs[0]) / (LONG - SHORT)
    figures.token.append(token)
    figures.answer.append(costs[0] - token * SHORT)


def measure_crowd(running: Running, plan: Plan, figures: Figures) -> None:
    """Count the streams of a crowd that arrive whole."""
    reads = asyncio.run(_read_all(running, PACED, plan.crowd, plan.tokens))
    figures.streams += len(reads)
    figures.whole += sum(read.whole(plan.tokens) for read in reads)


def measure(plan: Plan, servers: Mapping[str, Running]) -> dict[str, Figures]:
    """Return the figures of all servers, which are measured in turn."""
    found = {title: Figures(title) for title in servers}
    for number in range(plan.rounds + 1):  # the first one warms up
        for title, running in servers.items():
            figures = found[title] if number else Figures(title)
            measure_paced(running, plan, figures)
            if running.process is not None:
                measure_burst(running, plan, figures)
    for title, running in servers.items():
        measure_crowd(running, plan, found[title])
    return found


def report(found: Mapping[str, Figures], plan: Plan) -> str:
    """Return the table."""
    direct = found["the simulator itself"]
    base, gap = statistics.median(direct.first), _p99(direct.gaps)
    heads = [
        "",
        "added to the first token, ms",
        "added between frames, p99, ms",
        "us CPU a token, burst",
        "us CPU a token, paced",
        "ms CPU an answer",
        "whole streams",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for figures in found.values():
        if figures is not direct:
            lines.append(
                f"| {figures.title} | {(statistics.median(figures.first) - base) * 1e3:.1f} "
                f"| {(_p99(figures.gaps) - gap) * 1e3:.1f} | {statistics.median(figures.token) * 1e6:,.0f} "
                f"| {statistics.median(figures.paced) * 1e6:,.0f} | {statistics.median(figures.answer) * 1e3:.1f} "
                f"| {figures.whole} of {figures.streams} |"
            )
    return (
        f"{plan.streams} streams with a token every {INTERVAL * 1e3:.0f} ms, {plan.crowd} for the whole ones; bursts\n"
        f"of {LONG} tokens. Medians of {plan.rounds} rounds; the times are less those of the simulator itself (first\n"
        f"token {base * 1e3:.1f} ms, p99 between frames {gap * 1e3:.1f} ms). The bare relay passes the same bytes\n"
        "on over uvicorn and aiohttp, and reads nothing of them.\n\n" + "\n".join([*lines, "", *targets(found)])
    )


def targets(found: Mapping[str, Figures]) -> list[str]:
    """Return the targets as a list of Markdown, each with what was measured, and whether it was met."""
    ours, bare, litellm = found["streamcore serve"], found["bare relay"], found.get("litellm proxy")
    lines = [f"- No stream without all of its frames: {'met' if ours.whole == ours.streams else 'NO'}."]
    if litellm is not None:
        burst = statistics.median(litellm.token) / statistics.median(ours.token)
        paced, floor = (statistics.median(litellm.paced) / statistics.median(one.paced) for one in (ours, bare))
        least = (
            f"The bare relay takes {floor:.1f} times less: what is left is a wake-up, a read and a write of sockets."
        )
        lines.append(
            f"- {CHEAPER:g} times less CPU a token than litellm, in a burst: {_met(burst)} ({burst:.0f} times)."
        )
        lines.append(f"- {CHEAPER:g} times less, token by token: {_met(paced)} ({paced:.1f} times). {least}")
    return lines


def _met(ratio: float) -> str:
    return "met" if ratio >= CHEAPER else "NO"


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def write(table: str, page: Path) -> None:
    """Write the section of the page, in place of the one before."""
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {os.cpu_count()} cores"
    section = (
        f"{MARKS[0]}\n## Endpoints: what a gateway adds\n\n`/v1/chat/completions` through `streamcore serve` and "
        f"through the litellm proxy ({PINS[0].rpartition('==')[2]}), one worker each, before the same simulator. One "
        f"run of `python benchmarks/endpoints.py`: {now}.\n{table}\n{MARKS[1]}\n"
    )
    text = page.read_text("utf-8")
    start, _, rest = text.partition(MARKS[0])
    page.write_text(start.rstrip() + "\n\n" + section + rest.partition(MARKS[1])[2].lstrip("\n"), "utf-8")


def main() -> None:
    """Measure, print the table, write it, and hold the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="no litellm, fewer rounds; writes nothing")
    parser.add_argument("--upstream", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream is not None:
        _simulate(options.upstream)
        return
    plan = QUICK if options.quick else FULL
    folder = ROOT / ".bench" / "endpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with upstream(None, folder) as burst, upstream(1 / INTERVAL, folder) as paced:
        urls = {BURST: burst, PACED: paced}
        with streamcore_server(urls, folder) as ours, bare_relay(urls, folder) as bare:
            servers = {"the simulator itself": Running(urls), "streamcore serve": ours, "bare relay": bare}
            if options.quick:
                found = measure(plan, servers)
            else:
                with litellm_server(urls, folder) as litellm:
                    found = measure(plan, {**servers, "litellm proxy": litellm})
    table = report(found, plan)
    print(table)
    if not options.quick:
        write(table, ROOT / "docs" / "benchmarks.md")
    ours_found = found["streamcore serve"]
    missed = [f"{ours_found.streams - ours_found.whole} streams lost frames"] * (ours_found.whole < ours_found.streams)
    if "litellm proxy" in found:
        ratio = statistics.median(found["litellm proxy"].token) / statistics.median(ours_found.token)
        print(f"\nlitellm takes {ratio:.0f} times the CPU time a token")
        missed += [f"litellm takes {ratio:.1f} times the CPU time, not {CHEAPER:g}"] * (ratio < CHEAPER)
    if missed:
        raise SystemExit("missed a limit: " + "; ".join(missed))


if __name__ == "__main__":
    main()
