"""Read an SDK's raw HTTP response through a decoder, and give what goes wrong there a name of ours."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from streamcore.chunk import Chunk
from streamcore.errors import (
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    StreamInterrupted,
    StreamTimeout,
    provider_error,
    scrub,
)
from streamcore.wire.decoder import StreamDecoder

if TYPE_CHECKING:
    import httpx2

log = logging.getLogger("streamcore")

DRAIN_SECONDS = 0.1
"""How long the rest of a response may take after the mark of its end, so that the connection can be used again."""


async def read_response(response: httpx2.Response, decoder: StreamDecoder) -> AsyncGenerator[list[Chunk]]:
    """Yield the chunks of every network read (often none), then end as the decoder's contract says.

    The caller closes the response. Bytes are read without a pass through content decoding where there is none.

    Raises:
        StreamInterrupted: the connection broke, or the bytes ended before the terminal mark.
        StreamTimeout: the SDK's own read timeout ran out.
        MalformedStream, ProviderError: as `StreamDecoder.close` says.
    """
    plain = "content-encoding" not in response.headers and not response.is_stream_consumed
    with transport_errors(streaming=True):
        async with aclosing(response.aiter_raw() if plain else response.aiter_bytes()) as reads:
            async for data in reads:
                yield decoder.feed(data)
                if decoder.done:
                    await _drain(reads, decoder)
                    break
    rest = decoder.flush()
    if rest:
        yield rest
    decoder.close()


async def _drain(reads: AsyncGenerator[bytes], decoder: StreamDecoder) -> None:
    """Read what follows the mark for a moment; nothing that comes or breaks here changes the answer."""
    import httpx2

    try:
        with anyio.move_on_after(DRAIN_SECONDS):
            async for data in reads:
                decoder.feed(data)
    except httpx2.HTTPError as error:
        log.debug("the connection broke after the end of the stream: %r", error)


@contextmanager
def transport_errors(
    *, streaming: bool = False, provider: str | None = None, model: str | None = None
) -> Generator[None]:
    """Map httpx2's errors to ours: while `streaming`, to errors of the stream, before that to `ConnectionFailed`."""
    try:
        yield
    except Exception as error:
        mapped = map_transport_error(error, streaming=streaming, provider=provider, model=model)
        if mapped is None:
            raise
        raise mapped from error


def map_transport_error(
    error: BaseException, *, streaming: bool, provider: str | None = None, model: str | None = None
) -> Exception | None:
    """Return our error for one of httpx2 (or of a client built like it), None for any other."""
    import httpx2

    if not isinstance(error, httpx2.HTTPError | httpx2.StreamError | ssl.SSLError | asyncio.IncompleteReadError):
        return None
    name = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if streaming:
        if isinstance(error, httpx2.ReadTimeout):
            return StreamTimeout(f"no bytes came for as long as the HTTP client waits ({name})", clock="silence")
        if isinstance(error, httpx2.DecodingError):
            return MalformedStream(f"the content encoding is broken ({name})")
        return StreamInterrupted(f"the connection broke while streaming ({name}); what arrived is in .partial")
    return ConnectionFailed(
        f"could not connect ({name}); check the base URL, the network and any proxy",
        provider=provider,
        model=model,
        retryable=not _is_tls(error),
    )


@contextmanager
def sdk_errors(
    status_error: type[Exception],
    connection_error: type[Exception],
    *,
    provider: str,
    model: str,
    secrets: tuple[str | None, ...] = (),
) -> Generator[None]:
    """Map the errors of an SDK whose status errors have `response` and `body`, and httpx2's own, to ours.

    Raises:
        ProviderError: by the status that the vendor answered.
        ConnectionFailed: there was no answer.
    """
    try:
        yield
    except status_error as error:
        response, body = vars(error)["response"], vars(error).get("body")
        mapped = response_error(response, body, provider=provider, model=model, secrets=secrets)
        raise mapped from clean_cause(error, secrets)
    except connection_error as error:
        cause = error.__cause__ or error
        raise ConnectionFailed(
            f"could not connect ({type(cause).__name__}: {scrub(str(cause), secrets)}); "
            "check the base URL, the network and any proxy",
            provider=provider,
            model=model,
            retryable=not _is_tls(error),
        ) from clean_cause(error, secrets)
    except Exception as error:
        transport = map_transport_error(error, streaming=False, provider=provider, model=model)
        if transport is None:
            raise
        raise transport from error


def clean_cause(error: Exception, secrets: tuple[str | None, ...]) -> Exception | None:
    """Return the error to chain, or None if it would print a secret in the traceback."""
    return error if scrub(str(error), secrets) == str(error) else None


def _is_tls(error: BaseException | None) -> bool:
    """True if a certificate or handshake failed: trying again would not help."""
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def response_error(
    response: httpx2.Response, body: Any, *, provider: str, model: str | None, secrets: tuple[str | None, ...]
) -> ProviderError:
    """Build the error for a response with status 400 or above; `body` is its JSON or text."""
    error = provider_error(
        body,
        status=response.status_code,
        fallback=f"the server answered {response.status_code} {response.reason_phrase}".rstrip(),
        provider=provider,
        model=model,
        request_id=request_id(response),
        retry_after=retry_after(response),
    )
    error.message = scrub(error.message, secrets)[:2000]
    error.args = (error.message,)
    return error


def request_id(response: httpx2.Response) -> str | None:
    """Return the vendor's id of the request, from the header that it uses."""
    for name in ("request-id", "x-request-id", "mistral-correlation-id", "x-correlation-id"):
        value = response.headers.get(name)
        if value:
            return str(value)
    return None


def retry_after(response: httpx2.Response) -> float | None:
    """Return how many seconds the vendor asks to wait; a date is counted from the response's own `Date`."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = response.headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * scale)
        except ValueError:
            return _seconds_until(value, response.headers.get("date"))
    return None


def _seconds_until(value: str, now: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        then = parsedate_to_datetime(value)
        start = parsedate_to_datetime(now) if now else None
    except ValueError:
        return None
    return None if start is None else max(0.0, (then - start).total_seconds())
