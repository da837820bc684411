"""Answer an ASGI request with a stream: own it, close it in every case, and always send an end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Mapping

import anyio
from anyio.abc import TaskGroup
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from streamcore.sse.encoder import Encoder, EventEncoder, Item
from streamcore.sse.events import Events
from streamcore.sse.shutdown import ended_with_server
from streamcore.stream import Stream

log = logging.getLogger("streamcore")

BODY_SEND = "streamcore.body_send"
"""The key of an ASGI scope with a `send` for the parts of a body, past middleware that changes only the start.

Each middleware that wraps `send` is one more call for each token.
"""

_LAST: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class SSEResponse(StreamingResponse):
    """Stream a source as Server-Sent Events; `sse_response` makes one and documents the arguments.

    Three tasks run beside that of the request: one sends the events, one waits for the client to disconnect, one sends
    heartbeats. Each cancels the group when it ends; the source is closed before the request ends. The events have a
    task of their own, since each token wakes it: the request's own task would be resumed through all its middleware.

    With `breaks`, the connection is broken after an error, for clients that take a body that ends properly for a
    complete answer: the last message is not sent, so that the server closes the connection.
    """

    def __init__(
        self,
        source: AsyncIterable[Item],
        encoder: EventEncoder,
        *,
        resumes: bool,
        wait: bool,
        heartbeat: float,
        grace: float,
        send_timeout: float | None,
        headers: Mapping[str, str] | None,
        breaks: bool = False,
    ) -> None:
        if isinstance(source, Stream) and isinstance(encoder, Encoder) and encoder.format != "json":
            source.text()  # raises ConfigError if the stream may restart
        self._encoder = encoder
        self._events = Events(source, encoder, wait=wait)
        self._resumes = resumes
        self._wait = wait
        self._heartbeat = heartbeat
        self._grace = grace
        self._send_timeout = send_timeout
        self._breaks = breaks
        self._tasks: TaskGroup | None = None
        self._sending = anyio.Lock(fast_acquire=True)  # between a heartbeat and the last message
        self.sent_all = False
        """Whether the end of the stream was sent."""
        self._open = False  # the headers are sent, the last message is not
        self._closing = False  # cancelled by this response itself
        self._failed: Exception | None = None
        super().__init__(self._events, headers=headers, media_type="text/event-stream")
        self.headers.setdefault("Cache-Control", "no-store")
        self.headers["X-Accel-Buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, then close the source."""
        last_id = dict(scope["headers"]).get(b"last-event-id")
        if last_id is not None and not self._resumes:
            self._events.end_instead(last_id.decode("latin-1"))
        try:
            if scope["method"] == "HEAD":
                await send(self._start())
                await send(_LAST)
            else:
                await self._answer(receive, send, scope.get(BODY_SEND, send))
        finally:
            await self._events.aclose()
        if self.background is not None:
            await self.background()

    async def _answer(self, receive: Receive, send: Send, send_body: Send) -> None:
        """Send the events until they end, the client goes, or the server stops."""
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._await_disconnect, receive)
            if self._heartbeat > 0:
                self._tasks.start_soon(self._send_heartbeats, send)
            self._tasks.start_soon(self._send_all, send, send_body)
        if self._failed is not None:
            raise self._failed

    async def _send_all(self, send: Send, send_body: Send) -> None:
        """Send the events, then end the other tasks."""
        try:
            with ended_with_server(self._stop):
                await self._send_events(send, send_body)
        except anyio.get_cancelled_exc_class():
            if not self._closing:
                await self._send_cut(send)
            raise
        except OSError as error:  # what a server raises for a client that is gone, since ASGI 2.4
            log.debug("the client of a stream is gone: %r", error)
        except Exception as error:  # noqa: BLE001  raised in `_answer`, since the group would wrap it
            self._failed = error
        finally:
            await self._events.aclose()  # in the task that read them
        self._close()

    async def _send_events(self, send: Send, send_body: Send) -> None:
        # No timeout around each event, which would cost as much as sending it: a heartbeat waits for an event that
        # is stuck, and has one.
        if self._wait:
            first = await anext(self._events, b"")
            error = self._events.first_error
            if error is not None:
                await self._send_refusal(send, error)
                return
            await send(self._start())
            self._open = True
            await send({"type": "http.response.body", "body": first, "more_body": True})
        else:
            await send(self._start())
            self._open = True
        async for data in self._events:
            await send_body({"type": "http.response.body", "body": data, "more_body": True})
        await self._send_last(send)

    async def _send_last(self, send: Send) -> None:
        async with self._sending:  # so no heartbeat waits for this message, which has a timeout of its own
            self._open = False
            with anyio.move_on_after(self._send_timeout) as limit:
                if not (self._breaks and self._events.failed):
                    await send(_LAST)
            if limit.cancelled_caught:
                log.info("a client took no end of its stream within %s s; it is closed", self._send_timeout)
                return
            self.sent_all = True
            self.on_sent_all()

    def on_sent_all(self) -> None:
        """Do nothing; called when the end was sent, before the next request of the connection can be read."""

    async def _send_refusal(self, send: Send, error: Exception) -> None:
        """Send an error that came before the first event, as a status with a JSON body."""
        refusal = self._encoder.refusal(error)
        self.status_code = refusal.status
        self.headers["content-type"] = "application/json"
        self.headers.update(refusal.headers)
        await send(self._start())
        await send({"type": "http.response.body", "body": refusal.body, "more_body": False})

    async def _send_cut(self, send: Send) -> None:
        """Send an end, as the server cancels this request while its client is still there."""
        if not self._open:
            return
        with anyio.move_on_after(self._grace, shield=True):
            try:
                data = self._events.cut()
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                await self._send_last(send)
            except OSError as error:
                log.debug("the client of a cancelled stream is gone: %r", error)

    async def _await_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._close()

    async def _send_heartbeats(self, send: Send) -> None:
        message: Message = {"type": "http.response.body", "body": self._encoder.heartbeat(), "more_body": True}
        late = False
        while not late:
            await anyio.sleep(self._heartbeat)
            async with self._sending:
                if not self._open:
                    continue
                try:
                    with anyio.move_on_after(self._send_timeout) as limit:
                        await send(message)
                    late = limit.cancelled_caught
                except OSError:
                    break
        if late:
            log.info("a client took no heartbeat within %s s; its stream is closed", self._send_timeout)
        self._close()

    def _stop(self) -> None:
        """End the stream, as the server is about to stop."""
        self._events.stop()
        if self._tasks is not None:
            self._tasks.start_soon(self._close_after_grace)

    async def _close_after_grace(self) -> None:
        await anyio.sleep(self._grace)
        self._close()

    def _close(self) -> None:
        """Cancel what this response does."""
        if self._tasks is not None:
            self._closing = True
            self._tasks.cancel_scope.cancel()

    def _start(self) -> Message:
        return {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
