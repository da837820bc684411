"""Undo the content encoding of a streamed response body."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    import httpx2

_GZIP = zlib.MAX_WBITS | 16
_PIECE = 1 << 20  # bytes of output at once, so that a small body cannot fill the memory in one call
_TURN = 64 * 1024  # bytes of output from one read, after which the event loop has a turn


def decoded(response: httpx2.Response, raw: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Return the decoded bytes of a response whose `raw` body is unread.

    httpx2 decodes everything but gzip, of which it reads the first member only. RFC 1952, section 2.2, allows several,
    and gateways that compress event by event send them. Closing the generator closes all that it reads from, but `raw`.
    The iterators of `response` itself are not used: data that cannot be decoded end them before the response is closed,
    and httpx2's generators below them then wait while they are dropped, which breaks the cancel scopes of the task.
    """
    encoding = response.headers["content-encoding"]
    if encoding.strip().lower() in ("gzip", "x-gzip"):
        return _gunzip(raw)
    import httpx2

    return httpx2.Response(200, headers={"content-encoding": encoding}, content=_passed_on(raw)).aiter_bytes()


async def _passed_on(raw: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the bytes; httpx2 closes this generator, and not `raw`."""
    async for data in raw:
        yield data


async def _gunzip(raw: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield the decompressed bytes.

    Raises:
        httpx2.DecodingError: the data is not gzip.
    """
    import httpx2

    decoder = Gunzip()
    try:
        async for data in raw:
            size = 0
            for piece in decoder.feed(data):
                yield piece
                size += len(piece)
                if size > _TURN:  # one read of small members may have many MiB
                    size = 0
                    await checkpoint()
    except zlib.error as error:
        raise httpx2.DecodingError(str(error)) from error


class Gunzip:
    """Decompress gzip data of one member or several, cut anywhere."""

    __slots__ = ("_member",)

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what these bytes decompress to, in pieces of at most 1 MiB.

        Raises:
            zlib.error: the data is not gzip.
        """
        while data:
            if self._member.eof:
                data = data.lstrip(b"\0")  # padding between members and after the last
                if not data:
                    return
                self._member = zlib.decompressobj(_GZIP)
            piece = self._member.decompress(data, _PIECE)
            while piece:
                yield piece
                piece = self._member.decompress(self._member.unconsumed_tail, _PIECE)
            data = self._member.unused_data
