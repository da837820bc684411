"""Send through an HTTP client that others use, too: read little of a refusal, and count the open responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx2

from streamcore.net.error_body import with_short_body


class LimitedClient(httpx2.AsyncClient):
    """The HTTP client that an SDK gets. Closing it does not close `inner`, which has another owner.

    Of a response with a status of 300 or above, only what `with_short_body` reads is read.
    """

    def __init__(self, inner: httpx2.AsyncClient) -> None:
        # The state of the base class is not used, but for what SDKs look at.
        super().__init__(
            transport=_Unused(), trust_env=False, timeout=inner.timeout, follow_redirects=inner.follow_redirects
        )
        self.inner = inner
        """The client that sends."""
        self.streaming = 0
        """How many responses are open or awaited."""

    @property
    def is_closed(self) -> bool:
        """True if `inner` is closed."""
        return self.inner.is_closed

    def build_request(self, *parts: Any, **more: Any) -> httpx2.Request:
        """Build a request as `inner` does."""
        return self.inner.build_request(*parts, **more)

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
