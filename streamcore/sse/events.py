"""Read a source of chunks, tokens or graph events as the bytes of its events, its one end included."""

from __future__ import annotations

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Self

import anyio

from streamcore.completion import Completion
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import StreamInterrupted
from streamcore.sse.encoder import EventEncoder, Item
from streamcore.sse.event_id import parse_event_id
from streamcore.sse.public import described_in_log, failure_fields, interrupted

log = logging.getLogger("streamcore")


class Events:
    """Iterate over the bytes of a stream's events; an error of the source becomes the last event.

    With `wait` nothing is yielded before the source has given something to send.
    """

    def __init__(self, source: AsyncIterable[Item], encoder: EventEncoder, *, wait: bool = False) -> None:
        self.encoder = encoder
        self.first_error: Exception | None = None
        """The error of a source that failed before it gave anything to send."""
        self.failed = False
        """Whether the stream ended in an error."""
        self._source = source
        self._next: Callable[[], Awaitable[Sequence[Item] | None]] = getattr(source, "next_batch", self._next_item)
        self._items: AsyncIterator[Item] | None = None
        self._head = b"" if wait else encoder.start()
        self._sent = False
        self._over = False
        self._instead = b""
        self._stopping = False
        self._cancel_read: Callable[[], object] | None = None
        self._reading = False
        self._cancelled = False
        self._task: asyncio.Task[object] | None = None  # the reader's, on asyncio
        self._cancelling = 0  # how often it had been cancelled before

    def end_instead(self, last_id: str) -> None:
        """Yield an end instead of the stream, for a client that reconnects after the message `last_id`.

        To answer again would cost again, and the page would show the new answer after the old one.
        """
        event_id = parse_event_id(last_id)
        if event_id is not None and event_id.after is None:
            self._instead = self.encoder.end(Completion())
        else:
            lost = interrupted("the connection was lost, and the rest of the answer with it; ask again")
            self._instead = self.encoder.error(lost)

    def stop(self) -> None:
        """End the stream now, as an error: the server is about to stop. Harmless when repeated."""
        self._stopping = True
        if self._cancel_read is not None and self._reading and not self._cancelled:
            self._cancelled = True
            self._cancel_read()

    def cut(self) -> bytes:
        """Return the end of a stream whose reader was cancelled; b"" if it has ended, or its client can resume it."""
        if self._over:
            return b""
        self._over = self.failed = True
        if getattr(self._source, "resumable", False):
            return b""
        return self.encoder.error(interrupted("the server cancelled this request; the answer ends here"))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._over:
            raise StopAsyncIteration
        if self._instead:
            self._over = True
            return self._instead
        try:
            data = b""
            while not data:
                if self._cancel_read is None:
                    self._know_reader()
                self._reading = True
                batch = await (self._next() if self._task is not None and not self._stopping else self._read_in_scope())
                self._reading = False
                if batch is None:
                    self._over = True
                    partial = getattr(self._source, "partial", None)
                    data = self.encoder.end(partial if isinstance(partial, Completion) else None)
                else:
                    data = self.encoder.feed(batch)
        except CancelledError:
            # As `asyncio.timeout` does it, which would cost more than all the rest if it were made for every read.
            if self._task is None or not self._cancelled or self._task.uncancel() > self._cancelling:
                raise
            data = self._end_with(_stopped())
        except Exception as error:  # noqa: BLE001  the outermost edge: logged, and sent to the client
            data = self._end_with(error)
        finally:
            self._reading = False
        self._sent = True
        return data

    def _end_with(self, error: Exception) -> bytes:
        """Return the event of an error, which is the last.

        Raises:
            StopAsyncIteration: the client reconnects to another worker, and gets the rest there.
        """
        self._over = self.failed = True
        if self._stopping and getattr(self._source, "resumable", False):
            raise StopAsyncIteration from None
        text, unexpected = described_in_log(error)
        extra = {**failure_fields(error), "run_id": getattr(self._source, "run_id", None)}
        log.warning("a stream to a browser ended in %s", text, exc_info=error if unexpected else None, extra=extra)
        self.first_error = None if self._sent else error
        return self.encoder.error(error)

    def _know_reader(self) -> None:
        """Note the task that reads, on asyncio, and how its read is cancelled."""
        self._task = None if running_on_trio() else asyncio.current_task()
        if self._task is not None:
            self._cancel_read, self._cancelling = self._task.cancel, self._task.cancelling()

    async def _read_in_scope(self) -> Sequence[Item] | None:
        """Read on trio; raise if the stream is to end.

        Raises:
            StreamInterrupted: the server is about to stop.
        """
        if self._stopping:
            raise _stopped()
        with anyio.CancelScope() as scope:
            self._cancel_read = scope.cancel
            return await self._next()
        raise _stopped()

    async def _next_item(self) -> Sequence[Item] | None:
        if self._items is None:
            self._items = aiter(self._source)
        try:
            return [await anext(self._items)]
        except StopAsyncIteration:
            return None

    async def aclose(self) -> None:
        """Close the source, also while cancelled. Harmless when repeated."""
        self._over = True
        for opened in (self._items, self._source):
            close = getattr(opened, "aclose", None)
            if close is None:
                continue
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                try:
                    await close()
                except Exception:  # the response has ended: no client is left to report to
                    log.warning("closing the source of a stream to a browser failed", exc_info=True)


def _stopped() -> StreamInterrupted:
    return interrupted("the server is being stopped; the answer ends here")
