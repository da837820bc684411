"""Map the errors of HTTP clients and vendors' SDKs, and responses with an error status, to streamcore's errors."""

from __future__ import annotations

import asyncio
import math
import ssl
from types import TracebackType
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from streamcore.errors import (
    ConfigError,
    ConnectionFailed,
    MalformedStream,
    ProviderError,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
    provider_error,
)
from streamcore.net.credentials import credentials, scrub_error
from streamcore.net.open_files import is_out_of_files, out_of_files

if TYPE_CHECKING:
    import httpx2

_SHOWN = 2000  # characters of an error body
_LONGEST_ID = 512  # bytes of a request's id
_CLOSED = "Cannot send a request, as the client has been closed."  # httpx2 has no class for it


class TransportErrors:
    """Map httpx2's errors to streamcore's: while `streaming` to stream errors, before that to `ConnectionFailed`.

    Each request enters two of these, and a class costs less than a generator under `@contextmanager`.
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
        """Raise the mapped error; return if this error is not mapped."""
        mapped = map_transport_error(error, streaming=self._streaming, provider=self._provider, model=self._model)
        if mapped is not None:
            raise mapped from _cause(error, mapped)


def map_transport_error(
    error: BaseException, *, streaming: bool, provider: str | None = None, model: str | None = None
) -> Exception | None:
    """Return streamcore's error for one of httpx2's, None for any other."""
    import httpx2

    if type(error).__module__.partition(".")[0] == "httpcore2":  # httpx2 maps no error of closing a response
        same = getattr(httpx2, type(error).__name__, httpx2.NetworkError)
        return map_transport_error(same(str(error)), streaming=streaming, provider=provider, model=model)
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return ConfigError(
            f"the base URL of provider {provider!r} is not valid ({type(error).__name__}: {error}); a base URL begins "
            "with http:// or https://"
        )
    if isinstance(error, RuntimeError) and str(error) == _CLOSED:
        return ConfigError(
            f"the HTTP client of provider {provider!r} is closed; keep the http_client= or client= that you give open "
            "until the stream has ended"
        )
    if not isinstance(error, httpx2.HTTPError | httpx2.StreamError | ssl.SSLError | asyncio.IncompleteReadError):
        return None
    name = _describe(error)
    if streaming:
        if isinstance(error, httpx2.ReadTimeout):
            return StreamTimeout(f"no bytes arrived within the HTTP client's read timeout ({name})", clock="silence")
        if isinstance(error, httpx2.DecodingError):
            return MalformedStream(f"the content encoding is broken ({name})")
        return StreamInterrupted(f"the connection broke while streaming ({name}); what arrived is in .partial")
    if isinstance(error, httpx2.LocalProtocolError):  # its text is the header that was refused, so it is not shown
        return ConfigError(
            f"the request of provider {provider!r} cannot be sent over HTTP; remove line ends and other control "
            "characters from its API key and from headers="
        )
    message = f"could not connect ({name}); check the base URL, the network and any proxy"
    if isinstance(error, httpx2.ReadTimeout):
        message = f"no response arrived within the HTTP client's read timeout ({name}); give the client timeout=None"
    elif is_out_of_files(error):
        message = out_of_files()
    return ConnectionFailed(
        message,
        provider=provider,
        model=model,
        retryable=isinstance(error, httpx2.TimeoutException) or not _is_tls(error),
    )


def _describe(error: BaseException) -> str:
    """Return an error's class name, with the first text that it or its causes have.

    The text of a cancellation is skipped: anyio's names its cancel scope, which no reader can use.
    """
    link: BaseException | None = error
    while link is not None and not (isinstance(link, Exception) and str(link)):
        link = link.__cause__ or link.__context__
    return type(error).__name__ if link is None else f"{type(error).__name__}: {link}"


def _cause(error: BaseException, mapped: Exception) -> BaseException | None:
    """Return the error to chain: None where its text may be an API key."""
    return None if isinstance(mapped, ConfigError) else error


class SDKErrors(TransportErrors):
    """Map the errors of an SDK whose status errors have `response` and `body`, and httpx2's, to streamcore's.

    Raises:
        ProviderError: the vendor answered with an error status.
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
            raise mapped from error
        if isinstance(error, self._connection_error):
            cause = error.__cause__ or error
            if isinstance(cause, StreamcoreError):  # raised by our transport; SDKs report it as a lost connection
                raise cause from None
            failed = map_transport_error(cause, streaming=False, provider=provider, model=model) or ConnectionFailed(
                f"could not connect ({_describe(cause)})", provider=provider, model=model
            )
            raise failed from _cause(error, failed)
        super()._map(error)


def _is_tls(error: BaseException | None) -> bool:
    """Return whether a certificate or handshake failed: a retry would not help."""
    while error is not None:
        if isinstance(error, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def response_error(response: httpx2.Response, body: object, *, provider: str, model: str | None) -> ProviderError:
    """Return the error for a response with status 300 or above; `body` is its JSON or text."""
    if response.status_code < 400:
        return _redirected(response, provider, model)
    if isinstance(body, list):  # some gateways wrap the object in a list
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
    scrub_error(error, credentials(response.request))  # before it is cut: a part of a key is a secret, too
    error.message = error.message[:_SHOWN]
    error.args = (error.message,)
    return error


def _redirected(response: httpx2.Response, provider: str, model: str | None) -> ProviderError:
    """Return the error for a redirect: the request has a key and a prompt, which are for the first server only."""
    host = _target_host(response)
    target = f"redirects to {host!r}" if host else "answered with a redirect that names no host"
    error = ProviderError(
        f"the server {target}, and redirects are not followed, since the request has the API key; if the new address "
        "is right, set it as the base URL",
        provider=provider,
        model=model,
        status=response.status_code,
        request_id=request_id(response),
        retryable=False,
    )
    scrub_error(error, credentials(response.request))
    return error


def _target_host(response: httpx2.Response) -> str:
    """Return host and port of a redirect's target, "" if it has none; never more of the URL, which may have secrets."""
    try:
        parts = urlsplit(response.headers.get("location", ""))
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return ""
    host = parts.hostname or ("" if parts.scheme else response.request.url.host)
    return f"{host}{port}" if host else ""


def _answered(response: httpx2.Response) -> str:
    """Describe a response without a useful body; for a wrong address, with the address."""
    message = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
    if response.status_code not in (404, 405):
        return message
    url = response.request.url
    asked = f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}{url.path}"
    return f"{message} to {asked}; is the base URL right, with or without /v1 as this provider wants it?"


def request_id(response: httpx2.Response) -> str | None:
    """Return the vendor's id of the request: header `...request-id`, else `...correlation-id`.

    AWS writes `x-amzn-requestid`. An id may repeat a part of the request: `clean_start` and `scrub_error` remove
    secrets from chunks and errors.
    """
    second: bytes = b""
    for name, value in response.headers.raw:  # undecoded, since this runs for every request
        ending = name[-14:].lower()
        if value and ending.endswith((b"request-id", b"-requestid")):
            return value[:_LONGEST_ID].decode("latin-1")
        if ending == b"correlation-id":
            second = second or value
    return second[:_LONGEST_ID].decode("latin-1") or None


def retry_after(response: httpx2.Response) -> float | None:
    """Return how many seconds the vendor asks to wait; a date is relative to the response's own `Date`."""
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
