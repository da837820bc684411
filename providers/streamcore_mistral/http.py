"""Stand between the `mistralai` SDK and httpx2, where the SDK leaves no other way in.

The SDK hands each response to hooks in a thread before it returns it; a caller that is cancelled meanwhile would
leave the response open for good. So every request notes here what it opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    import httpx2

CLOSE_SECONDS = 2.0


class Opened:
    """What one request has opened so far."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.response: httpx2.Response | None = None

    async def aclose(self) -> None:
        """Close the response, if there is one, even while being cancelled."""
        if self.response is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self.response.aclose()


_opened: ContextVar[Opened | None] = ContextVar("streamcore_mistral_opened", default=None)


@contextmanager
def one_request(content: bytes) -> Iterator[Opened]:
    """Let the next request of this task have `content` as its body, and note its response."""
    opened = Opened(content)
    token = _opened.set(opened)
    try:
        yield opened
    finally:
        _opened.reset(token)


class Sender:
    """The `async_client` of the SDK: an httpx2 client, seen through `one_request`."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    def build_request(self, method: str, url: Any, **parts: Any) -> httpx2.Request:
        """Build the SDK's request, with the body of `one_request`."""
        opened = _opened.get()
        if opened is not None:
            parts["content"] = opened.content
        return self._http.build_request(method, url, **parts)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send it and note the response."""
        response = await self._http.send(request, **options)
        opened = _opened.get()
        if opened is not None:
            opened.response = response
        return response

    async def aclose(self) -> None:
        """Do nothing: whoever made the httpx2 client closes it."""


class UnusedSyncClient:
    """The `client` of the SDK, which otherwise opens a second connection pool that nothing here uses."""

    def build_request(self, method: str, url: Any, **parts: Any) -> httpx2.Request:
        """Refuse: this provider is asynchronous."""
        raise RuntimeError("streamcore's Mistral client is asynchronous")

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Refuse: this provider is asynchronous."""
        raise RuntimeError("streamcore's Mistral client is asynchronous")

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
