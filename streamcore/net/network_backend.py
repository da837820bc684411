"""Open the connections of our clients on httpx2 so that a token costs less than over those that httpcore2 opens.

On asyncio the socket is read without anyio's stream (`AsyncioStream`); TLS stays anyio's, but one read returns all the
records that have arrived. A request's head and the beginning of its body are one write, and the chunks that arrived
together are merged (`ChunkMerger`).
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import anyio
import httpcore2

from streamcore.net.asyncio_stream import AsyncioStream
from streamcore.net.httpx2_private import byte_stream, use_asyncio_stream
from streamcore.net.merged_chunks import ChunkMerger


class NetworkBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections with another backend, and changes how they are read and written; see the module.

    Args:
        inner: the backend of httpcore2 that connects.
    """

    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *where: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        """Connect to a host and port."""
        stream = await self._inner.connect_tcp(*where, **options)
        return _Connection(stream, use_asyncio_stream(stream))

    async def connect_unix_socket(self, *where: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        """Connect to a Unix socket."""
        return _Connection(await self._inner.connect_unix_socket(*where, **options), None)

    async def sleep(self, seconds: float) -> None:
        """Sleep between attempts to connect."""
        await self._inner.sleep(seconds)


class _Connection(httpcore2.AsyncNetworkStream):
    """A connection for HTTP/1.1: requests and responses take turns."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream, socket: AsyncioStream | None) -> None:
        self._inner = inner
        self._socket = socket
        self._bytes = byte_stream(inner)
        self._tls: ssl.SSLObject | None = inner.get_extra_info("ssl_object") if self._bytes is not None else None
        self._tls_error: ssl.SSLError | None = None  # of a record after those that were returned
        self._merger = ChunkMerger()
        self._begins = True  # the next write begins a request
        self._head = b""  # the first write of a request, until the next write or read

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._begins = True
        if self._head:
            head, self._head = self._head, b""
            with suppress(httpcore2.WriteError):  # as httpcore2, which looks for a response then
                await self._write(head, timeout)
        while True:
            data = await self._read(max_bytes, timeout)
            if not data or (data := self._merger.feed(data)):
                return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._begins:
            self._begins = False
            self._merger.expect_head()
            self._head = buffer
            return
        if self._head:
            buffer, self._head = self._head + buffer, b""
        await self._write(buffer, timeout)

    async def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        if self._tls_error is not None:
            raise self._tls_error
        if timeout is not None or self._bytes is None:
            return await self._inner.read(max_bytes, timeout)
        try:
            data = await self._bytes.receive(max_bytes)
            return data if self._tls is None else self._with_more_records(self._tls, data, max_bytes)
        except anyio.EndOfStream:
            return b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore2.ReadError(error) from error

    def _with_more_records(self, tls: ssl.SSLObject, data: bytes, max_bytes: int) -> bytes:
        """Return the contents of a record with those of the records that arrived after it."""
        records = [data]
        left = max_bytes - len(data)
        try:
            while left and (data := tls.read(left)):
                records.append(data)
                left -= len(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLError as error:
            self._tls_error = error
        return records[0] if len(records) == 1 else b"".join(records)

    async def _write(self, buffer: bytes, timeout: float | None) -> None:
        if timeout is not None or self._bytes is None:
            await self._inner.write(buffer, timeout)
            return
        try:
            await self._bytes.send(buffer)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise httpcore2.WriteError(error) from error

    async def start_tls(self, ssl_context: ssl.SSLContext, *host: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _Connection(await self._inner.start_tls(ssl_context, *host, **options), self._socket)

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._socket is not None and self._socket.has_data:
            return True
        return self._inner.get_extra_info(info)

    async def aclose(self) -> None:
        await self._inner.aclose()
