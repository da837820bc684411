"""Test the stream of a socket on asyncio beside anyio's own, which is the model: the same bytes, ends and errors."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import httpcore2
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSStream

from streamcore.net.asyncio_stream import AsyncioStream
from streamcore.net.httpx2_private import byte_stream, use_asyncio_stream
from streamcore.net.network_backend import NetworkBackend
from tests.private_ca import PrivateCA, new_private_ca
from tests.support import DEADLINE, eventually, one_connection

UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
pytestmark = pytest.mark.anyio
MEBIBYTES = bytes(range(256)) * 4096 * 8
"""More than the buffers of a system and of a stream take."""

ADDRESSES = (SocketAttribute.local_address, SocketAttribute.remote_address)

Serve = Callable[[socket.socket], object]


@pytest.fixture(params=["asyncio", UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test on asyncio's own event loop and on uvloop."""
    return request.param


@pytest.fixture(params=["anyio", "ours"])
def kind(request: pytest.FixtureRequest) -> str:
    """Read with the stream of anyio, and with ours."""
    return str(request.param)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return new_private_ca(tmp_path_factory.mktemp("authority"))


def new_backend() -> Any:
    return httpcore2.AnyIOBackend()


def waiting(stream: Any) -> list[bytes]:
    """Return what has arrived at a stream of ours, and was not read."""
    return list(stream._arrived)


def after_the_client(serve: Serve) -> Serve:
    """Let the client begin, as in HTTP."""

    def run(to: socket.socket) -> None:
        assert to.recv(1) == b"?"
        serve(to)

    return run


@asynccontextmanager
async def connected(kind: str, serve: Serve) -> AsyncGenerator[anyio.abc.ByteStream]:
    """Connect to a server, read with one kind of stream, and end both."""
    with one_connection(after_the_client(serve)) as port, anyio.fail_after(DEADLINE):
        connection: httpcore2.AsyncNetworkStream = await new_backend().connect_tcp("127.0.0.1", port)
        if kind == "ours":
            assert isinstance(use_asyncio_stream(connection), AsyncioStream)
        stream = byte_stream(connection)
        assert stream is not None
        assert isinstance(stream, AsyncioStream) is (kind == "ours")
        try:
            await stream.send(b"?")
            yield stream
        finally:
            with anyio.CancelScope(shield=True):
                await connection.aclose()


async def read_all(stream: anyio.abc.ByteStream, most: int = 65536) -> bytes:
    found = bytearray()
    while True:
        try:
            data = await stream.receive(most)
        except anyio.EndOfStream:
            return bytes(found)
        assert 0 < len(data) <= most
        found += data


def reset(connection: socket.socket) -> None:
    """Let the connection end with a reset when it is closed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def recv_all(connection: socket.socket) -> bytes:
    """Receive until the other end has sent all."""
    found = bytearray()
    while data := connection.recv(1 << 16):
        found += data
    return bytes(found)


@pytest.mark.parametrize("most", [1, 1000, 65536, 1 << 20])
async def test_all_bytes_arrive_and_then_the_end(kind: str, most: int) -> None:
    sent = MEBIBYTES[: 300 if most == 1 else 300_000]
    async with connected(kind, lambda to: to.sendall(sent)) as stream:
        assert await read_all(stream, most) == sent
        for _ in range(2):
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


async def test_a_reader_that_pauses_makes_the_server_wait(kind: str) -> None:
    sent = threading.Event()

    def serve(to: socket.socket) -> None:
        to.sendall(MEBIBYTES)
        sent.set()

    async with connected(kind, serve) as stream:
        begun = await stream.receive(5)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        if isinstance(stream, AsyncioStream):
            assert sum(map(len, waiting(stream))) <= 2 * 65536
        assert not sent.is_set()
        assert begun + await read_all(stream) == MEBIBYTES


async def test_all_that_is_sent_arrives_and_send_waits_for_the_system(kind: str) -> None:
    got: list[bytes] = []
    begin = threading.Event()

    def serve(to: socket.socket) -> None:
        assert begin.wait(DEADLINE)
        got.append(recv_all(to))
        to.sendall(b"thanks")

    async with connected(kind, serve) as stream:
        with anyio.move_on_after(0.05) as scope:
            await stream.send(MEBIBYTES)
        assert scope.cancelled_caught
        begin.set()
        await stream.send(b"more")
        await stream.send_eof()
        assert await read_all(stream) == b"thanks"
    assert got == [MEBIBYTES + b"more"]


async def test_the_end_of_what_arrives_leaves_the_other_direction_open(kind: str) -> None:
    got: list[bytes] = []

    def serve(to: socket.socket) -> None:
        to.sendall(b"all of it")
        to.shutdown(socket.SHUT_WR)
        got.append(recv_all(to))

    async with connected(kind, serve) as stream:
        assert await read_all(stream) == b"all of it"
        await stream.send(b"after the end")
    assert got == [b"after the end"]


async def test_a_reset_is_an_error_after_what_had_arrived(kind: str) -> None:
    read = threading.Event()

    def serve(to: socket.socket) -> None:
        to.sendall(b"begun")
        assert read.wait(DEADLINE)
        reset(to)

    async with connected(kind, serve) as stream:
        assert await stream.receive() == b"begun"
        read.set()
        for _ in range(2):
            with pytest.raises(anyio.BrokenResourceError) as caught:
                await stream.receive()
            assert isinstance(caught.value.__cause__, ConnectionResetError)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x")


async def test_a_reset_ends_a_write_that_waits(kind: str) -> None:
    begin = threading.Event()

    def serve(to: socket.socket) -> None:
        assert begin.wait(DEADLINE)
        reset(to)

    async with connected(kind, serve) as stream, anyio.create_task_group() as group:

        async def release() -> None:
            begin.set()

        group.start_soon(release)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(MEBIBYTES)


async def test_what_arrives_during_a_write_is_read_even_if_the_write_fails() -> None:
    """A server may answer with status 413 and close, while the client writes the rest of its request."""
    arrived = threading.Event()

    def serve(to: socket.socket) -> None:
        to.sendall(b"too long")
        assert arrived.wait(DEADLINE)
        reset(to)

    async with connected("ours", serve) as stream, anyio.create_task_group() as group:
        assert isinstance(stream, AsyncioStream)

        async def watch() -> None:
            try:
                await eventually(lambda: stream.has_data, "the answer arrives")
            finally:
                arrived.set()

        group.start_soon(watch)
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(MEBIBYTES)
        assert await stream.receive() == b"too long"


async def test_a_connection_that_its_owner_does_not_close_is_closed_when_it_is_deleted() -> None:
    ended = threading.Event()

    def serve(to: socket.socket) -> None:
        assert recv_all(to) == b""
        ended.set()

    with one_connection(after_the_client(serve)) as port:
        connection = await NetworkBackend(new_backend()).connect_tcp("127.0.0.1", port)
        await connection.write(b"?")
        forgotten = [connection]
        del connection
        with pytest.warns(ResourceWarning, match="unclosed"):
            forgotten.clear()
        await eventually(ended.is_set, "the connection ends")


async def test_closing_ends_the_read_of_another_task(kind: str) -> None:
    async with connected(kind, recv_all) as stream, anyio.create_task_group() as group:

        async def read() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()

        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await stream.receive()
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")


async def test_a_read_that_is_cancelled_loses_nothing(kind: str) -> None:
    go = threading.Event()

    def serve(to: socket.socket) -> None:
        assert go.wait(DEADLINE)
        to.sendall(b"Hello")

    async with connected(kind, serve) as stream:
        with anyio.move_on_after(0.01) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        go.set()
        assert await read_all(stream) == b"Hello"


async def test_a_read_that_is_cancelled_as_data_arrives_loses_nothing() -> None:
    """The read was woken, and its task did not run before it was cancelled."""
    async with connected("ours", lambda to: to.sendall(b"Hello")) as stream:
        assert isinstance(stream, AsyncioStream)
        got: list[bytes] = []
        async with anyio.create_task_group() as group:

            async def read() -> None:
                got.append(await stream.receive())

            wake = stream.buffer_updated

            def wake_and_cancel(nbytes: int) -> None:
                wake(nbytes)
                group.cancel_scope.cancel()

            stream.buffer_updated = wake_and_cancel  # type: ignore[method-assign]
            inner: Any = stream
            inner._transport.set_protocol(stream)
            group.start_soon(read)
        assert b"".join(got) + await read_all(stream) == b"Hello"


async def test_what_waits_to_be_read_is_seen() -> None:
    """Between two requests it says that a connection is not to be used again, as the end does."""
    go = threading.Event()

    def serve(to: socket.socket) -> None:
        to.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        assert go.wait(DEADLINE)

    async with connected("ours", serve) as stream:
        assert isinstance(stream, AsyncioStream)
        await stream.receive(1)
        assert stream.has_data
        while stream.has_data:
            await stream.receive()
            if not waiting(stream):
                break
        assert not stream.has_data
        go.set()
        await eventually(lambda: stream.has_data, "the end arrives")
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_is_read_over_it(kind: str, version: ssl.TLSVersion, authority: PrivateCA) -> None:
    context = authority.server()
    context.maximum_version = version

    def serve(to: socket.socket) -> None:
        with context.wrap_socket(to, server_side=True) as tls:
            assert tls.recv(4) == b"ping"
            tls.sendall(MEBIBYTES[:500_000])

    async with connected(kind, serve) as stream:
        options: dict[str, Any] = {"ssl_context": authority.client(), "hostname": "localhost"}
        tls = await TLSStream.wrap(stream, standard_compatible=False, **options)
        await tls.send(b"ping")
        assert await read_all(tls) == MEBIBYTES[:500_000]


async def test_the_addresses_of_the_socket_are_known(kind: str) -> None:
    async with connected(kind, recv_all) as stream:
        inner: Any = stream
        attributes = inner.extra_attributes
        known = {name: attributes[name]() for name in ADDRESSES}
        raw = attributes[SocketAttribute.raw_socket]()
        assert known == dict(zip(ADDRESSES, (raw.getsockname(), raw.getpeername()), strict=True))
        await stream.send_eof()
