"""Read an SDK's raw HTTP response through a decoder, and give what goes wrong there a name of ours."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import anyio

from streamcore.chunk import Chunk
from streamcore.concurrency.closing import unregistered
from streamcore.errors import (
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
    provider_error,
    scrub,
    scrub_json,
)
from streamcore.wire.decoder import StreamDecoder

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("streamcore")

DRAIN_SECONDS = 0.1
"""How long the rest of a response may take after the mark of its end, so that the connection can be used again."""

_SHOWN = 2000  # characters of an error's body
_SECRET_HEADER = re.compile("auth|key|token|secret|cookie")
_SHORTEST_SECRET = 8  # what is shorter is a placeholder, and a word that messages use


async def read_response(
    send: Callable[[], Awaitable[tuple[httpx2.Response, StreamDecoder]]],
) -> AsyncGenerator[list[Chunk]]:
    """Send a request, yield the chunks of every network read (often none), then end as the decoder's contract says.

    `send` gives the response, whose body nobody has read, and what decodes it; from there on both belong to this
    generator, which closes the response. Bytes are read without a pass through content decoding where there is none.

    Raises:
        StreamInterrupted: the connection broke, or the bytes ended before the terminal mark.
        StreamTimeout: the HTTP client's own read timeout ran out.
        MalformedStream, ProviderError: as `StreamDecoder.close` says; and whatever `send` raises.
    """
    response, decoder = await send()
    if response.is_stream_consumed:
        raw = reads = response.aiter_bytes()
    else:
        # httpx2's `aiter_raw` does no more than pass `stream` on, a generator and a list later.
        raw = cast("AsyncGenerator[bytes]", aiter(cast("AsyncIterable[bytes]", response.stream)))
        reads = _decoded(response, raw) if "content-encoding" in response.headers else raw
    feed = decoder.feed
    with TransportErrors(streaming=True):
        try:
            first = await _first(reads)
            if first:
                yield feed(first)
            if not decoder.done:
                async for data in reads:
                    yield feed(data)
                    if decoder.done:
                        break
            if decoder.done:
                await _drain(reads, decoder)
        finally:
            # In this order: the generators below `reads`, which httpx2 drops, then end without waiting for anything.
            await response.aclose()
            await reads.aclose()
            await raw.aclose()
    rest = decoder.flush()
    if rest:
        yield rest
    try:
        decoder.close()
    except StreamcoreError as error:
        _scrub_error(error, credentials(response.request))
        raise


async def _decoded(response: httpx2.Response, raw: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Undo the content encoding, as `aiter_bytes` does, which drops the generators below it when that fails."""
    decoder = cast("Any", response)._get_content_decoder()
    async for data in raw:
        for decoded in decoder.decode(data):
            yield decoded
    for decoded in decoder.flush():
        yield decoded


async def _first(reads: AsyncGenerator[bytes]) -> bytes:
    """Return the bytes of the first read, none if the body is empty; with it all of httpx2's generators begin."""
    try:
        return await unregistered(reads.__anext__, finalizer=False)
    except StopAsyncIteration:
        return b""


async def _drain(reads: AsyncGenerator[bytes], decoder: StreamDecoder) -> None:
    """Read what follows the mark for a moment; nothing that comes or breaks here changes the answer."""
    import httpx2

    try:
        with anyio.move_on_after(DRAIN_SECONDS):
            async for data in reads:
                decoder.feed(data)
    except httpx2.HTTPError as error:
        log.debug("the connection broke after the end of the stream: %r", error)


class TransportErrors:
    """Map httpx2's errors to ours: while `streaming`, to errors of the stream, before that to `ConnectionFailed`.

    A class, since a generator as context costs more, and each request enters two of these.
    """

    __slots__ = ("_model", "_provider", "_streaming")

    def __init__(self, *, streaming: bool = False, provider: str | None = None, model: str | None = None) -> None:
        self._streaming = streaming
        self._provider = provider
        self._model = model

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._map(error)

    def _map(self, error: BaseException) -> None:
        """Raise what an error is to be called; return if it keeps its own name."""
        mapped = map_transport_error(error, streaming=self._streaming, provider=self._provider, model=self._model)
        if mapped is not None:
            raise mapped from _cause(error, mapped)


def map_transport_error(
    error: BaseException, *, streaming: bool, provider: str | None = None, model: str | None = None
) -> Exception | None:
    """Return our error for one of httpx2 (or of a client built like it), None for any other."""
    import httpx2

    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return ConfigError(f"provider {provider!r} was given a base URL that is none ({type(error).__name__}: {error})")
    if not isinstance(error, httpx2.HTTPError | httpx2.StreamError | ssl.SSLError | asyncio.IncompleteReadError):
        return None
    name = _describe(error)
    if streaming:
        if isinstance(error, httpx2.ReadTimeout):
            return StreamTimeout(f"no bytes came for as long as the HTTP client waits ({name})", clock="silence")
        if isinstance(error, httpx2.DecodingError):
            return MalformedStream(f"the content encoding is broken ({name})")
        return StreamInterrupted(f"the connection broke while streaming ({name}); what arrived is in .partial")
    if isinstance(error, httpx2.LocalProtocolError):  # its text is the header that was refused, so it is not shown
        return ConfigError(
            f"provider {provider!r} was given something that cannot be sent over HTTP; look for a line end or other "
            "control characters in its API key and in headers="
        )
    return ConnectionFailed(
        f"could not connect ({name}); check the base URL, the network and any proxy",
        provider=provider,
        model=model,
        retryable=not _is_tls(error),
    )


def _describe(error: BaseException) -> str:
    """Name an error, with the first text that it or its causes have."""
    link: BaseException | None = error
    while link is not None and not str(link):
        link = link.__cause__ or link.__context__
    return type(error).__name__ if link is None else f"{type(error).__name__}: {link}"


def _cause(error: BaseException, mapped: Exception) -> BaseException | None:
    """Return the error to chain: not the one whose text may be an API key."""
    return None if isinstance(mapped, ConfigError) else error


class SDKErrors(TransportErrors):
    """Map the errors of an SDK whose status errors have `response` and `body`, and httpx2's own, to ours.

    Raises:
        ProviderError: by the status that the vendor answered.
        ConnectionFailed: there was no answer.
        ConfigError: the request cannot be sent.
    """

    __slots__ = ("_connection_error", "_status_error")

    def __init__(
        self, status_error: type[Exception], connection_error: type[Exception], *, provider: str, model: str
    ) -> None:
        super().__init__(provider=provider, model=model)
        self._status_error = status_error
        self._connection_error = connection_error

    def _map(self, error: BaseException) -> None:
        provider, model = self._provider or "", self._model
        if isinstance(error, self._status_error):
            response, body = vars(error)["response"], vars(error).get("body")
            mapped = response_error(response, body, provider=provider, model=model)
            raise mapped from _without_secrets(error, credentials(response.request))
        if isinstance(error, self._connection_error):
            cause = error.__cause__ or error
            if isinstance(cause, StreamcoreError):  # from a transport of ours, which SDKs take for a lost connection
                raise cause from None
            failed = map_transport_error(cause, streaming=False, provider=provider, model=model) or ConnectionFailed(
                f"could not connect ({_describe(cause)})", provider=provider, model=model
            )
            raise failed from _cause(error, failed)
        super()._map(error)


def credentials(request: httpx2.Request) -> list[str]:
    """Return what a request carried as keys and tokens, whoever put them there, the longest first."""
    values = [value for name, value in request.headers.items() if _SECRET_HEADER.search(name)]
    parts = {part for value in values for part in (value, value.rpartition(" ")[2])}
    return sorted((part for part in parts if len(part) >= _SHORTEST_SECRET), key=len, reverse=True)


def _without_secrets(error: Exception, secrets: list[str]) -> Exception | None:
    """Return the error to chain, None if the traceback would print a secret."""
    link: BaseException | None = error
    while link is not None:
        if scrub(str(link), secrets) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error


def _scrub_error(error: StreamcoreError, secrets: list[str]) -> None:
    """Take secrets out of an error: vendors and gateways echo keys in their answers."""
    if isinstance(error, ProviderError):
        error.message = scrub(error.message, secrets)
        error.code = error.code and scrub(error.code, secrets)
        error.body = scrub_json(error.body, secrets)
    error.args = tuple(scrub(part, secrets) if isinstance(part, str) else part for part in error.args)


def _is_tls(error: BaseException | None) -> bool:
    """True if a certificate or handshake failed: trying again would not help."""
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def response_error(response: httpx2.Response, body: object, *, provider: str, model: str | None) -> ProviderError:
    """Build the error for a response with status 400 or above; `body` is its JSON or text."""
    if isinstance(body, list):  # some gateways wrap it in one
        wrapped = cast("list[object]", body)
        body = wrapped[0] if wrapped else None
    error = provider_error(
        body,
        status=response.status_code,
        fallback=_answered(response),
        provider=provider,
        model=model,
        request_id=request_id(response),
        retry_after=retry_after(response),
    )
    _scrub_error(error, credentials(response.request))
    error.message = error.message[:_SHOWN]
    error.args = (error.message,)
    return error


def _answered(response: httpx2.Response) -> str:
    """Say what an answer without words of its own was, and for a wrong address, which one was asked."""
    said = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code not in (404, 405):
        return said
    url = response.request.url
    asked = f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}{url.path}"
    return f"{said} to {asked}; is the base URL right, with or without /v1 as this provider wants it?"


def request_id(response: httpx2.Response) -> str | None:
    """Return the vendor's id of the request, from whichever header it uses."""
    second: bytes = b""
    for name, value in response.headers.raw:  # undecoded, for this is done for every request
        ending = name[-14:].lower()
        if value and ending.endswith(b"request-id"):
            return value.decode("latin-1")
        if ending == b"correlation-id":
            second = second or value
    return second.decode("latin-1") or None


def retry_after(response: httpx2.Response) -> float | None:
    """Return how many seconds the vendor asks to wait; a date is counted from the response's own `Date`."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = response.headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            return _seconds_until(value, response.headers.get("date"))
        return max(0.0, seconds) if math.isfinite(seconds) else None
    return None


def _seconds_until(value: str, now: str | None) -> float | None:
    from email.utils import mktime_tz, parsedate_tz

    then, start = parsedate_tz(value), parsedate_tz(now or "")
    return None if then is None or start is None else max(0.0, float(mktime_tz(then) - mktime_tz(start)))
