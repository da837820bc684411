"""Provide what tests of SSE share: services in processes and threads, a browser's parser, hostile tokens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from streamcore.testing import Simulator
from tests.support import DEADLINE, KEY, free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent

# A page must show this to the last character and run nothing of it. Without CR: format `text` cannot carry it.
HOSTILE = (
    *("Line one\n", "\n", "\n\n", "  indented", " ", "   ", "\t", "tab\tin", "[DONE]", " [DONE] ", "[DONE]\n"),
    *("<script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 2'>", "</span><b>bold</b>"),
    *("<svg onload=window.hacked=3>", "&amp; &lt;", "\"quotes\" 'too'", "data: x", "\n: comment", "\nevent: error\n\n"),
    *("😀", "👨‍👩‍👧", "漢字かな交じり", "مرحبا", "e\u0301", "\u2028", "\u00a0", "\ufeff", "{{x}}", "`${x}`", " end "),
)
RETURNS = ("CR\r", "\nCRLF across tokens", "\r", "in\rside", "\r\n")


@dataclass(frozen=True, slots=True)
class Event:
    """One event as EventSource would dispatch it."""

    data: str
    event: str = "message"
    id: str = ""


def parse(body: bytes) -> list[Event]:
    """Read a body as a browser does, for LF as its only line end (a CR in it fails)."""
    assert b"\r" not in body
    events: list[Event] = []
    data: list[str] = []
    name, last_id = "message", ""
    for line in body.decode().split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                events.append(Event("\n".join(data), name, last_id))
            data, name = [], "message"
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            last_id = value
        else:
            assert field == "", line  # a comment
    assert not data, "the body ends inside of an event"
    return events


def wait_for_port(port: int) -> None:
    def answers() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    wait_until(answers, f"something listens on port {port}")


@contextmanager
def process(
    script: str, simulator: Simulator, *, port: int = 0, **environment: str
) -> Generator[tuple[subprocess.Popen[str], int]]:
    """Run a script that serves on `--port`, asking the simulator; yield the process and the port."""
    port = port or free_port()
    variables = {
        "STREAMCORE_PROVIDER": "openai",
        "OPENAI_BASE_URL": simulator.base_url("openai"),
        "OPENAI_API_KEY": KEY,
        "OPENAI_MODEL": "m",
    }
    running = subprocess.Popen(
        [sys.executable, str(ROOT / script), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **variables, **environment},
    )
    try:
        wait_for_port(port)
        yield running, port
    finally:
        running.kill()
        running.communicate()


class _Server(uvicorn.Server):
    """Serve from a thread, which may not handle signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextmanager
def service(app: Any, **options: Any) -> Generator[int]:
    """Serve an ASGI app with uvicorn from a thread; yield the port."""
    port = free_port()
    options.setdefault("loop", "asyncio")
    server = _Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2, **options)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for_port(port)
        yield port
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        assert not thread.is_alive()


def ask(
    port: int,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    receive_buffer: int = 0,
) -> socket.socket:
    """Send a request, and return the socket of its response."""
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(DEADLINE)
    client.connect(("127.0.0.1", port))
    lines: Sequence[str] = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    return client


def receive_until(client: socket.socket, wanted: bytes) -> bytes:
    """Receive until some bytes have arrived."""
    received = b""
    while wanted not in received:
        more = client.recv(65536)
        assert more, f"the connection ended before {wanted!r}: {received[-500:]!r}"
        received += more
    return received


def receive_rest(client: socket.socket) -> bytes:
    """Receive until the end of the connection, or of the chunked body."""
    received = b""
    while not received.endswith(b"\r\n0\r\n\r\n"):
        more = client.recv(65536)
        if not more:
            break
        received += more
    return received


def seconds_until(condition: Any, what: str) -> float:
    """Wait until a condition is true, and return the seconds that it took."""
    start = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - start
