"""Send over aiohttp from an `httpx2.AsyncClient`: a fifth of the cost per read, and per connection among thousands.

The SDKs have aiohttp clients of their own. They lose the bytes that arrived before a body broke off, wait without limit
behind a broken frame, let aiohttp's errors through, and close a response one turn of the loop late, or, while a request
is still being sent, not at all.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from io import BytesIO
from typing import Any

import aiohttp
import anyio
import httpx2
from yarl import URL

from streamcore.errors import ConfigError
from streamcore.net.aiohttp_errors import errors
from streamcore.net.aiohttp_private import drop_heads, new_connector, reads_of
from streamcore.net.httpx2_private import TransportClient
from streamcore.net.raw_response import READS

_LARGE = 1 << 20  # bytes; aiohttp gets a larger request as a file, so that sending it does not block the event loop


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
        with errors():
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
        reads, head = Body(response), response.raw_headers
        drop_heads(response)
        extensions = {"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode(), READS: reads}
        return httpx2.Response(response.status, headers=head, stream=reads, extensions=extensions)

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
        self._reads = reads_of(response)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _nothing() if self._reads is None else self._reads

    async def aclose(self) -> None:
        if not self._response.closed:
            self._response.close()
            await _next_turn()


async def _nothing() -> AsyncGenerator[bytes]:
    return
    yield b""


async def _next_turn() -> None:
    """Wait for the next turn of the event loop, in which it closes the socket."""
    with anyio.CancelScope(shield=True):
        await anyio.lowlevel.checkpoint()
