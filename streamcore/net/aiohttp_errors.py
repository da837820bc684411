"""Map aiohttp's errors to those of httpx2, which the SDKs and streamcore know."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import aiohttp
import httpx2

_ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (  # the first match is used
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ClientOSError, httpx2.ReadError),
    (aiohttp.ClientError, httpx2.RemoteProtocolError),
    (TimeoutError, httpx2.ConnectTimeout),
    (ValueError, httpx2.LocalProtocolError),  # a header with a line end
)


@contextmanager
def errors() -> Generator[None]:
    """Raise httpx2's errors instead of aiohttp's."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise mapped(error) from error


def mapped(error: BaseException) -> BaseException:
    """Return httpx2's error for one of aiohttp's; any other error is returned as it is."""
    kind = next((mapped for known, mapped in _ERRORS if isinstance(error, known)), None)
    return error if kind is None else kind(_text(error))


def _text(error: BaseException) -> str:
    """Return the error's text, also where aiohttp says `[None]`: the server closed the connection while it was made."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.strerror is None:
        name = type(error.os_error).__name__
        return str(error).replace("[None]", f"[{name}: the server closed the connection; does it speak TLS?]")
    return str(error)
