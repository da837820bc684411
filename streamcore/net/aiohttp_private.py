"""Read a body through aiohttp's private names, which nothing else in streamcore uses.

aiohttp's public reader loses the bytes that arrived before a body broke off, records the end of each chunk, which costs
more than reading it, and sets a timer for each read. Its parser makes the reader and the connection, and takes no class
of ours. `tests/net/test_private_names.py` says which of these names a new version of aiohttp lacks.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from functools import partial
from typing import Any, Self, cast

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from streamcore.net.aiohttp_errors import mapped

_HEAD_END = b"\r\n\r\n"
_NO_HEADERS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
_NO_REQUEST = aiohttp.RequestInfo(URL(), "", _NO_HEADERS, URL())


def new_connector(context: ssl.SSLContext) -> aiohttp.TCPConnector:
    """Return a connector whose connections are `Handler`s. It looks names up as httpx2 does, also with aiodns."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5.0, ssl=context, resolver=aiohttp.ThreadedResolver())
    cast("Any", connector)._factory = partial(Handler, loop=asyncio.get_running_loop())
    return connector


class Payload(aiohttp.StreamReader):
    """The body of a response, and an iterator over its reads: the bytes that arrived since the one before.

    It is its own iterator: a waiting stream that goes on passes each generator and each coroutine between the caller
    and the socket. It keeps no record of where chunks end, which costs more than the chunks.
    """

    __slots__ = ()

    def __aiter__(self) -> Self:  # type: ignore[override]
        return self

    async def __anext__(self) -> bytes:
        """Return the bytes of the next read. Raise what broke the body, after all bytes before it were returned.

        Raises:
            httpx2.TransportError: the body broke off.
        """
        while not self._buffer:
            if self._exception is not None:
                raise mapped(self._exception) from self._exception
            if self._eof:
                raise StopAsyncIteration
            if self._protocol.transport is None:
                raise httpx2.ReadError("the connection is closed")
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            except aiohttp.ClientError:
                pass  # what arrived before it is returned first
            except BaseException:
                self._waiter = None
                raise
        data = self._buffer.pop() if len(self._buffer) == 1 else self._of_several()
        size = self._size
        left = self._size = size - len(data)
        if size > self._low_water >= left:
            self._protocol.resume_reading()
        return data

    def _of_several(self) -> bytes:
        """Return what is read of several pieces, in which the parser gave the bytes: all of them."""
        data = b"".join(self._buffer)
        self._buffer.clear()
        return data

    async def aclose(self) -> None:
        """Do nothing: the owner of the response closes it."""

    def begin_http_chunk_receiving(self) -> None:
        """Do nothing."""

    def end_http_chunk_receiving(self) -> None:
        """Do nothing."""


class EncodedPayload(Payload):
    """The body of a response with a content encoding: a read is one piece, so that those before a broken one count."""

    __slots__ = ()

    def _of_several(self) -> bytes:
        return self._buffer.popleft()


def reads_of(response: aiohttp.ClientResponse) -> Payload | None:
    """Return the reads of a response's body, None if it has none."""
    payload = response.content
    if not isinstance(payload, Payload):
        return None
    if "content-encoding" in response.headers:
        encoded: Any = payload
        encoded.__class__ = EncodedPayload
        encoded._buffer = deque(encoded._buffer)  # its pieces are taken one by one
    return payload


def drop_heads(response: aiohttp.ClientResponse) -> None:
    """Drop the headers of a response and of its request, 7 KiB that every open stream would keep."""
    kept: Any = response
    kept._headers, kept._raw_headers, kept._request_info = _NO_HEADERS, (), _NO_REQUEST


class Handler(ResponseHandler):
    """aiohttp's protocol of a connection; keeps the bytes that arrived before an error, and closes at once."""

    def close(self) -> None:
        """Close without waiting for unsent bytes."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Receive bytes."""
        payload: Any = self._payload
        if isinstance(payload, Payload) and not payload.is_eof():  # as in `_receives_body`, whose call would cost more
            super().data_received(data)
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Parse each head separately from the body, so that a broken body does not lose the head or what is before."""
        begin = 0
        while begin < len(data) and not self._receives_body():
            end = data.find(_HEAD_END, begin) + len(_HEAD_END)
            if end < len(_HEAD_END):
                break
            super().data_received(data[begin:end])
            self._own_payload()
            begin = end
        if begin < len(data):
            super().data_received(data[begin:])
            self._own_payload()

    def _receives_body(self) -> bool:
        payload: Any = self._payload
        return isinstance(payload, Payload) and not payload.is_eof()

    def _own_payload(self) -> None:
        payload: Any = self._payload
        if payload.__class__ is aiohttp.StreamReader:
            payload.__class__ = Payload  # the parser makes it, and its class cannot be chosen
            setattr(payload, "_buffer", list(payload._buffer))  # noqa: B010  type checkers know a deque, of 760 bytes

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
