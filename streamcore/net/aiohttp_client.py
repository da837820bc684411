"""Send over aiohttp from an `httpx2.AsyncClient`: a fifth of the cost per read, and per connection among thousands.

The SDKs have aiohttp clients of their own. They lose the bytes that arrived before a body broke off, wait without limit
behind a broken frame, let aiohttp's errors through, and close a response one turn of the loop late, or, while a request
is still being sent, not at all.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import aiohttp
import anyio
import httpx2
from yarl import URL

from streamcore.errors import ConfigError
from streamcore.net.aiohttp_private import Payload, new_connector
from streamcore.net.httpx2_private import TransportClient

_LARGE = (
    1 << 20
)  # bytes; a larger request is given to aiohttp as a file, so that sending it does not block the event loop
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


class AiohttpClient(TransportClient):
    """An `httpx2.AsyncClient` that sends over aiohttp. Runs on asyncio only."""

    def new_transport(self, context: ssl.SSLContext, proxy: httpx2.Proxy | None) -> httpx2.AsyncBaseTransport:
        """Return a transport over aiohttp."""
        return AiohttpTransport(context, proxy)


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Send each request over one `aiohttp.ClientSession`, which has as many connections as there are requests."""

    def __init__(self, context: ssl.SSLContext, proxy: httpx2.Proxy | None = None) -> None:
        self._context = context
        self._proxy: dict[str, Any] = {}
        self._proxy_headers: list[tuple[str, str]] = []
        if proxy is not None:
            if proxy.url.scheme not in ("http", "https"):
                raise ConfigError(
                    f"aiohttp does not support a {proxy.url.scheme} proxy; use transport='httpx2', or remove the proxy "
                    "from the environment (HTTPS_PROXY, ALL_PROXY)"
                )
            self._proxy_headers = proxy.headers.multi_items()
            if proxy.auth is not None:
                encoded = b64encode(":".join(proxy.auth).encode()).decode()
                self._proxy_headers.append(("Proxy-Authorization", f"Basic {encoded}"))
            self._proxy = {"proxy": str(proxy.url), "proxy_headers": self._proxy_headers}
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response, whose body is unread."""
        if self._session is None:
            self._session = self._open()
        limits = request.extensions.get("timeout", {})
        body = await request.aread()
        url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
        headers = request.headers.multi_items()
        if url.scheme == "http":
            headers += self._proxy_headers  # aiohttp sends those of `proxy_headers` with the request for a tunnel only
        with _errors():
            try:
                response = await self._session.request(
                    request.method,
                    URL(str(url), encoded=True),
                    headers=headers,
                    data=BytesIO(body) if len(body) >= _LARGE else body or None,
                    allow_redirects=False,
                    timeout=self._timeout(limits),
                    server_hostname=request.extensions.get("sni_hostname"),
                    **self._proxy,
                )
            except BaseException:
                await _next_turn()
                raise
        return httpx2.Response(
            response.status,
            headers=response.raw_headers,
            stream=Body(response),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    def _timeout(self, limits: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
        """Return aiohttp's form of httpx2's timeouts.

        `sock_connect` covers TCP and TLS, but not the lookup of the name, so `connect` limits both together. It would
        also limit the answer of a proxy, which httpx2 does not.
        """
        pool, connect = limits.get("pool"), limits.get("connect")
        if pool is None and connect is not None and not self._proxy:
            pool = 2 * connect
        return aiohttp.ClientTimeout(connect=pool, sock_connect=connect, sock_read=limits.get("read"))

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=new_connector(self._context),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),  # httpx2 keeps cookies
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class Body(httpx2.AsyncByteStream):
    """The bytes of a response. Bytes that arrived before it broke off are yielded before the error is raised."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        if not isinstance(content, Payload):  # there is no body
            return
        # Encoded pieces are yielded separately, so that those before a broken one can be decoded.
        single = "content-encoding" in self._response.headers
        with _errors():
            while await content.more():
                pieces = content.take()
                if single:
                    for data in pieces:
                        yield data
                else:
                    yield b"".join(pieces)

    async def aclose(self) -> None:
        if not self._response.closed:
            self._response.close()
            await _next_turn()


@contextmanager
def _errors() -> Generator[None]:
    """Map aiohttp's errors to those of httpx2."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        mapped = next(mapped for known, mapped in _ERRORS if isinstance(error, known))
        raise mapped(str(error)) from error


async def _next_turn() -> None:
    """Wait for the next turn of the event loop, in which it closes the socket."""
    with anyio.CancelScope(shield=True):
        await anyio.lowlevel.checkpoint()
