"""Play faults over TCP on loopback: exact bytes, resets, stalls and other steps."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from streamcore.testing.faults.steps import Line, Step, play
from streamcore.testing.faults.table import Fault, find_fault
from streamcore.testing.simulator.answers import Answer
from streamcore.testing.simulator.received import ReceivedRequest
from streamcore.wire.encoding.wire import find_wire

Play = Fault | str | Sequence[Step]

ANSWER = Answer(["Héllo", ", wörld", " — ", "你好", " 👋🏽", "\n\n", "  data: x", "\r\n", "end"])
"""The default answer: tokens that are easily cut, joined or stripped wrongly."""

_TURNS = 10
PATIENCE = 30.0
"""Seconds after which `wait_until` gives up."""


class FaultServer:
    """A server on 127.0.0.1 and a free port, in its own thread, that reads each request and plays a fault.

    Use it as a context manager; its end drops every connection and joins the thread.

    Args:
        plays: a fault, its name, or a list of steps for each request in turn; the last one is repeated.
        wire: the wire on which the faults are played, as `openai-chat`.
        answer: the answer that the faults disturb.
        tls: the context with which https is served.

    Raises:
        ConfigError: there is no such wire.
        ValueError: there is nothing to play, or no such fault.
    """

    def __init__(
        self,
        *plays: Play,
        wire: str = "openai-chat",
        answer: Answer = ANSWER,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not plays:
            raise ValueError("FaultServer has nothing to play; give it at least one fault, name or list of steps")
        find_wire(wire)  # else every connection would fail, and in the server's thread
        self._plays = [find_fault(play) if isinstance(play, str) else play for play in plays]
        self._wire = wire
        self._answer = answer
        self._tls = tls
        self.requests: list[ReceivedRequest] = []
        self.connections = 0
        """How many TCP connections were accepted."""
        self.abandoned = 0
        """How many connections the client closed before the last step."""
        self.lines: dict[_Connection, Line] = {}
        """The connections that are open now."""
        self.port = 0
        self._listening: socket.socket | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def _refuses(self) -> bool:
        return isinstance(self._plays[0], Fault) and self._plays[0].place == "closed-port"

    @property
    def url(self) -> str:
        """The root URL for a provider; some faults are in the address itself.

        Raises:
            RuntimeError: the server has not been started.
        """
        if not self.port:
            raise RuntimeError("the FaultServer does not run yet; use it as `with FaultServer(...) as server:`")
        place = self._plays[0].place if isinstance(self._plays[0], Fault) else "server"
        if place == "unknown-host":
            return "http://nowhere.invalid"
        return f"{'https' if self._tls or place == 'https' else 'http'}://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return len(self.lines)

    @property
    def blocked(self) -> bool:
        """True while the server waits for a client that does not read."""
        return any(not line.writable.is_set() for line in list(self.lines.values()))

    @property
    def sent(self) -> int:
        """How many bytes were sent on the connections that are open now."""
        return sum(line.sent for line in list(self.lines.values()))

    def __enter__(self) -> Self:
        listening = self._listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        if not self._refuses:  # else the port is bound and nothing listens
            listening.listen(128)
            listening.setblocking(False)
            self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening)), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._stopping = True
            socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the thread
            self._thread.join()
        if self._listening is not None:
            self._listening.close()

    async def _serve(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        beginning: set[asyncio.Task[None]] = set()
        while True:
            connection, _ = await loop.sock_accept(listening)
            if self._stopping:
                connection.close()
                break
            task = loop.create_task(self._begin(connection))
            beginning.add(task)
            task.add_done_callback(beginning.discard)
        for _ in range(_TURNS):  # of the event loop: accepted connections begin, dropped connections end
            await asyncio.sleep(0)
            for task in list(beginning):
                task.cancel()
            for begun in list(self.lines):
                begun.drop()

    async def _begin(self, connection: socket.socket) -> None:
        with suppress(OSError):  # as after a failed TLS handshake
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(lambda: _Connection(self), connection, ssl=self._tls)

    def next_steps(self) -> Sequence[Step]:
        """Return the steps for the next request."""
        play = self._plays.pop(0) if len(self._plays) > 1 else self._plays[0]
        return play.steps(self._wire, self._answer) if isinstance(play, Fault) else play

    def wait_until(self, condition: Callable[[Self], object], what: str, seconds: float = PATIENCE) -> None:
        """Block the calling thread, and its event loop, until a condition of this server is true.

        Raises:
            TimeoutError: if it is not true within this many seconds.
        """
        deadline = time.monotonic() + seconds
        while not condition(self):
            if time.monotonic() > deadline:
                raise TimeoutError(f"within {seconds:g} s the fault server did not see that {what}")
            time.sleep(0.001)


class _Connection(asyncio.Protocol):
    """The connection of one client: it reads a complete request and plays its steps."""

    def __init__(self, server: FaultServer) -> None:
        self._server = server
        self._received = b""
        self._line: Line | None = None
        self._transport: asyncio.Transport | None = None
        self._playing: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  what create_server always gives
        self._transport = transport
        self._line = Line(transport, self._writable)
        self._server.connections += 1
        self._server.lines[self] = self._line

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.lines.pop(self, None)
        if self._playing is not None and not self._playing.done():
            self._playing.cancel()
            self._server.abandoned += 1

    def drop(self) -> None:
        """Break the connection."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._line is None or self._playing is not None:
            return
        if not self._received[:1].isalpha():
            request: ReceivedRequest | None = None  # not HTTP, as when a client begins with TLS: play the steps anyway
        else:
            request = _request(self._received)
            if request is None:
                return
            self._server.requests.append(request)
        self._playing = asyncio.get_running_loop().create_task(play(self._server.next_steps(), self._line))


def _request(received: bytes) -> ReceivedRequest | None:
    """Return the request, None while it is incomplete."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    if len(body) < int(headers.get("content-length", "0")):
        return None
    try:
        value: dict[str, Any] = json.loads(body or b"{}")
    except ValueError:
        value = {}
    return ReceivedRequest(first.split(" ")[1], headers, value)
