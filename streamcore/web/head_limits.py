"""Limit the time and the size of a request's head under uvicorn, which limits neither.

Otherwise a client that sends a head slowly, or nothing, keeps its connection forever, and one that never ends its head
fills the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from streamcore.web.guard import BODY_SECONDS

HEAD_SECONDS = 30.0
"""How long a head may take, from the opening of its connection or from its first byte."""
HEAD_BYTES = 1 << 19
"""How many bytes of a head are read before its last read; a question in an address may have `max_input` characters."""


class UvicornConnection(asyncio.Protocol):
    """What uvicorn's two protocols have."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[asyncio.Protocol]
    """The connections of the server; one that becomes a WebSocket is no longer one of them."""
    cycle: Any
    """The last request whose head has arrived, None before the first."""

    def on_message_complete(self) -> None:
        """Note that a request has arrived; called by httptools only."""


class HeadLimit:
    """Limit the heads of the requests on one connection.

    Attributes:
        size: how many bytes of a head have arrived.
        timer: closes the connection; runs while a head is awaited, from its first byte on after the first request.
    """

    def __init__(self, connection: UvicornConnection, seconds: float, max_bytes: int) -> None:
        self.size = 0
        self.timer: asyncio.TimerHandle | None = None
        self._connection = connection
        self._seconds, self._max_bytes = seconds, max_bytes

    def begin(self) -> None:
        """Limit the first head."""
        self._start_timer(self._seconds)

    def reset(self) -> None:
        """Note that a head is complete, or that the connection has ended."""
        self.size = 0
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def add(self, size: int, *, in_body: bool) -> None:
        """Note that bytes of a head have arrived, or of a body."""
        if not in_body:
            self.size += size
            if self.size > self._max_bytes:
                self.refuse(b"431 Request Header Fields Too Large")
        if self.timer is None and self._idle():
            self._start_timer(BODY_SECONDS if in_body else self._seconds)

    def refuse(self, status: bytes) -> None:
        """Close the connection; between two answers, say why."""
        transport = self._connection.transport
        if transport.is_closing():
            return
        if self.size and self._idle():
            transport.write(b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
        transport.close()

    def _idle(self) -> bool:
        cycle = self._connection.cycle
        return cycle is None or cycle.response_complete

    def _start_timer(self, seconds: float) -> None:
        self.timer = self._connection.loop.call_later(seconds, self.refuse, b"408 Request Timeout")


def limited_heads(
    base: type[asyncio.Protocol] | None = None, *, seconds: float = HEAD_SECONDS, max_bytes: int = HEAD_BYTES
) -> type[UvicornConnection]:
    """Return a class for `http=` of `uvicorn.Config`, which closes connections with a head that is too slow or large.

    The client gets status 408 or 431 if it has sent a part of a head. The rest of a body that was refused is read for
    at most `BODY_SECONDS`.

    Args:
        base: uvicorn's protocol; by default, the one that it uses itself.
        seconds: how long a head may take.
        max_bytes: how large a head may be.
    """
    if base is None:
        from uvicorn.protocols.http.auto import AutoHTTPProtocol as base  # noqa: N813
    inherited = cast("type[UvicornConnection]", base)

    class LimitedHeads(inherited):  # type: ignore[valid-type, misc]
        """A connection of uvicorn's."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.limit = HeadLimit(self, seconds, max_bytes)
            self.limit.begin()

        def connection_lost(self, exc: Exception | None) -> None:
            self.limit.reset()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            cycle = self.cycle
            in_body = cycle is not None and cycle.more_body
            super().data_received(data)
            if self.cycle is not cycle or self not in self.connections:  # a head is complete, or this is a WebSocket
                self.limit.reset()
            else:
                self.limit.add(len(data), in_body=in_body)

        def on_message_complete(self) -> None:
            super().on_message_complete()  # of httptools; it does not note the end of a body that nobody reads
            if self.cycle is not None:
                self.cycle.more_body = False

    return LimitedHeads
