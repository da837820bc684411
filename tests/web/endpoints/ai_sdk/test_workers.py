"""Resume and stop chats of the AI SDK at another worker over one Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from streamcore.testing import Answer, Simulator
from tests.servers import RedisServer
from tests.support import wait_until
from tests.web.endpoints.ai_sdk.test_chat import body, chunks, half_read, text
from tests.web.test_workers import WORDS, workers

pytestmark = [pytest.mark.real, pytest.mark.long]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def test_a_chat_is_resumed_and_stopped_at_the_other_worker(redis: RedisServer) -> None:
    asked = {**body(), "model": "chat"}
    with Simulator(Answer(WORDS), rate=200) as simulator, ExitStack() as stack:
        (_, first), (_, second) = workers(stack, redis, simulator)
        resume = "/api/chat/c1/stream"
        assert httpx2.get(second + resume, timeout=60).status_code == 204
        with half_read(first, asked, "w3 ") as received:
            begun = json.loads(received.split("\n\n")[0].removeprefix("data: "))
        running = chunks(httpx2.get(second + resume, timeout=60))
        assert (running[0], text(running), running[-1]["type"]) == (begun, "".join(WORDS), "finish")
        for url in (first, second):  # a client may have lost the end: it is sent again
            assert chunks(httpx2.get(url + resume, timeout=60)) == running
        assert len(simulator.requests) == 1
    with Simulator(Answer(["w "] * 100_000), rate=100) as simulator, ExitStack() as stack:
        (_, first), (_, second) = workers(stack, redis, simulator)
        with half_read(first, {**asked, "id": "c2"}, "w "):
            stopped = httpx2.post(f"{second}/api/chat/c2/stop", timeout=60)
            assert stopped.json() == {"success": True, "stopped": True}
        wait_until(lambda: simulator.open == 0, "the upstream was closed")
        for url in (first, second):
            assert httpx2.get(f"{url}/api/chat/c2/stream", timeout=60).status_code == 204
        with half_read(first, {**asked, "id": "c3"}, "w "):
            pass
        with half_read(second, {**asked, "id": "c3"}, "w "):  # a new message, at the other worker
            wait_until(lambda: simulator.abandoned == 2, "the first answer was closed")
            assert simulator.open == 1
        assert httpx2.post(f"{first}/api/chat/c3/stop", timeout=60).json()["stopped"] is True
