"""Read the body of an SDK's raw HTTP response through a decoder, and close the response."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, cast
from weakref import ref

import anyio
from anyio.lowlevel import checkpoint

from streamcore.chunk import Chunk
from streamcore.concurrency.generators import opened
from streamcore.errors import ConfigError
from streamcore.net.content_encoding import decoded
from streamcore.net.credentials import clean_start, credentials, scrub_error
from streamcore.net.http_errors import TransportErrors
from streamcore.wire.decoder import StreamDecoder

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("streamcore")

DRAIN_SECONDS = 0.1
"""How long to read on after the terminal mark, so that the connection can be used again."""

READS = "streamcore.reads"
"""The extension of a response in which our transport gives the body's reads; httpx2 puts a generator around them."""

LATE_SECONDS = 2.0
"""How long to wait after a finish reason, which ends no reading, for usage or more content. Pings do not extend it."""

SLICE_BYTES = 64 * 1024
"""A larger read is decoded in slices of this size, and the event loop has a turn after each, for clocks and others."""


async def read_response(
    send: Callable[[], Awaitable[tuple[httpx2.Response, StreamDecoder]]],
    secrets: Callable[[], Iterable[str]] = tuple,
) -> AsyncGenerator[list[Chunk]]:
    """Send a request, yield the chunks of every network read (often none), then end as the decoder's contract says.

    A read above `SLICE_BYTES` counts as several.

    `send` returns the response, whose body is unread, and its decoder. This generator owns both and closes the
    response. `secrets` returns what no error may show, beside the request's own credentials.

    Raises:
        ConfigError: the API key, the base URL or a header cannot be encoded.
        StreamInterrupted: the connection broke, or the bytes ended before the terminal mark.
        StreamTimeout: the HTTP client's own read timeout ran out.
        MalformedStream, ProviderError: see `StreamDecoder.close`.
        Exception: `send` raised it.
    """
    private: Sequence[str] | None = None
    try:
        response, decoder = await send()
        private, (raw, reads) = credentials(response.request), _body(response)
        # Nothing refers to the response from now on: an open stream would keep its head and the whole request.
        known, body = ref(response), cast("httpx2.AsyncByteStream", response.stream)
        del send, response
        feed, more = decoder.feed, slice(SLICE_BYTES, None)
        with TransportErrors(streaming=True):
            # The response is closed first: generators of httpx2 that are still open then end without waiting.
            async with aclosing(raw), opened(reads, finalizer=False) as hidden:
                try:
                    started, data = False, await anext(hidden, None)
                    while data is not None:
                        for part in slices(data):
                            chunks = feed(part)
                            started = started or clean_start(chunks, private)
                            yield chunks
                            if len(data) > SLICE_BYTES:
                                await checkpoint()
                        data = None if started or decoder.ending else await anext(reads, None)
                    if not decoder.ending:
                        async for data in reads:
                            if not data[more]:  # costs less than len(data) <= SLICE_BYTES
                                yield feed(data)
                            else:
                                for part in slices(data):
                                    yield feed(part)
                                    await checkpoint()
                            if decoder.ending:
                                break
                    deadline = anyio.current_time() + LATE_SECONDS
                    while decoder.ending and not decoder.done:
                        late = await _late(reads, decoder, deadline)
                        if late is None:
                            break
                        if any(chunk.kind not in ("ping", "other") for chunk in late):
                            deadline = anyio.current_time() + LATE_SECONDS
                        yield late
                    if decoder.done:
                        late = await _drain(reads, decoder)
                        if late:
                            yield late
                finally:
                    await (known() or body).aclose()  # a hook that keeps the response may look whether it is closed
        rest = decoder.flush()
        if rest:
            yield rest
        decoder.close()
    except UnicodeEncodeError as error:
        if private is not None:
            raise
        raise not_encodable(error) from None  # the error has the whole text, which may be the API key
    except Exception as error:
        scrub_error(error, [*secrets(), *(private or ())])
        raise


def _body(response: httpx2.Response) -> tuple[AsyncGenerator[bytes], AsyncGenerator[bytes]]:
    """Return the reads of a response's body, as they come and decoded."""
    if response.is_stream_consumed:
        reads = response.aiter_bytes()
        return reads, reads
    # `aiter_raw` would pass the same bytes on through one more generator and a list.
    body = response.extensions.get(READS, response.stream)
    raw = cast("AsyncGenerator[bytes]", aiter(cast("AsyncIterable[bytes]", body)))
    return raw, decoded(response, raw) if "content-encoding" in response.headers else raw


def not_encodable(error: UnicodeEncodeError) -> ConfigError:
    """Return the error for a request whose head cannot be encoded."""
    what = "half of a surrogate pair" if "surrogates" in error.reason else "a character that is not ASCII"
    return ConfigError(
        f"the request cannot be sent over HTTP: its API key, its base URL or a header of headers= has {what} "
        f"(character {error.start + 1} of {len(error.object)}); remove it"
    )


def slices(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of a read in slices of at most `SLICE_BYTES`."""
    for start in range(0, len(data), SLICE_BYTES):
        yield data[start : start + SLICE_BYTES]


async def _fed(decoder: StreamDecoder, data: bytes) -> list[Chunk]:
    """Return the chunks of a read; of a large one, the event loop has a turn after every slice."""
    if len(data) <= SLICE_BYTES:
        return decoder.feed(data)
    chunks: list[Chunk] = []
    for part in slices(data):
        chunks += decoder.feed(part)
        await checkpoint()
    return chunks


async def _late(reads: AsyncGenerator[bytes], decoder: StreamDecoder, deadline: float) -> list[Chunk] | None:
    """Return the chunks of a read after a finish reason; None if the bytes have ended, or nothing came in time."""
    data = b""
    with anyio.CancelScope(deadline=deadline if decoder.vocabulary.marked else math.inf):
        data = await anext(reads, b"")
    return await _fed(decoder, data) if data else None


async def _drain(reads: AsyncGenerator[bytes], decoder: StreamDecoder) -> list[Chunk]:
    """Read on for `DRAIN_SECONDS` and return the chunks received; none changes the answer."""
    import httpx2

    late: list[Chunk] = []
    try:
        with anyio.move_on_after(DRAIN_SECONDS):
            async for data in reads:
                late += await _fed(decoder, data)
    except httpx2.HTTPError as error:
        log.debug("the connection broke after the end of the stream: %s", type(error).__name__)
    return late
