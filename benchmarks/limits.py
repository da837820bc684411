"""Measure a burst next to its limits: a reader written by hand, bare reading over TLS, asyncio's loop and uvloop.

What each further token costs is the difference between a long burst and a short one.

Everything is read from one server process on loopback. Figures are the CPU of the reading process per token, in
microseconds; all rows of a table take turns, round by round.

    python benchmarks/limits.py [--rounds 7]    writes its section of docs/benchmarks.md; exits 1 if a limit is missed
    python benchmarks/limits.py --quick         three rounds; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.peers.readers import bare  # noqa: E402
from benchmarks.peers.wires import PATHS, WIRES, body, versioned  # noqa: E402
from benchmarks.peers.wires import root as wire_root  # noqa: E402
from benchmarks.readers.by_hand import open_by_hand  # noqa: E402
from benchmarks.sections import Target, about, table, target_table, write_section  # noqa: E402
from streamcore import Message, Request, get_provider, stream_request  # noqa: E402

TOKENS, LONG = 2000, 10_000
TRANSPORTS = ("httpx2", "aiohttp")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
SHAPES = {"one event a record": 1, "many events a record": 2}
"""How the server writes over TLS, and which of its ports does so."""
OF_HAND, OF_BARE = 2.0, 1.3
Run = Callable[[], Awaitable[int]]
_KEPT: list[Row] = []
"""All readers: their connections stay open for the whole run, as those of a service do."""

_BODY = """
## The limits of a burst

A burst of {tokens} tokens, microseconds of the reader's CPU per token, median of {rounds} rounds (range). {about}
The reader *by hand* is `benchmarks/readers/by_hand.py`: httptools, msgspec and a split at blank lines, for one vendor's
events, without errors, timeouts or closing. Bare reading takes the bytes and does nothing with them. The server writes
16 KiB at once, except where a TLS record has one event. Beside decoding, streamcore's figure has the setup of a request
by the vendor's SDK, spread over the tokens, and its guarantees: chunks, clocks, sizes, the answer so far.

### Plain

{plain}

### Over TLS, openai chat

A certificate made for the run, TLS as Python's `ssl` negotiates it. A record costs every reader a call
of OpenSSL, and bare httpx2 a read of its own; aiohttp, and streamcore on httpx2, return the records that have arrived
together. What streamcore adds to bare reading, decoding and the stages, is the same as without TLS. So its ratio is
largest where reading costs least: on aiohttp, with many events in a record. On httpx2 streamcore costs less than bare
reading, since it also merges the HTTP chunks of a read before h11 parses them (`streamcore/net/merged_chunks.py`).

{tls}

### A further token

The difference between bursts of {long} and {tokens} tokens, in microseconds a token, on asyncio: what reading costs
without the setup of a request. The last column is over TLS, many events a record. What the reader by hand adds to bare
reading on aiohttp is about the least that decoding can add.

{further}

### Targets

{targets}
"""


async def by_hand(wire: str, port: int, *, tls: bool = False) -> Run:
    """Return the reader that is written by hand."""
    content = json.dumps(body(wire)).encode()
    head = f"POST {PATHS[wire]} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n\r\n"
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]) if tls else None
    ask = await open_by_hand(wire, port, head.encode() + content, context)

    async def run() -> int:
        count = 0
        async for _ in ask():
            count += 1
        return count

    return run


def bare_reader(wire: str, url: str, transport: str, tokens: int = TOKENS) -> Run:
    """Return a reader that decodes nothing."""
    if transport == "httpx2" or not url.startswith("https"):
        read = bare.open_reader(transport, wire, url)
    else:
        read = _bare_aiohttp_over_tls(url + PATHS[wire], body(wire))

    async def run() -> int:
        await read(len)
        return tokens

    return run


def _bare_aiohttp_over_tls(url: str, asked: dict[str, Any]) -> Any:
    session: aiohttp.ClientSession | None = None

    async def read(token: Callable[[object], object]) -> None:
        nonlocal session
        if session is None:
            context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
            session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context))
        async with session.post(url, json=asked) as response:
            async for data in response.content.iter_any():
                token(data)

    return read


def streamcore_reader(wire: str, url: str, transport: str) -> Run:
    """Return a reader of `stream_request(...).text()`."""
    address = wire_root(wire, url) if wire in ("anthropic", "mistral") else versioned(wire, url)
    provider = get_provider(wire, api_key="k", model="m", base_url=address, transport=transport)
    request = Request([Message("user", "Count.")])

    async def run() -> int:
        count = 0
        async for _ in stream_request(request, provider=provider).text():
            count += 1
        return count

    return run


async def counted(run: Run) -> int:
    """Return how many tokens a reader finds; `asyncio.Runner` runs coroutines only."""
    return await run()


class Row:
    """One reader on one event loop, and what its rounds took."""

    def __init__(self, runner: asyncio.Runner, run: Run, tokens: int = TOKENS) -> None:
        self._runner, self._run, self._tokens = runner, run, tokens
        self.taken: list[float] = []
        _KEPT.append(self)

    def warm(self) -> None:
        """Read once, and check that the answer is complete."""
        count = self._runner.run(counted(self._run))
        if count != self._tokens:
            sys.exit(f"a reader found {count} of {self._tokens} tokens")

    def measure(self) -> None:
        """Read once, and note the CPU per token in microseconds."""
        gc.collect()
        start = time.process_time()
        self._runner.run(counted(self._run))
        self.taken.append((time.process_time() - start) / self._tokens * 1e6)

    def slope(self, other: Row) -> list[float]:
        """Return what each further token of the longer answer `other` took, by rounds, in microseconds."""
        more = other._tokens - self._tokens
        pairs = zip(self.taken, other.taken, strict=True)
        return [(long * other._tokens - short * self._tokens) / more for short, long in pairs]

    @property
    def shown(self) -> str:
        """The median and the range."""
        return shown(self.taken)


def shown(figures: list[float]) -> str:
    """Return the median and the range."""
    return f"{statistics.median(figures):.1f} ({min(figures):.1f}-{max(figures):.1f})"


def ratio(ours: Row, other: Row) -> float:
    """Return the median of the rounds' own ratios: both rows of a round had the same other load beside them."""
    return statistics.median(one / two for one, two in zip(ours.taken, other.taken, strict=True))


def take_turns(rows: list[Row], rounds: int) -> None:
    """Measure every row in each round."""
    for row in rows:
        row.warm()
    for _ in range(rounds):
        for row in rows:
            row.measure()


def plain(ports: list[int], rounds: int, runners: dict[str, asyncio.Runner]) -> tuple[str, list[Target]]:
    """Measure every wire without TLS; return the table and the targets."""
    url = f"http://127.0.0.1:{ports[0]}"
    lines: dict[str, list[str]] = {}
    targets: list[Target] = []
    for wire in WIRES:
        rows: dict[str, Row] = {}
        for loop, runner in runners.items():
            rows[f"by hand, {loop}"] = Row(runner, runner.run(by_hand(wire, ports[0])))
            rows[f"bare reading, aiohttp, {loop}"] = Row(runner, bare_reader(wire, url, "aiohttp"))
            rows[f"streamcore on aiohttp, {loop}"] = Row(runner, streamcore_reader(wire, url, "aiohttp"))
        take_turns(list(rows.values()), rounds)
        for name, row in rows.items():
            lines.setdefault(name, []).append(row.shown)
        for loop in runners:
            found = ratio(rows[f"streamcore on aiohttp, {loop}"], rows[f"by hand, {loop}"])
            targets.append(Target(f"{wire}: streamcore on aiohttp / by hand, {loop}", found, OF_HAND, unit="x"))
    return table(["", *WIRES], [[name, *cells] for name, cells in lines.items()]), targets


def over_tls(ports: list[int], rounds: int, runners: dict[str, asyncio.Runner]) -> tuple[str, list[Target]]:
    """Measure one wire over TLS; return the table and the targets."""
    lines: dict[str, list[str]] = {}
    targets: list[Target] = []
    for shape, port in SHAPES.items():
        url = f"https://127.0.0.1:{ports[port]}"
        rows: dict[tuple[str, str, str], Row] = {}
        for loop, runner in runners.items():
            hand = runner.run(by_hand("openai", ports[port], tls=True))
            rows["by hand", "httptools", loop] = Row(runner, hand)
            for transport in TRANSPORTS:
                rows["bare reading", transport, loop] = Row(runner, bare_reader("openai", url, transport))
                rows["streamcore", transport, loop] = Row(runner, streamcore_reader("openai", url, transport))
        take_turns(list(rows.values()), rounds)
        for key, row in rows.items():
            lines.setdefault(", ".join(key), []).append(row.shown)
        for loop in runners:
            for transport in TRANSPORTS:
                found = ratio(rows["streamcore", transport, loop], rows["bare reading", transport, loop])
                name = f"TLS, {shape}: streamcore / bare reading, {transport}, {loop}"
                targets.append(Target(name, found, OF_BARE, unit="x"))
    return table(["", *SHAPES], [[name, *cells] for name, cells in lines.items()]), targets


def further(ports: list[int], rounds: int, runners: dict[str, asyncio.Runner]) -> tuple[str, list[Target]]:
    """Measure what each further token costs on every wire, and over TLS; return the table and the targets."""
    lines: dict[str, list[str]] = {}
    targets: list[Target] = []
    runner = runners["asyncio"]
    for wire, tls in (*((wire, False) for wire in WIRES), ("openai", True)):
        rows: dict[tuple[str, str], list[Row]] = {}
        for tokens, port in zip((TOKENS, LONG), (ports[2], ports[5]) if tls else (ports[0], ports[3]), strict=True):
            url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            hand = runner.run(by_hand(wire, port, tls=tls))
            rows.setdefault(("by hand", "httptools"), []).append(Row(runner, hand, tokens))
            for transport in TRANSPORTS:
                bytes_only = bare_reader(wire, url, transport, tokens)
                rows.setdefault(("bare reading", transport), []).append(Row(runner, bytes_only, tokens))
                chunks = streamcore_reader(wire, url, transport)
                rows.setdefault(("streamcore", transport), []).append(Row(runner, chunks, tokens))
        take_turns([row for pair in rows.values() for row in pair], rounds)
        slopes = {key: short.slope(long) for key, (short, long) in rows.items()}
        for key, slope in slopes.items():
            lines.setdefault(", ".join(key), []).append(shown(slope))
        for transport in TRANSPORTS if tls else ():
            both = zip(slopes["streamcore", transport], slopes["bare reading", transport], strict=True)
            found = statistics.median(ours / bytes_only for ours, bytes_only in both)
            what = f"a further token over TLS: streamcore / bare reading, {transport}"
            targets.append(Target(what, found, OF_BARE, unit="x"))
    header = ["", *WIRES, "openai, TLS"]
    return table(header, [[name, *cells] for name, cells in lines.items()]), targets


@contextmanager
def server() -> Generator[list[int]]:
    """Run the server with a certificate made on the spot, which `SSL_CERT_FILE` names; yield its ports."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        made = (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=benchmark -addext subjectAltName=IP:127.0.0.1"
        )
        subprocess.run([*made.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
        both = Path(folder) / "both.pem"
        both.write_text(certificate.read_text("utf-8") + key.read_text("utf-8"), "utf-8")
        os.environ["SSL_CERT_FILE"] = str(certificate)
        script = ROOT / "benchmarks" / "readers" / "burst_server.py"
        command = [sys.executable, str(script), str(both), str(TOKENS), str(LONG)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield [int(port) for port in cast("Any", process.stdout).readline().split()]
            finally:
                process.terminate()


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="at most three rounds; writes nothing")
    options = parser.parse_args()
    rounds = min(3, options.rounds) if options.quick else options.rounds
    start = time.monotonic()
    with server() as ports:
        runners = {name: asyncio.Runner(loop_factory=factory) for name, factory in LOOPS.items()}
        tables = [measure(ports, rounds, runners) for measure in (plain, over_tls, further)]
    targets = [target for _, found in tables for target in found]
    print("\n\n".join([*(one for one, _ in tables), target_table(targets)]))
    if not options.quick:
        ran = about("python benchmarks/limits.py", time.monotonic() - start)
        page = _BODY.format(
            tokens=TOKENS,
            long=LONG,
            rounds=rounds,
            about=ran,
            plain=tables[0][0],
            tls=tables[1][0],
            further=tables[2][0],
            targets=target_table(targets),
        )
        write_section("limits", "benchmarks/limits.py", page)
    sys.stdout.flush()
    os._exit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
