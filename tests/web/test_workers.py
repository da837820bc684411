"""Run two workers of `streamcore serve` over one Redis: a client that reconnects to either gets exactly the rest."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.testing import Answer, Simulator
from tests.servers import RedisServer
from tests.serving import listen, messages_in, reading, text_of
from tests.support import wait_until
from tests.web.test_serve import refused, served

pytestmark = [pytest.mark.real, pytest.mark.long]
WORDS = [f"w{number} " for number in range(300)]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def workers(stack: ExitStack, redis: RedisServer, simulator: Simulator, *more: str) -> list[tuple[Any, str]]:
    arguments = ("chat", "--provider", "openai", "--model", "m", "--relay", redis.url, "--name", "shop", *more)
    return [stack.enter_context(served(*arguments, simulator=simulator)) for _ in range(2)]


def test_read_on_at_the_other_worker_and_go_on_talking_there(redis: RedisServer) -> None:
    with Simulator(Answer(WORDS), rate=200) as simulator, ExitStack() as stack:
        (_, first), (_, second) = workers(stack, redis, simulator)
        begun = httpx2.post(f"{first}/start", json={"prompt": "One?", "session_id": "s"}).json()
        whole = listen(second, f"/{begun['stream']}&format=json")
        assert text_of(whole) == "".join(WORDS)
        for url in (first, second):
            rest = listen(url, "/stream/s?prompt=One%3F&format=json", headers={"Last-Event-ID": whole[99].id})
            assert rest == whole[100:]
        assert httpx2.get(f"{second}/state/s").json()["turns"][0]["user"] == "One?"
        with socket.create_connection(("127.0.0.1", redis.port)) as asked:
            asked.sendall(b"TTL streamcore:thread:shop//s\r\n")
            kept = int(asked.recv(100)[1:])
        assert 7 * 24 * 3600 - 100 < kept <= 7 * 24 * 3600
        listen(second, "/stream/s?prompt=Two%3F")
        assert len(simulator.requests) == 2
        assert len(simulator.requests[1].body["messages"]) == 4


def test_one_run_in_a_conversation_on_all_workers_and_stop_from_any(redis: RedisServer) -> None:
    with Simulator(Answer(["w "] * 9000), rate=20) as simulator, ExitStack() as stack:
        (_, first), (_, second) = workers(stack, redis, simulator)
        assert httpx2.post(f"{first}/start", json={"prompt": "x", "session_id": "s"}).status_code == 201
        assert httpx2.post(f"{second}/start", json={"prompt": "x", "session_id": "s"}).status_code == 409
        assert httpx2.get(f"{second}/state/s").json()["status"] == "running"
        wait_until(lambda: simulator.open == 1, "the model was asked")
        assert httpx2.post(f"{second}/stop/s", timeout=60).json() == {"stopped": True}
        wait_until(lambda: (simulator.open, simulator.abandoned) == (0, 1), "the upstream was closed")
        assert "stream-error" not in [one.name for one in listen(first, "/stream/s?format=json")]


def test_an_address_is_limited_on_all_workers(redis: RedisServer) -> None:
    with Simulator(Answer(["w "] * 9000), rate=100) as simulator, ExitStack() as stack:
        (_, first), (_, second) = workers(stack, redis, simulator, "--max-per-user", "2")
        codes = [httpx2.post(f"{url}/start", json={"prompt": "x"}).status_code for url in (first, second) * 2]
        assert codes == [201, 201, 429, 429]


def test_a_worker_that_is_stopped_sends_its_readers_to_the_others(redis: RedisServer) -> None:
    words = [f"w{number} " for number in range(9000)]  # it must outlast the shutdown, also on a busy machine
    with Simulator(Answer(words), rate=25) as simulator, ExitStack() as stack:
        (_, first), (process, second) = workers(stack, redis, simulator)
        begun = httpx2.post(f"{first}/start", json={"prompt": "x"}).json()
        path = f"/{begun['stream']}&format=json"
        reader, came, some = reading(second, path, "w20 ")
        assert some.wait(60)
        process.send_signal(signal.SIGTERM)
        reader.join(60)
        assert process.wait(60) in (0, -signal.SIGTERM)
        begin = messages_in(b"".join(came))
        assert {one.name for one in begin} == {"message"}  # no end: it goes on
        assert httpx2.post(f"{first}/stop/{begun['session_id']}", timeout=60).json() == {"stopped": True}
        rest = listen(first, path, headers={"Last-Event-ID": begin[-1].id})
        text = text_of([*begin, *rest])
        assert len(text) > len(text_of(begin))
        assert text == "".join(words)[: len(text)]
        assert {one.name for one in rest} == {"message", "done"}
        assert len(simulator.requests) == 1


def test_without_its_redis_the_service_answers_503_and_recovers(redis: RedisServer) -> None:
    with Simulator("Yes.") as simulator, ExitStack() as stack:
        ((_, url), _) = workers(stack, redis, simulator)
        listen(url, "/stream?prompt=x")
        redis.kill()
        for answer in (
            httpx2.get(f"{url}/stream?prompt=x", timeout=60),
            httpx2.post(f"{url}/start", json={"prompt": "x"}, timeout=60),
            httpx2.get(f"{url}/state/s", timeout=60),
        ):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert httpx2.get(f"{url}/health").json()["running"] == 0
        redis.start()
        listen(url, "/stream?prompt=x")
        assert len(simulator.requests) == 2


def test_a_redis_that_cannot_be_named_is_refused_at_the_start() -> None:
    assert "redis://" in refused("chat", "--provider", "demo", "--relay", "http://127.0.0.1:1")
