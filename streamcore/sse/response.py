"""Answer an ASGI request with a stream: own it, close it whatever happens, and always send an end."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable, Mapping
from typing import Any, cast

import anyio
from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from streamcore.errors import OverloadedError, ProviderError, RateLimitError, StreamError, StreamTimeout
from streamcore.sse.encoder import HEARTBEAT, Encoder, Item
from streamcore.sse.events import Events
from streamcore.stream import Stream

log = logging.getLogger("streamcore")


class SSEResponse(EventSourceResponse):
    """Stream a source as Server-Sent Events; made by `sse_response`, which says what the arguments mean."""

    def __init__(
        self,
        source: AsyncIterable[Item],
        encoder: Encoder,
        *,
        resumes: bool,
        wait: bool,
        heartbeat: float,
        grace: float,
        send_timeout: float | None,
        headers: Mapping[str, str] | None,
    ) -> None:
        if isinstance(source, Stream) and encoder.format != "json":
            source.text()  # raises ConfigError if the stream may restart
        self._events = Events(source, encoder, wait=wait)
        self._resumes = resumes
        self._wait = wait
        super().__init__(  # pyright: ignore[reportUnknownMemberType]
            self._events,
            headers=headers,
            ping=heartbeat,
            ping_message_factory=cast("Any", encoder.heartbeat),
            send_timeout=send_timeout,
            shutdown_event=cast("anyio.Event", self._events),  # only its `set()` is called, when the server stops
            shutdown_grace_period=grace,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, then close the source."""
        last_id = dict(scope["headers"]).get(b"last-event-id")
        if last_id is not None and not self._resumes:
            self._events.give_end(last_id.decode("latin-1"))
        try:
            await super().__call__(scope, receive, self._late(send) if self._wait else send)
        except SendTimeoutError:
            log.info("closing a stream whose client takes no heartbeat")
        finally:
            await self._events.aclose()

    async def _stream_response(self, send: Send) -> None:
        """Send the events, without the timeout around each that costs as much as sending does.

        Takes the place of sse-starlette's method; were it not called, that would do the same more slowly. A client
        that takes nothing is noticed by the heartbeat, which waits behind the event that is stuck.
        """
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for data in self._events:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        async with self._send_lock:  # a heartbeat may be on its way
            self.active = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _late(self, send: Send) -> Send:
        """Hold the headers back until something has come; if that is an error, it becomes the status."""
        start: Message | None = None

        async def late(message: Message) -> None:
            nonlocal start
            if message["type"].endswith("response.start"):
                start = message
                return
            if start is not None:
                if message.get("body") == HEARTBEAT:
                    return
                error = self._events.failed_first
                if error is not None:
                    start, message = _refusal(error, self._events.encoder, start, message)
                await send(start)
                start = None
            await send(message)

        return late


def _refusal(error: Exception, encoder: Encoder, start: Message, body: Message) -> tuple[Message, Message]:
    """Turn the first two messages of a stream into those of an error with a status."""
    headers = MutableHeaders(raw=list(start["headers"]))
    headers["content-type"] = "application/json"
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["retry-after"] = f"{retry_after:.0f}"
    text = json.dumps({"error": encoder.facts(error)})
    return {**start, "status": _status(error), "headers": headers.raw}, {**body, "body": text.encode()}


def _status(error: Exception) -> int:
    if isinstance(error, RateLimitError | OverloadedError):
        return 503
    if isinstance(error, StreamTimeout):
        return 504
    return 502 if isinstance(error, ProviderError | StreamError) else 500
