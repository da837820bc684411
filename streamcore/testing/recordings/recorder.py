"""Record the exchanges of an httpx2 transport, without the keys."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import cast

import anyio
import httpx2

from streamcore.testing.recordings.exchange import End, Exchange, Read, RecordedRequest, json_or_bytes
from streamcore.testing.recordings.recording import Recording
from streamcore.testing.recordings.scrub import (
    plain_body,
    scrub_bytes,
    scrub_headers,
    scrub_json,
    scrub_url,
    secrets_of,
)


def record(transport: httpx2.AsyncBaseTransport, *, provider: str | None = None) -> Recorder:
    """Return a transport that forwards to `transport` and records each exchange; `provider` names the sender.

    Requests ask for uncompressed responses, so that the recording can be read and searched for keys.
    """
    return Recorder(transport, provider=provider)


class Recorder(httpx2.AsyncBaseTransport):
    """Forward requests and record the exchanges; see `record`."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, *, provider: str | None = None) -> None:
        self._transport = transport
        self._provider = provider
        self._takes: list[_Take] = []
        self._secrets: set[str] = set()

    @property
    def recording(self) -> Recording:
        """The recording so far, without keys; a response that is still being read has the end `left`."""
        return Recording(tuple(self._exchange(take) for take in self._takes))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Forward a request; its response is recorded while it is read."""
        return await self.send(request, self._transport.handle_async_request)

    async def send(
        self, request: httpx2.Request, send: Callable[[httpx2.Request], Awaitable[httpx2.Response]]
    ) -> httpx2.Response:
        """Send a request with `send` instead of the wrapped transport, and record it."""
        body = await request.aread()
        self._secrets |= secrets_of(request)
        request.headers["accept-encoding"] = "identity"
        response = await send(request)
        take = _Take(request, body, response, anyio.current_time())
        self._takes.append(take)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=take, extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close the wrapped transport."""
        await self._transport.aclose()

    def _exchange(self, take: _Take) -> Exchange:
        secrets = sorted(self._secrets, key=len, reverse=True)
        request, response = take.request, take.response
        headers, reads = plain_body(response.headers.raw, take.reads, secrets)
        asked = json_or_bytes(take.body)
        asked = scrub_bytes(asked, secrets) if isinstance(asked, bytes) else scrub_json(asked, secrets)
        return Exchange(
            RecordedRequest(request.method, scrub_url(request.url, secrets), asked),
            response.status_code,
            scrub_headers(headers, secrets),
            reads,
            self._provider or guess_provider(request.url),
            take.end,
        )


class _Take(httpx2.AsyncByteStream):
    """An exchange in progress: it forwards the response's reads and records them."""

    def __init__(self, request: httpx2.Request, body: bytes, response: httpx2.Response, start: float) -> None:
        self.request = request
        self.body = body
        self.response = response
        self.reads: list[Read] = []
        self.end: End = "left"
        self._start = start
        self._stream = cast("httpx2.AsyncByteStream", response.stream)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reads = aiter(self._stream)
        try:
            async for data in reads:
                if data:
                    self.reads.append(Read(round(anyio.current_time() - self._start, 4), data))
                    yield data
            self.end = "whole"
        except httpx2.TransportError:
            self.end = "broken"
            raise
        finally:
            if isinstance(reads, AsyncGenerator):
                await reads.aclose()

    async def aclose(self) -> None:
        await self._stream.aclose()


def guess_provider(url: httpx2.URL) -> str | None:
    """Return the provider that uses the wire of a URL, None if the wire is not known."""
    if url.path.endswith("/messages"):
        return "anthropic"
    if url.path.endswith("/converse-stream"):
        return "bedrock"
    if url.path.endswith("/responses"):
        return "openai-responses"
    if url.path.endswith("/chat/completions"):
        return "mistral" if "mistral" in url.host or "/mistral/" in url.path else "openai"
    if url.path.endswith(":streamGenerateContent"):
        return "google"
    return None
