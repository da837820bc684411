"""Read a body through aiohttp's private names, which nothing else in streamcore uses.

aiohttp's public reader loses the bytes that arrived before a body broke off, records the end of each chunk, which costs
more than reading it, and sets a timer for each read. Its parser makes the reader and the connection, and takes no class
of ours. `tests/net/test_private_names.py` says which of these names a new version of aiohttp lacks.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler

_HEAD_END = b"\r\n\r\n"


def new_connector(context: ssl.SSLContext) -> aiohttp.TCPConnector:
    """Return a connector whose connections are `Handler`s. It looks names up as httpx2 does, also with aiodns."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5.0, ssl=context, resolver=aiohttp.ThreadedResolver())
    cast("Any", connector)._factory = partial(Handler, loop=asyncio.get_running_loop())
    return connector


class Payload(aiohttp.StreamReader):
    """aiohttp's buffer for a body, without a record of where each chunk ends, which costs more than the chunk."""

    __slots__ = ()

    async def more(self) -> bool:
        """Wait for bytes; return False at the end. Raise what broke the body, after all bytes before it were taken."""
        while not self._buffer:
            if self._exception is not None:
                raise self._exception
            if self._eof:
                return False
            with suppress(aiohttp.ClientError):
                await self._wait("more")
        return True

    def take(self) -> list[bytes]:
        """Return the buffered bytes, in the pieces in which they arrived, and resume reading."""
        pieces = list(self._buffer)
        self._buffer.clear()
        full, self._size = self._size > self._low_water, 0
        if full:
            self._protocol.resume_reading()
        return pieces

    def begin_http_chunk_receiving(self) -> None:
        """Do nothing."""

    def end_http_chunk_receiving(self) -> None:
        """Do nothing."""


class Handler(ResponseHandler):
    """aiohttp's protocol of a connection; keeps the bytes that arrived before an error, and closes at once."""

    def close(self) -> None:
        """Close without waiting for unsent bytes."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        payload: Any = self._payload
        if type(payload) is Payload and not payload.is_eof():
            super().data_received(data)
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Parse the head of a response separately from its body, so that a broken body does not lose the head."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if end >= len(_HEAD_END):
            super().data_received(data[:end])
            data = data[end:]
            self._own_payload()
        if data:
            super().data_received(data)
            self._own_payload()

    def _own_payload(self) -> None:
        payload: Any = self._payload
        if type(payload) is aiohttp.StreamReader:
            payload.__class__ = Payload  # the parser makes it, and its class cannot be chosen

    def _reschedule_timeout(self) -> None:
        # One timer for the whole body, moved when it fires: a timer for each read costs as much as the read.
        if not self._read_timeout:
            return
        self._heard = self._loop.time()
        if self._read_timeout_handle is None:
            super()._reschedule_timeout()

    def _on_read_timeout(self) -> None:
        left = self._heard + (self._read_timeout or 0.0) - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._on_read_timeout)
        else:
            super()._on_read_timeout()

    def set_exception(self, *error: Any, **cause: Any) -> None:
        """Raise the error also where the body is read."""
        payload: Any = self._payload
        super().set_exception(*error, **cause)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(f"the body broke off: {error[0]}"))
