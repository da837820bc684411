"""Read and write a socket of asyncio as anyio's `SocketStream` does, with less work for each read and write.

anyio pauses reading after each read and resumes it before the next (two system calls), gives way to other tasks after
each write, and has four deques a connection. This stream reads on, up to a limit, and waits only for the socket.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.abc import SocketAttribute

_MOST_WAITING = 1 << 16
"""Bytes that may wait for a reader until reading is paused."""


class _Buffer(threading.local):
    """What a thread's event loops read into; each read is copied out of it before the next."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(1 << 16))


_buffer = _Buffer()


class AsyncioStream(anyio.abc.ByteStream, asyncio.BufferedProtocol):
    """A byte stream of anyio over a transport of asyncio, whose protocol it becomes.

    One task may read and one may write at the same time.

    Args:
        transport: a connected transport that has received nothing; reading may be paused.
    """

    __slots__ = (
        *("_arrived", "_closed", "_ended", "_error", "_full", "_loop", "_paused", "_reader", "_transport", "_waiting"),
        "_writer",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._arrived: list[bytes] = []
        self._waiting = 0  # bytes that arrived
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False  # the system takes no more
        self._ended = False
        self._error: Exception | None = None
        self._closed = False
        self._paused = False
        transport.set_write_buffer_limits(0)  # what is written has left this process
        transport.set_protocol(self)
        transport.resume_reading()  # before a write: it fails if the server has answered early and closed

    @property
    def has_data(self) -> bool:
        """True if there is something to read: bytes, the end, or an error."""
        return bool(self._arrived) or self._ended

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The socket and its addresses, as `anyio.abc.SocketAttribute`."""
        info = self._transport.get_extra_info
        return {
            SocketAttribute.raw_socket: lambda: info("socket"),
            SocketAttribute.local_address: lambda: info("sockname"),
            SocketAttribute.remote_address: lambda: info("peername"),
        }

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has arrived, at most `max_bytes` of it; wait if that is nothing.

        Raises:
            anyio.EndOfStream: the other end has sent all.
            anyio.BrokenResourceError: the connection was lost.
            anyio.ClosedResourceError: this end was closed.
            anyio.BusyResourceError: another task reads.
        """
        arrived = self._arrived
        if not arrived:
            await self._wait_for_data()
        data = arrived[0] if len(arrived) == 1 else b"".join(arrived)
        arrived.clear()
        self._waiting = 0
        if len(data) > max_bytes:
            arrived.append(data[max_bytes:])
            self._waiting = len(data) - max_bytes
            data = data[:max_bytes]
        return data

    async def _wait_for_data(self) -> None:
        while not self._arrived:
            if self._reader is not None:
                raise anyio.BusyResourceError("reading from")
            self._refuse_lost()
            if self._ended:
                raise anyio.EndOfStream
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def send(self, item: bytes) -> None:
        """Write bytes, and return when the system has taken all of them.

        Raises:
            anyio.BrokenResourceError: the connection was lost.
            anyio.ClosedResourceError: this end was closed.
        """
        self._refuse_lost()
        if self._transport.is_closing():
            raise anyio.BrokenResourceError
        self._transport.write(item)
        if self._full:
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            self._refuse_lost()

    async def send_eof(self) -> None:
        """Say that nothing more is sent; what was written before is."""
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()

    async def aclose(self) -> None:
        """Close the connection at once; bytes that the system has not taken are lost."""
        self._closed = True
        self._transport.abort()
        await anyio.lowlevel.checkpoint()

    def abandon(self) -> None:
        """Close the connection if its owner did not, with a ResourceWarning; call this when the owner is deleted.

        The event loop, which reads on, keeps the stream alive otherwise. Any thread may call this.
        """
        if self._transport.is_closing() or self._loop.is_closed():
            return
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._transport.abort)
        warnings.warn(f"unclosed {self._transport!r}", ResourceWarning, source=self, stacklevel=2)

    def _refuse_lost(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        if self._error is not None:
            raise anyio.BrokenResourceError from self._error

    # What asyncio calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes are read to."""
        return _buffer.view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that were read."""
        self._arrived.append(bytes(_buffer.view[:nbytes]))
        self._waiting += nbytes
        _wake(self._reader)
        if self._waiting > _MOST_WAITING and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Take the end of what the other end sends; this end can still write."""
        self._ended = True
        _wake(self._reader)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection."""
        self._ended = True
        self._error = exc
        _wake(self._reader)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Let writers wait: the system does not take more."""
        self._full = True

    def resume_writing(self) -> None:
        """Wake the writer: the system has taken all."""
        self._full = False
        _wake(self._writer)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
