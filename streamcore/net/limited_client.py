"""Send through an HTTP client that others use, too: read little of a refusal, and count the open responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import httpx2

from streamcore.net.error_body import with_short_body


class LimitedClient(httpx2.AsyncClient):
    """The HTTP client that an SDK gets. Closing it does not close `inner`, which has another owner.

    Of a response with a status of 300 or above, only what `with_short_body` reads is read.
    """

    def __init__(self, inner: httpx2.AsyncClient, *, own: bool = False) -> None:
        """Send with `inner`; `own` is True if streamcore made it, so that nobody changes its defaults."""
        # The state of the base class is not used, but for what SDKs look at.
        super().__init__(
            transport=_Unused(), trust_env=False, timeout=inner.timeout, follow_redirects=inner.follow_redirects
        )
        self.inner = inner
        """The client that sends."""
        self.streaming = 0
        """How many responses are open or awaited."""
        self._defaults = tuple(inner.headers.raw) if own else None

    @property
    def is_closed(self) -> bool:
        """True if `inner` is closed."""
        return self.inner.is_closed

    def build_request(self, method: str, url: httpx2.URL | str, **parts: Any) -> httpx2.Request:
        """Build a request as `inner` does.

        A client of streamcore's has no base URL, no cookies and no parameters, so its headers are all that is merged.
        httpx2 searches the list of headers once for each of them, and for each header that it adds: a tenth of the
        operations of a request.
        """
        given = {name for name, value in parts.items() if value}
        timeout: Any = parts.get("timeout", httpx2.USE_CLIENT_DEFAULT)
        parsed = _parsed(url) if isinstance(url, str) else url
        if (
            self._defaults is None
            or not given <= _MERGED_HERE
            or parts.get("json") is not None
            or (parsed.query and parts.get("params") is not None)
            or parsed.is_relative_url
        ):
            return self.inner.build_request(method, url, **parts)
        timeout = self.inner.timeout if timeout is httpx2.USE_CLIENT_DEFAULT else httpx2.Timeout(timeout)
        extensions = {"timeout": timeout.as_dict()}
        given_headers, content = _pairs(parts.get("headers")), parts.get("content")
        missing, frames_itself = _compared(self._defaults, tuple([name for name, _ in given_headers]))
        headers = [*missing, *given_headers]
        if frames_itself or not content or not isinstance(content, bytes) or not parsed.host:
            return httpx2.Request(method, parsed, headers=headers, content=content, extensions=extensions)
        headers = [(b"Host", parsed.netloc), *headers, (b"Content-Length", b"%d" % len(content))]
        body = httpx2.ByteStream(content)  # with a stream, httpx2 adds no headers
        request = httpx2.Request(method, parsed, headers=headers, stream=body, extensions=extensions)
        request.read()
        return request

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request with `inner`."""
        self.streaming += 1
        try:
            response = await self.inner.send(request, stream=True, **options)
            if response.status_code >= 300:
                response = await with_short_body(response)
            elif not stream:
                await response.aread()
        except BaseException:
            self.streaming -= 1
            raise
        if response.is_closed:
            self.streaming -= 1
        else:
            response.stream = _Counted(cast("httpx2.AsyncByteStream", response.stream), self._ended)
        return response

    async def aclose(self) -> None:
        """Do nothing: the owner of `inner` closes it."""

    def _ended(self) -> None:
        self.streaming -= 1


_Pair = tuple[bytes, bytes]
_MERGED_HERE = frozenset({"headers", "content", "timeout"})
_parsed = lru_cache(maxsize=128)(httpx2.URL)
"""The URLs of a service's requests are few, and parsing one takes as long as merging the headers."""


@lru_cache(maxsize=128)
def _compared(defaults: tuple[_Pair, ...], given: tuple[str | bytes, ...]) -> tuple[tuple[_Pair, ...], bool]:
    """Return the default headers that are not among the names, and whether a name is one that httpx2 would add."""
    names = {name.lower() if isinstance(name, bytes) else name.lower().encode() for name in given}
    missing = tuple(pair for pair in defaults if pair[0].lower() not in names)
    added = (b"host", b"content-length", b"transfer-encoding")
    return missing, any(name in names or any(pair[0].lower() == name for pair in missing) for name in added)


def _pairs(headers: httpx2.Headers | Mapping[Any, Any] | Sequence[tuple[Any, Any]] | None) -> Sequence[tuple[Any, Any]]:
    """Return the names and values of headers, in one of the forms that httpx2 takes."""
    if isinstance(headers, httpx2.Headers):
        return headers.raw
    return [*headers.items()] if isinstance(headers, Mapping) else headers or ()


class _Counted(httpx2.AsyncByteStream):
    """Call a function once when the stream of a response is closed."""

    def __init__(self, stream: httpx2.AsyncByteStream, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended: Callable[[], None] | None = ended

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            ended, self._ended = self._ended, None
            if ended is not None:
                ended()


class _Unused(httpx2.AsyncBaseTransport):
    """The transport of the base class, which needs one; a default one would load certificates."""
