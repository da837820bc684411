"""Interrupt connections, workers and Redis during runs: real processes, a real Redis, real HTTP."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx2
import pytest

from streamcore.testing import Answer, Simulator
from tests.relay_workers import Browser, Workers, until_zero
from tests.support import TRIES, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.long]

PIECES = (
    *("The", " quick", "\r", "\n", " brown", " fox\r\n", " 日本", "👩"),
    *(" [DONE]", " <b>&amp;", "\n\n", "\r", "\r", " x"),
)
SECONDS = (2.0, 10.0, 40.0)
"""Leases and grace periods: a busy machine that cannot meet a short one meets a longer one."""


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that redis-py knows."""
    return "asyncio"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client that uses a new connection for each request."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(timeout=30, limits=limits) as client:
        yield client


def answer_of(count: int) -> tuple[Answer, str]:
    """Return an answer of this many hostile tokens, and its text."""
    tokens: list[str] = []
    for number in range(count):
        piece = PIECES[number % len(PIECES)]
        tokens.append(piece + str(number) if piece.isprintable() and number % 3 == 0 else piece)
    return Answer(tokens), joined("".join(tokens))


def shown(text: str, fmt: str) -> str:
    """Return the text as a format can represent it."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if fmt == "text" else text


def joined(text: str) -> str:
    """Put the halves of surrogate pairs together, as a browser's strings do."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


@pytest.mark.parametrize(("words", "reconnects"), [(400, 40), (1500, 200)])
async def test_many_reconnects_to_random_workers(
    tmp_path: Path, client: httpx2.AsyncClient, words: int, reconnects: int
) -> None:
    """Each reader, in each format, gets every character once; each answer is generated once."""
    answer, text = answer_of(words)
    with Simulator(answer, rate=300) as simulator, Workers(tmp_path, simulator) as workers:
        chance = random.Random(11)
        browsers = [Browser(client, workers.urls, f"run-{fmt}", fmt, chance) for fmt in ("text", "json", "html")]
        for browser in browsers:
            (await client.post(f"{chance.choice(workers.urls)}/{browser.run_id}")).raise_for_status()
        async with anyio.create_task_group() as group:
            for browser in browsers:
                group.start_soon(browser.read_all, 30)
        for browser in browsers:
            assert browser.error is None
            assert joined(browser.text) == shown(text, browser.format)
            assert browser.last_id == f"{browser.run_id}.end"
        assert sum(browser.reconnects for browser in browsers) >= reconnects
        assert len(simulator.requests) == 3
        late = Browser(client, workers.urls, "run-json", "json")
        await late.read()
        assert (joined(late.text), late.done) == (text, True)
        had_all = Browser(client, workers.urls, "run-json", "json", last_id="end")
        await had_all.read()
        assert (had_all.text, had_all.done) == ("", True)


async def test_three_simultaneous_starts(tmp_path: Path, client: httpx2.AsyncClient) -> None:
    with Simulator(answer_of(20)[0]) as simulator, Workers(tmp_path, simulator) as workers:
        for run in range(5):
            codes: list[int] = []

            async def start(url: str) -> None:
                codes.append((await client.post(url)).status_code)  # noqa: B023  done before the next round

            async with anyio.create_task_group() as group:
                for url in workers.urls:
                    group.start_soon(start, f"{url}/run-{run}")
            assert sorted(codes) == [200, 409, 409]
            await Browser(client, workers.urls, f"run-{run}", "json").read()
        assert len(simulator.requests) == 5


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_producer_that_is_killed_or_suspended(
    tmp_path: Path, client: httpx2.AsyncClient, fate: signal.Signals
) -> None:
    """Readers get what was written and then an error, within the lease; a producer that resumes adds nothing."""
    for lease in SECONDS:
        if await seconds_until_the_loss_is_seen(tmp_path, client, fate, lease) < lease:
            return
    raise AssertionError(f"readers never got the error within the lease, with any of {SECONDS}")


async def seconds_until_the_loss_is_seen(
    folder: Path, client: httpx2.AsyncClient, fate: signal.Signals, lease: float
) -> float:
    """Lose a producer while somebody reads, and return after how many seconds that reader got the error."""
    answer, text = answer_of(5000)
    with Simulator(answer, rate=100) as simulator, Workers(folder, simulator, lease=lease) as workers:
        await client.post(f"{workers.urls[0]}/run")
        others = workers.urls[1:]
        browser = Browser(client, others, "run", "json")
        await browser.read(60)
        begun, ended = 0.0, list[float]()

        async def read_on() -> None:
            await browser.read()
            ended.append(time.monotonic())

        async with anyio.create_task_group() as group:
            seen = len(browser.text)
            group.start_soon(read_on)
            await eventually(lambda: len(browser.text) > seen or browser.done, "it reads on")
            if browser.done:  # the machine is so busy that the lease expired
                return math.inf
            workers.send(0, fate)
            begun = time.monotonic()
        assert browser.done
        assert json.loads(browser.error or "")["type"] == "StreamInterrupted"
        assert browser.text
        assert joined(browser.text).startswith(text[:50])
        assert text.startswith(joined(browser.text))
        if fate == signal.SIGSTOP:
            workers.send(0, signal.SIGCONT)
            await until_zero(client, workers.urls[0])
            await eventually(lambda: not simulator.open, "the vendor's response is closed")
        late = Browser(client, others, "run", "json")
        await late.read()
        assert (late.text, late.error) == (browser.text, browser.error)
        assert len(simulator.requests) == 1
        return ended[0] - begun


async def test_redis_is_killed_and_restarts_empty(tmp_path: Path, client: httpx2.AsyncClient) -> None:
    """End every reader with an error; later the run has expired, and no vendor is read any more."""
    answer, text = answer_of(5000)
    with Simulator(answer, rate=100) as simulator, Workers(tmp_path, simulator, lease=5) as workers:
        await client.post(f"{workers.urls[0]}/run")
        browsers = [Browser(client, [url], "run", "json") for url in workers.urls]
        for browser in browsers:
            await browser.read(20)
        async with anyio.create_task_group() as group:
            seen = [len(browser.text) for browser in browsers]
            for browser in browsers:
                group.start_soon(browser.read)
            await eventually(
                lambda: all(len(browser.text) > had for browser, had in zip(browsers, seen, strict=True)), "all read on"
            )
            workers.redis.kill()
        for browser in browsers:
            assert browser.done
            assert json.loads(browser.error or "")["type"] in ("RelayError", "StreamInterrupted")
            assert text.startswith(joined(browser.text))
        await eventually(lambda: not simulator.open, "the vendor's response is closed")
        workers.redis.start()
        for url in workers.urls:
            again = Browser(client, [url], "run", "json", last_id="20")
            await again.read()
            assert json.loads(again.error or "")["type"] == "RunExpired"
            assert (await client.get(f"{url}/run?format=json")).status_code == 404
        await client.post(f"{workers.urls[0]}/run")  # another run of that name, which has fewer entries
        again = Browser(client, workers.urls, "run", "json", last_id="4000")
        await again.read()
        assert json.loads(again.error or "")["type"] == "RunExpired"


@pytest.mark.parametrize("command", ["stop", "cancel"])
async def test_an_end_from_another_worker(tmp_path: Path, client: httpx2.AsyncClient, command: str) -> None:
    """The vendor's response is closed within a second; readers see an end, or an error."""
    times: list[float] = []
    with Simulator(answer_of(5000)[0], rate=100) as simulator, Workers(tmp_path, simulator, count=2) as workers:
        for number in range(TRIES):
            run = f"run-{number}"
            await client.post(f"{workers.urls[0]}/{run}")
            browser = Browser(client, workers.urls, run, "json")
            await browser.read(20)
            begun = time.monotonic()
            assert (await client.post(f"{workers.urls[1]}/{run}/{command}")).json() is True
            await eventually(lambda: not simulator.open, "the vendor's response is closed")
            times.append(time.monotonic() - begun)
            await browser.read()
            assert browser.done
            assert (browser.error is None) == (command == "stop")
            assert (await client.post(f"{workers.urls[1]}/{run}/{command}")).json() is False
            if times[-1] < 1:
                break
    assert min(times) < 1


async def test_a_run_without_a_reader_is_cancelled(tmp_path: Path, client: httpx2.AsyncClient) -> None:
    """The run is cancelled within the grace period; one whose reader is on another worker goes on."""
    for grace in SECONDS:
        if grace / 2 < await seconds_until_cancelled(tmp_path, client, grace) < grace:
            return
    raise AssertionError(f"the run was never cancelled within the grace period, with any of {SECONDS}")


async def seconds_until_cancelled(folder: Path, client: httpx2.AsyncClient, grace: float) -> float:
    """Leave a run while another one is read, and return after how many seconds it was cancelled."""
    seconds = 0.0
    with (
        Simulator(answer_of(5000)[0], rate=100) as simulator,
        Workers(folder, simulator, count=2, grace=grace) as workers,
    ):
        await client.post(f"{workers.urls[0]}/read")
        read = Browser(client, workers.urls[1:], "read", "text")
        async with anyio.create_task_group() as group:
            group.start_soon(read.read)
            await client.post(f"{workers.urls[0]}/left")
            left = Browser(client, workers.urls, "left", "text")
            await left.read(5)
            begun = time.monotonic()
            await eventually(lambda: simulator.open <= 1, "the run that was left is closed")
            seconds = time.monotonic() - begun
            if read.done:  # the machine is so busy that its reader was not seen either
                return math.inf
            await left.read()
            assert "had no reader for" in (left.error or "")
            await client.post(f"{workers.urls[1]}/read/stop")
        assert read.error is None
    return seconds
