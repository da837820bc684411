"""Test that one simulator serves a thousand streams at once, whole and on time, and reports its own lag."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from streamcore.testing.simulator.pacer import Lag, Pacer
from tests.commands import environment

STREAMS = 1000
TOKENS = 50
RATE = 50  # a token every 20 ms
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Go"}]}).encode()


async def read_one(port: int) -> tuple[bytes, float]:
    """Return the body of an answer and how many seconds it took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
    start = asyncio.get_running_loop().time()
    writer.write(head.encode() + BODY)
    received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received.partition(b"\r\n\r\n")[2], asyncio.get_running_loop().time() - start


@pytest.mark.long
def test_a_thousand_streams() -> None:
    command = [sys.executable, "-m", "streamcore.testing", "--rate", str(RATE), "--tokens", str(TOKENS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().rpartition(":")[2])

        async def main() -> list[tuple[bytes, float]]:
            return await asyncio.gather(*(read_one(port) for _ in range(STREAMS)))

        try:
            answers = asyncio.run(main())
        finally:
            server.send_signal(signal.SIGINT)
            reported = server.stdout.read()
    bodies = {body for body, _ in answers}
    assert len(bodies) == 1  # whole, each of them
    assert bodies.pop().rstrip().endswith(b"0")
    assert min(seconds for _, seconds in answers) >= TOKENS / RATE  # never too early
    print(reported.splitlines()[-1])
    assert f"streams: {STREAMS} served, 0 abandoned, 0 open" in reported
    assert "own lag p50 " in reported


class Client:
    """A connection that records what is written."""

    def __init__(self, limit: int = 1000) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.written: list[bytes] = []
        self._limit = limit

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == self._limit:
            self.writable.clear()


def test_pieces_go_in_order_at_their_times() -> None:
    async def main() -> float:
        pacer, client, other = Pacer(), Client(), Client()
        start = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pacer.play([(0.0, b"a"), (0.05, b"b"), (0.1, b"c")], client))
            tasks.create_task(pacer.play([(0.02, b"x")], other))
        assert (client.written, other.written) == ([b"a", b"b", b"c"], [b"x"])
        assert pacer.lag.count == 4
        return asyncio.get_running_loop().time() - start

    assert asyncio.run(main()) >= 0.1


def test_a_slow_client_is_waited_for_and_is_not_our_lag() -> None:
    async def main() -> None:
        pacer, client = Pacer(), Client(limit=2)
        playing = asyncio.create_task(pacer.play([(number * 0.01, b"x") for number in range(5)], client))
        await asyncio.sleep(1)
        assert len(client.written) == 2
        client.writable.set()
        await playing
        assert len(client.written) == 5
        assert pacer.lag.longest < 0.9  # the second that the client slept is its own

    asyncio.run(main())


def test_a_client_that_leaves_is_forgotten() -> None:
    async def main() -> None:
        pacer, client = Pacer(), Client()
        playing = asyncio.create_task(pacer.play([(0.0, b"a"), (0.05, b"b")], client))
        while not client.written:  # noqa: ASYNC110
            await asyncio.sleep(0)
        playing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await playing
        await pacer.play([(0.1, b"c")], other := Client())
        assert (client.written, other.written) == ([b"a"], [b"c"])

    asyncio.run(main())


def test_quantiles() -> None:
    lag = Lag()
    assert lag.quantile(0.5) == 0.0
    for number in range(1, 101):
        lag.add(number / 1000)
    assert lag.quantile(0.5) == pytest.approx(0.050, abs=0.0002)
    assert lag.quantile(0.99) == pytest.approx(0.099, abs=0.0002)
    assert lag.quantile(1.0) == lag.longest == 0.1
    lag.add(7.5)
    assert lag.quantile(1.0) == 7.5
