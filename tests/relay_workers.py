"""Run several workers of a relay as processes, and read from them as a browser does that loses its connection."""

from __future__ import annotations

import html
import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import httpx2

from streamcore.testing import Simulator
from tests.servers import RedisServer
from tests.support import free_port, wait_until


class Workers:
    """Processes that serve `tests.relay_worker`, a Redis and a simulator; all stop with the test."""

    def __init__(self, folder: Path, simulator: Simulator, *, count: int = 3, lease: float = 60, grace: float = 60):
        self.simulator = simulator
        self.redis = RedisServer(folder)
        self._arguments = (simulator.base_url("openai"), str(lease), str(grace))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()
        self.urls: list[str] = []
        self._count = count

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        stack.enter_context(self.redis)
        for _ in range(self._count):
            port = free_port()
            command = [sys.executable, "-m", "tests.relay_worker", str(port), self.redis.url, *self._arguments]
            process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdin=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)
            self._processes.append(process)
            self.urls.append(f"http://127.0.0.1:{port}")
        for process, url in zip(self._processes, self.urls, strict=True):
            wait_until(lambda: _answers(url, process), "a worker answers")  # noqa: B023  called here only

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def send(self, worker: int, number: signal.Signals) -> None:
        """Send a worker a signal."""
        self._processes[worker].send_signal(number)


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "a worker ended at once"
    try:
        return httpx2.get(f"{url}/running", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


@dataclass(slots=True)
class Browser:
    """Read one run as EventSource does: remember the last id, and send it when connecting again."""

    client: httpx2.AsyncClient
    urls: Sequence[str]
    run_id: str
    format: str
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    last_id: str | None = None
    text: str = ""
    reconnects: int = 0
    error: str | None = None
    done: bool = False
    first_worker: int | None = None

    async def read(self, messages: int | None = None) -> None:
        """Connect to a random worker, and read so many messages, or to the end."""
        headers = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        url = f"{self.chance.choice(self.urls)}/{self.run_id}"
        seen = 0
        async with self.client.stream("GET", url, params={"format": self.format}, headers=headers) as response:
            response.raise_for_status()
            async for block in _blocks(response):
                seen += self._take(block)
                if self.done or (messages is not None and seen >= messages):
                    return

    async def read_all(self, most: int) -> None:
        """Read to the end, over connections that break after at most so many messages."""
        while not self.done:
            await self.read(self.chance.randint(1, most))
            self.reconnects += not self.done

    def _take(self, block: str) -> bool:
        lines = (line.partition(": ") for line in block.split("\n") if not line.startswith(":"))
        fields = [(name, value) for name, _, value in lines]
        data = [value for name, value in fields if name == "data"]
        named = dict(fields)
        self.last_id = named.get("id", self.last_id)
        if not data:
            return False
        text, event = "\n".join(data), named.get("event", "message")
        if event == "done" or (self.format == "text" and text == "[DONE]" and event == "message"):
            self.done = True
        elif event == "stream-error":
            self.error = text
        else:
            self.text += self._said(text)
        return True

    def _said(self, text: str) -> str:
        if self.format == "text":
            return text
        if self.format == "html":
            return html.unescape(text.removeprefix("<span>").removesuffix("</span>"))
        found: dict[str, Any] = json.loads(text)
        return found["text"] if found["kind"] == "text" else ""  # a gap would fail here: no run is as long


async def _blocks(response: httpx2.Response) -> AsyncIterator[str]:
    """Yield the blocks of an event stream."""
    rest = b""
    async for data in response.aiter_bytes():
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            yield block.decode()


async def until_zero(client: httpx2.AsyncClient, url: str) -> None:
    """Wait until a worker produces no run any more."""
    for _ in range(1000):
        if (await client.get(f"{url}/running")).json() == 0:
            return
        await anyio.sleep(0.02)
    raise AssertionError("a run never ends")
