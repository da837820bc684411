"""Read the body of a refusal up to a limit of size and time, however it is packed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
import httpx2

from streamcore.concurrency.generators import opened

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ERROR_BYTES = 64 * 1024
"""How much of an error's body is read, packed and unpacked."""
ERROR_SECONDS = 5.0
"""How long to wait for an error's body; what arrived by then is used."""

_PIECE = 16  # bytes that are unpacked at once: of any known encoding, they give a few MiB at most
_PACKING = ("content-encoding", "content-length", "transfer-encoding")


async def with_short_body(response: httpx2.Response) -> httpx2.Response:
    """Return a response that has been read, with the first `ERROR_BYTES` of its body unpacked, and close the given one.

    A body that breaks, cannot be unpacked or takes more than `ERROR_SECONDS` is what arrived of it.
    """
    if response.is_stream_consumed:
        return response
    body = bytearray()
    try:
        with anyio.move_on_after(ERROR_SECONDS):
            await _read_into(body, response)
    except (httpx2.HTTPError, httpx2.StreamError):
        pass  # the status says what happened; the body only why
    finally:
        await response.aclose()
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _PACKING]
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=bytes(body[:ERROR_BYTES]),
        request=response.request,
        extensions=response.extensions,
        history=response.history,
    )


async def _read_into(body: bytearray, response: httpx2.Response) -> None:
    encoding = response.headers.get("content-encoding", "identity")
    source = _short(response)
    if encoding.strip().lower() == "identity":
        unpacked = source
    else:
        packed = httpx2.Response(200, headers={"content-encoding": encoding}, stream=_Pieces(source))
        unpacked = packed.aiter_bytes()
    async with opened(unpacked, finalizer=False) as reads:
        try:
            async for data in reads:
                body += data[: ERROR_BYTES - len(body)]
                if len(body) >= ERROR_BYTES:
                    return
        finally:
            # Before the generators below are closed: those of httpx2 that are still open then end without waiting.
            await response.aclose()


async def _short(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """Yield the first `ERROR_BYTES` of a body as they come, still packed."""
    left = ERROR_BYTES
    async with opened(response.aiter_raw(), finalizer=False) as reads:
        async for data in reads:
            yield data[:left]
            left -= len(data)
            if left <= 0:
                return


class _Pieces(httpx2.AsyncByteStream):
    """Cut a packed body into small pieces, since a decoder unpacks a piece whole."""

    def __init__(self, source: AsyncGenerator[bytes]) -> None:
        self._source = source

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in self._source:
            for start in range(0, len(data), _PIECE):
                yield data[start : start + _PIECE]
