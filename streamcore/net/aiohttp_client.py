"""Send over aiohttp from an `httpx2.AsyncClient`: a fifth of the price of a read, and of a connection among thousands.

The SDKs have such clients of their own. This one stands in their place, because theirs lose what had come when a body
breaks off, wait for ever behind a broken frame, let aiohttp's errors through, and leave a response open for a turn of
the loop, or for as long as a request is not wholly sent. What it takes from inside aiohttp for that is in `Handler`,
`_Payload` and `Body`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from typing import Any, cast

import aiohttp
import anyio
import httpx2
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from streamcore.errors import ConfigError

_HEAD_END = b"\r\n\r\n"
_LARGE = 1 << 20  # bytes of a request, from which on aiohttp wants a file, to give way to others meanwhile
_ERRORS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (  # the first that fits counts
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


class AiohttpClient(httpx2.AsyncClient):
    """Be an `httpx2.AsyncClient` in all but what it sends over. Runs on asyncio only."""

    def _init_transport(self, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return settings.get("transport") or AiohttpTransport(_context(settings))

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return AiohttpTransport(_context(settings), proxy)


def _context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    return httpx2.create_ssl_context(
        **{name: settings[name] for name in ("verify", "cert", "trust_env") if name in settings}
    )


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Send each request over one `aiohttp.ClientSession`, which has as many connections as there are requests."""

    def __init__(self, context: ssl.SSLContext, proxy: httpx2.Proxy | None = None) -> None:
        self._context = context
        self._proxy: dict[str, Any] = {}
        if proxy is not None:
            if proxy.url.scheme not in ("http", "https"):
                raise ConfigError(
                    f"aiohttp knows no {proxy.url.scheme} proxy; take transport='httpx2', or take the proxy out of the "
                    "environment (HTTPS_PROXY, ALL_PROXY)"
                )
            auth = None if proxy.auth is None else aiohttp.BasicAuth(*proxy.auth)
            self._proxy = {"proxy": str(proxy.url), "proxy_auth": auth, "proxy_headers": dict(proxy.headers)}
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response, with the body to be read."""
        if self._session is None:
            self._session = self._open()
        limits = request.extensions.get("timeout", {})
        body = await request.aread()
        url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
        with _errors():
            try:
                response = await self._session.request(
                    request.method,
                    URL(str(url), encoded=True),
                    headers=request.headers.multi_items(),
                    data=BytesIO(body) if len(body) >= _LARGE else body or None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        connect=limits.get("pool"), sock_connect=limits.get("connect"), sock_read=limits.get("read")
                    ),
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

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=5.0, ssl=self._context)
        cast("Any", connector)._factory = partial(Handler, loop=asyncio.get_running_loop())
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),  # httpx2 keeps cookies
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class Body(httpx2.AsyncByteStream):
    """The bytes of a response. What had come before it broke off is handed out before the error."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        if not isinstance(content, _Payload):  # there is none
            return
        # Encoded pieces go one by one, so that what can be decoded stands apart from what is broken.
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


class _Payload(aiohttp.StreamReader):
    """aiohttp's buffer for a body, without a record of each chunk's end, which costs more than the chunk does."""

    __slots__ = ()

    async def more(self) -> bool:
        """Wait until there is something to take; False at the end. What broke the body is raised behind all of it."""
        while not self._buffer:
            if self._exception is not None:
                raise self._exception
            if self._eof:
                return False
            with suppress(aiohttp.ClientError):
                await self._wait("more")
        return True

    def take(self) -> list[bytes]:
        """Return what is there, in the pieces in which it came, and let more come."""
        pieces = list(self._buffer)
        self._buffer.clear()
        full, self._size = self._size > self._low_water, 0
        if full:
            self._protocol.resume_reading()
        return pieces

    def begin_http_chunk_receiving(self) -> None:
        """Do nothing."""

    def end_http_chunk_receiving(self) -> None:
        """Do nothing."""


class Handler(ResponseHandler):
    """aiohttp's end of a connection, which keeps what came before an error, and closes at once."""

    def close(self) -> None:
        """Close without sending what is not sent yet."""
        self.abort()

    def data_received(self, data: bytes) -> None:
        """Take in what came."""
        payload: Any = self._payload
        if type(payload) is _Payload and not payload.is_eof():
            super().data_received(data)
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        """Take the head of a response apart from its body, so that a broken body does not void both."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if end >= len(_HEAD_END):
            super().data_received(data[:end])
            data = data[end:]
            self._own_payload()
        if data:
            super().data_received(data)
            self._own_payload()

    def _own_payload(self) -> None:
        payload: Any = self._payload
        if type(payload) is aiohttp.StreamReader:
            payload.__class__ = _Payload  # the parser makes them, and has no place to say of which class

    def _reschedule_timeout(self) -> None:
        # One timer for a whole body, moved when it fires: to arm one for each read costs as much as the read.
        if not self._read_timeout:
            return
        self._heard = self._loop.time()
        if self._read_timeout_handle is None:
            super()._reschedule_timeout()

    def _on_read_timeout(self) -> None:
        left = self._heard + (self._read_timeout or 0.0) - self._loop.time()
        if left > 0:
            self._read_timeout_handle = self._loop.call_later(left, self._on_read_timeout)
        else:
            super()._on_read_timeout()

    def set_exception(self, *error: Any, **cause: Any) -> None:
        """Tell whoever reads the body, too."""
        payload: Any = self._payload
        super().set_exception(*error, **cause)
        if payload is not None and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(aiohttp.ClientPayloadError(f"the body broke off: {error[0]}"))


@contextmanager
def _errors() -> Generator[None]:
    """Map aiohttp's errors to those of httpx2."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        mapped = next(mapped for known, mapped in _ERRORS if isinstance(error, known))
        raise mapped(str(error)) from error


async def _next_turn() -> None:
    """Let the loop close the socket, which it does in its next turn."""
    with anyio.CancelScope(shield=True):
        await anyio.lowlevel.checkpoint()
