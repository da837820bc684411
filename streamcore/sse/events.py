"""Read a source of chunks, tokens or graph events as the bytes of its events, up to and with their one end."""

from __future__ import annotations

import asyncio
import logging
from asyncio import CancelledError
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self

import anyio

from streamcore.completion import Completion
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import StreamInterrupted
from streamcore.sse.encoder import HIDDEN, Encoder, Item, public_message
from streamcore.sse.event_id import read_place

log = logging.getLogger("streamcore")


class Events:
    """Iterate over the bytes of a stream's events; errors of the source become its last event.

    With `wait` nothing comes before the source has given something to send.
    """

    def __init__(self, source: AsyncIterable[Item], encoder: Encoder, *, wait: bool = False) -> None:
        self.encoder = encoder
        self.failed_first: Exception | None = None
        """The error of a source that failed before it gave anything to send."""
        self._source = source
        self._next_batch: Callable[[], Awaitable[Sequence[Item] | None]] | None = getattr(source, "next_batch", None)
        self._items: AsyncIterator[Item] | None = None
        self._head = b"" if wait else encoder.start()
        self._sent = False
        self._over = False
        self._instead = b""
        self._stopping = False
        self._reader: asyncio.Task[Any] | None = None  # while it waits for the source
        self._cancelled = False

    def give_end(self, last_id: str) -> None:
        """Give an end instead of the stream, to a client that reconnects after the message `last_id`.

        To begin the answer again would be paid for, and be shown behind what is there.
        """
        place = read_place(last_id)
        if place is not None and place.after is None:
            self._instead = self.encoder.end(Completion())
        else:
            lost = StreamInterrupted("the connection was lost, and the rest of the answer with it; ask again")
            self._instead = self.encoder.error(lost)

    def set(self) -> None:
        """End the stream where it is, as an error: the server stops."""
        self._stopping = True
        if self._reader is not None and not self._cancelled:
            self._cancelled = True
            self._reader.cancel()

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
                batch = await self._read()
                if batch is None:
                    self._over = True
                    partial = getattr(self._source, "partial", None)
                    data = self.encoder.end(partial if isinstance(partial, Completion) else None)
                else:
                    data = self.encoder.feed(batch)
        except Exception as error:  # the outermost edge: logged, and told to the client
            self._over = True
            if self._stopping and getattr(self._source, "resumable", False):
                raise StopAsyncIteration from None  # no end: the client comes back, to another worker
            hidden = public_message(error) == HIDDEN
            log.warning("a stream to a browser ended in %s", type(error).__name__, exc_info=error if hidden else None)
            self.failed_first = None if self._sent else error
            data = self.encoder.error(error)
        self._sent = True
        return data

    async def _read(self) -> Sequence[Item] | None:
        """Return what the source gives next, None at its end."""
        if self._stopping:
            raise StreamInterrupted("the server is being stopped; the answer ends here")
        task = self._reader = _task()
        cancelling = 0 if task is None else task.cancelling()
        try:
            if self._next_batch is not None:
                return await self._next_batch()
            if self._items is None:
                self._items = aiter(self._source)
            return [await anext(self._items)]
        except StopAsyncIteration:
            return None
        except CancelledError:
            # As `asyncio.timeout` does it, which would cost more than all the rest if it were made for every read.
            if not self._cancelled or task is None or task.uncancel() > cancelling:
                raise
            raise StreamInterrupted("the server is being stopped; the answer ends here") from None
        finally:
            self._reader = None

    async def aclose(self) -> None:
        """Close the source, also while being cancelled. Harmless when repeated."""
        self._over = True
        for opened in (self._items, self._source):
            close = getattr(opened, "aclose", None)
            if close is None:
                continue
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                try:
                    await close()
                except Exception:  # the client is served or gone: nobody is left to be told
                    log.warning("closing the source of a stream to a browser failed", exc_info=True)


def _task() -> asyncio.Task[Any] | None:
    """Return the running task; None under trio, where no server tells that it is about to stop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
