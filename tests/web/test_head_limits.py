"""Test that `serve` limits connections whose client sends no head, or reads no answer, and no others."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Generator
from typing import Any

import anyio.to_thread
import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streamcore.cli.serve import UNREAD_SECONDS, listen, new_server
from streamcore.web.head_limits import limited_heads
from tests.serving import serving
from tests.support import DEADLINE, wait_until

PROTOCOLS = [HttpToolsProtocol, H11Protocol]
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


class Echo:
    """An app that answers with the body, `abcd`, once `gate` is open; without `reads`, it does not wait for it."""

    def __init__(self) -> None:
        self.gate = threading.Event()  # of threads: the test is in another one
        self.gate.set()
        self.reads = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b"" if self.reads else b"abcd"
        while self.reads and (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        await anyio.to_thread.run_sync(self.gate.wait, DEADLINE)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=PROTOCOLS, ids=["httptools", "h11"])
def protocol(request: pytest.FixtureRequest) -> type[asyncio.Protocol]:
    found: type[asyncio.Protocol] = request.param
    return found


@pytest.fixture
def app() -> Echo:
    return Echo()


Connections = list[Any]
"""The connections of the server, in the order in which they were opened."""


@pytest.fixture
def connections() -> Connections:
    return []


@pytest.fixture
def port(app: Echo, protocol: type[asyncio.Protocol], connections: Connections) -> Generator[int]:
    limited = limited_heads(protocol, seconds=600, max_bytes=10_000)

    class Noted(limited):  # type: ignore[valid-type, misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            connections.append(self)

    with serving(app, http=Noted) as url:
        yield int(url.rpartition(":")[2])


def connect(port: int, sent: bytes = b"") -> socket.socket:
    """Open a connection and send bytes."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    connection.sendall(sent)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection."""
    found = b""
    with connection:
        while data := connection.recv(65536):
            found += data
    return found


def time_out(connection: Any, size: int) -> None:
    """Let the timer of a connection run out once so many bytes of a head have arrived."""
    wait_until(lambda: connection.limit.size == size and connection.limit.timer is not None, "the timer runs")
    connection.loop.call_soon_threadsafe(connection.limit.refuse, *connection.limit.timer._args)


def answer(connection: socket.socket) -> bytes:
    """Return the answer to a request whose body is `abcd`."""
    received = b""
    while not received.endswith(b"abcd"):
        received += connection.recv(65536)
    return received


def test_a_connection_that_sends_nothing_is_closed(app: Echo, protocol: type[asyncio.Protocol]) -> None:
    with serving(app, http=limited_heads(protocol, seconds=0.1)) as url:
        assert rest(connect(int(url.rpartition(":")[2]))) == b""


def test_half_a_head_is_a_timeout(port: int, connections: Connections) -> None:
    client = connect(port, HEAD[:20])
    wait_until(lambda: connections, "the connection was opened")
    time_out(connections[0], 20)
    assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_half_a_second_head_is_a_timeout(port: int, connections: Connections) -> None:
    client = connect(port, HEAD + b"abcd")
    assert answer(client).startswith(b"HTTP/1.1 200 ")
    client.sendall(HEAD[:20])
    time_out(connections[0], 20)
    assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_and_an_answer_have_no_timer(port: int, app: Echo, connections: Connections) -> None:
    app.gate.clear()
    with connect(port, HEAD + b"ab") as client:
        wait_until(lambda: connections and connections[0].limit.timer is None, "the head has arrived")
        client.sendall(b"cd")
        wait_until(lambda: not connections[0].cycle.more_body, "the body has arrived")
        assert connections[0].limit.timer is None
        app.gate.set()
        assert answer(client).startswith(b"HTTP/1.1 200 ")


def send_without_end(client: socket.socket) -> None:
    """Send a head without an end, until the server closes the connection."""
    client.sendall(b"GET / HTTP/1.1\r\n")
    with pytest.raises(OSError, match=r"(?i)reset|pipe"):
        for _ in range(20_000):
            client.sendall(b"X-Long: %b\r\n" % (b"a" * 1000))


def test_a_head_without_an_end_is_refused(port: int) -> None:
    with connect(port) as client:
        send_without_end(client)


def test_a_second_head_without_an_end_is_refused(port: int, app: Echo, connections: Connections) -> None:
    app.gate.clear()
    with connect(port, HEAD + b"abcd") as client:
        wait_until(lambda: connections and connections[0].cycle is not None, "the first request has arrived")
        if isinstance(connections[0], HttpToolsProtocol):  # on h11, it is read once the first request is answered
            send_without_end(client)
        app.gate.set()


def test_a_head_without_an_end_behind_a_body_that_nobody_read_is_refused(port: int, app: Echo) -> None:
    app.reads = False
    with connect(port, HEAD) as client:
        assert answer(client).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"abcd")
        send_without_end(client)


def test_serve_limits_heads() -> None:
    config = new_server(object()).config
    config.load()
    assert config.http_protocol_class.__name__ == "LimitedHeads"


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no such option")
def test_connections_of_serve_break_if_the_client_reads_nothing() -> None:
    with listen("127.0.0.1", 0) as listening, connect(listening.getsockname()[1]):
        accepted, _ = listening.accept()
        with accepted:
            seconds = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000
    assert seconds == UNREAD_SECONDS
