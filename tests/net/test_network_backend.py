"""Test the connections of our clients on httpx2: what is written at once, the errors, and trio, which has no other."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import anyio
import httpcore2
import pytest

from streamcore.net.asyncio_stream import AsyncioStream
from streamcore.net.network_backend import NetworkBackend
from tests.private_ca import PrivateCA, new_private_ca
from tests.support import DEADLINE, eventually, one_connection

pytestmark = pytest.mark.anyio
HEAD, BODY = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", b"body"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorder(httpcore2.AsyncNetworkStream):
    """A connection that keeps what is written to it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.written: list[bytes] = []
        self.fails = fails

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return RESPONSE

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self.fails:
            raise httpcore2.WriteError
        self.written.append(buffer)

    async def aclose(self) -> None:
        pass


class RecordingBackend(httpcore2.AsyncNetworkBackend):
    """Opens one connection."""

    def __init__(self, stream: Recorder) -> None:
        self.stream = stream

    async def connect_tcp(self, *where: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return self.stream


async def recorded(*, fails: bool = False) -> tuple[httpcore2.AsyncNetworkStream, Recorder]:
    stream = Recorder(fails=fails)
    return await NetworkBackend(RecordingBackend(stream)).connect_tcp("host", 80), stream


async def test_head_and_body_are_one_write() -> None:
    connection, inner = await recorded()
    for _ in range(2):
        await connection.write(HEAD)
        assert not inner.written
        for more in (BODY, b"more"):
            await connection.write(more)
        assert inner.written == [HEAD + BODY, b"more"]
        assert await connection.read(100) == RESPONSE
        inner.written.clear()


async def test_a_request_without_a_body_is_written_before_its_response_is_read() -> None:
    connection, inner = await recorded()
    await connection.write(HEAD)
    assert await connection.read(100) == RESPONSE
    assert inner.written == [HEAD]


async def test_an_empty_part_of_a_body_is_not_written() -> None:
    connection, inner = await recorded()
    await connection.write(HEAD)
    for _ in range(2):
        await connection.write(b"")
        assert inner.written == [HEAD]


async def test_what_is_no_head_is_written_at_once() -> None:
    """After status 101, another protocol uses the connection: one task may write while another one waits for data."""
    connection, inner = await recorded()
    await connection.write(HEAD)
    await connection.read(100)
    for _ in range(2):
        await connection.write(b"frame")
    assert inner.written == [HEAD, b"frame", b"frame"]


async def test_other_tasks_run_between_the_parts_of_a_body() -> None:
    connection, _ = await recorded()
    ran = anyio.Event()

    async def run() -> None:
        ran.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await connection.write(HEAD)
        for _ in range(4):
            await connection.write(BODY)
        assert ran.is_set()


async def test_a_response_is_read_even_if_the_request_could_not_be_written() -> None:
    """A server may answer and close before it has read all, as with status 413; httpcore2 reads that answer."""
    connection, _ = await recorded(fails=True)
    await connection.write(HEAD)
    assert await connection.read(100) == RESPONSE
    await connection.write(HEAD)
    with pytest.raises(httpcore2.WriteError):
        await connection.write(BODY)


async def connect(port: int) -> Any:
    """Connect with the backend that httpcore2 takes by default."""
    pool: Any = httpcore2.AsyncConnectionPool()
    return await NetworkBackend(pool._network_backend).connect_tcp("127.0.0.1", port)


async def test_a_connection_is_read_without_anyio_s_stream_on_asyncio_only(anyio_backend_name: str) -> None:
    received: list[bytes] = []

    def serve(to: socket.socket) -> None:
        received.append(to.recv(1 << 16))
        to.sendall(RESPONSE)

    with one_connection(serve) as port:
        connection = await connect(port)
        assert isinstance(connection._socket, AsyncioStream) is (anyio_backend_name == "asyncio")
        await connection.write(HEAD)
        await connection.write(BODY)
        assert await connection.read(1 << 16) == RESPONSE
        assert await connection.read(1 << 16) == b""
        assert connection.get_extra_info("is_readable")
        assert connection.get_extra_info("server_addr")[1] == port
        await connection.aclose()
    assert received == [HEAD + BODY]


async def test_an_answer_that_nobody_asked_for_is_seen() -> None:
    """A server may send status 408 on an idle connection: httpcore2 must not take it for the next response."""
    idle, done = threading.Event(), threading.Event()

    def serve(to: socket.socket) -> None:
        to.recv(1 << 16)
        to.sendall(RESPONSE)
        assert idle.wait(DEADLINE)
        to.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert done.wait(DEADLINE)

    with one_connection(serve) as port:
        connection = await connect(port)
        await connection.write(HEAD + BODY)
        assert await connection.read(1 << 16) == RESPONSE
        assert not connection.get_extra_info("is_readable")
        idle.set()
        await eventually(lambda: connection.get_extra_info("is_readable"), "the answer arrives")
        await connection.aclose()
        done.set()


async def test_timeouts_and_a_closed_connection_are_errors_of_httpcore2() -> None:
    done = threading.Event()
    with one_connection(lambda to: done.wait(DEADLINE)) as port:
        connection = await connect(port)
        with pytest.raises(httpcore2.ReadTimeout):
            await connection.read(100, timeout=0.01)
        await connection.write(HEAD)
        with pytest.raises(httpcore2.WriteTimeout):
            await connection.write(bytes(1 << 26), timeout=0.05)
        await connection.aclose()
        with pytest.raises(httpcore2.ReadError):
            await connection.read(100)
        await connection.write(HEAD)
        with pytest.raises(httpcore2.WriteError):
            await connection.write(BODY)
        done.set()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return new_private_ca(tmp_path_factory.mktemp("authority"))


async def test_a_tls_handshake_that_is_cancelled_ends_the_connection(authority: PrivateCA) -> None:
    begun, ended = threading.Event(), threading.Event()

    def serve(to: socket.socket) -> None:
        assert to.recv(1 << 16)
        begun.set()
        assert to.recv(1 << 16) == b""
        ended.set()

    with one_connection(serve) as port:
        connection = await connect(port)
        async with anyio.create_task_group() as group:
            group.start_soon(connection.start_tls, authority.client(), "localhost")
            await eventually(begun.is_set, "the handshake begins")
            group.cancel_scope.cancel()
        await eventually(ended.is_set, "the connection ends")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("ending", ["eof", "broken", "close_notify"])
async def test_one_read_returns_all_records_that_arrived(
    version: ssl.TLSVersion, ending: str, authority: PrivateCA, anyio_backend_name: str
) -> None:
    """A broken record is an error after those before it, and after the last record the connection is not used again."""
    broken = ending == "broken"
    seen = threading.Event()
    context = authority.server()
    context.maximum_version = version
    records = [b"record %d " % number for number in range(50)]

    def serve(to: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                assert tls.read(8) == b"pi\r\n\r\nng"
                break
            except ssl.SSLWantReadError:
                if outgoing.pending:
                    to.sendall(outgoing.read())
                incoming.write(to.recv(1 << 16))
        for record in records:
            tls.write(record)
        if ending == "close_notify":
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
        to.sendall(outgoing.read() + (b"\x17\x03\x03\x00\x20" + b"x" * 32 if broken else b""))
        if ending != "eof" and anyio_backend_name == "asyncio":
            assert seen.wait(DEADLINE)

    with one_connection(serve) as port, anyio.fail_after(DEADLINE):
        connection = await (await connect(port)).start_tls(authority.client(), "localhost", 5.0)
        for part in (b"pi\r\n\r\n", b"ng"):
            await connection.write(part)
        reads: list[bytes] = []
        error: Exception | None = None
        try:
            while data := await connection.read(1 << 16):
                reads.append(data)
                if ending != "eof" and anyio_backend_name == "asyncio":
                    assert connection.get_extra_info("is_readable")
                    seen.set()
        except (ssl.SSLError, httpcore2.ReadError) as caught:
            error = caught
        await connection.aclose()
    assert b"".join(reads) == b"".join(records)
    assert (error is not None) is broken
    if anyio_backend_name == "asyncio":
        assert len(reads) == 1
        assert broken is isinstance(error, ssl.SSLError)
