"""Keep the newest items of a run that another worker stores, as a server sends them, and wake those who wait for them.

Messages may be lost. Numbers show that, and readers then ask the log for what they lack.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from streamcore.relay.entries import decode_items
from streamcore.relay.log import ReadResult
from streamcore.sse import Item

RECENT_BYTES = 32 * 2**10
"""How many bytes of a run's newest items are kept, for readers between two reads."""
UNUSED_SECONDS = 5.0
"""After how many seconds without a reader the subscription of a run ends."""
MISSED = 3
"""After how many items that came by no message, one after the other, the connection is opened anew."""


class Feed:
    """The newest items of one run, as they were sent since its subscription.

    Args:
        reset: a function that is called if messages seem to be lost again and again.
    """

    __slots__ = (
        "_ended",
        "_missed",
        "_recent",
        "_reset",
        "_size",
        "_waiting",
        "confirmed",
        "error",
        "first",
        "live",
        "seq",
        "used",
    )

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.live = False
        """Whether the subscription has begun, and has not ended."""
        self.error: Exception | None = None
        self.first: int | None = None
        """The number before the oldest item that is kept; None before anything is known."""
        self.seq = 0
        """The number of the newest item."""
        self.used = asyncio.get_running_loop().time()
        self._ended = False  # then readers ask the log, which has the end
        self._missed = 0
        self._recent: deque[tuple[int, list[Item], int]] = deque()  # number before, items, size
        self._size = 0
        self._waiting: list[asyncio.Future[None]] = []

    def covers(self, after: int) -> bool:
        """Return whether this feed has, or will get, all items after a number."""
        return self.live and not self._ended and self.first is not None and self.first <= after

    def begin(self, after: int) -> None:
        """Take note that the log has nothing after this number, or that a message with it is about to come."""
        if self.first is None or after > self.seq:
            self._restart(after)

    def missed(self, seq: int, *, ended: bool) -> None:
        """Take note of the number of the run's last item; if that came by no message, readers ask the log for it."""
        self._ended = self._ended or ended
        if not self.live or self.first is None or seq <= self.seq:
            self._missed = 0
            return
        self._restart(seq)
        self._missed += 1
        if self._missed >= MISSED:
            self._reset()

    def confirm(self) -> None:
        """Take note that the subscription has begun."""
        self.live = True
        _wake(self.confirmed)

    def end(self) -> None:
        """Take note that the run has ended; readers ask for the end."""
        self._ended = True
        self.wake()

    def take(self, before: int, seq: int, data: bytes) -> None:
        """Take a message.

        Args:
            before: the number before its items.
            seq: the number of its last item.
            data: the items; b"" if they are too large to be sent, and readers must ask for them.
        """
        if self.first is None:
            self._restart(before)
        if seq <= self.seq:
            return
        self._missed = 0
        if not data:
            self._restart(seq)
        else:
            if before != self.seq:
                self._restart(before)
            self._recent.append((before, decode_items(data), len(data)))
            self.seq = seq
            self._size += len(data)
            while self._size > RECENT_BYTES and len(self._recent) > 1:
                self._size -= self._recent.popleft()[2]
                self.first = self._recent[0][0]
        self.wake()

    def after(self, number: int) -> list[Item]:
        """Return the items after a number."""
        last = self._recent[-1] if self._recent else None
        if last is not None and last[0] == number:
            return [*last[1]]
        return [item for before, items, _ in self._recent for item in items[max(0, number - before) :]]

    async def wait(self, after: int, seconds: float) -> list[Item]:
        """Return the items after a number; [] if none came in time, or the log must be asked."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while self.covers(after):
            if self.seq > after:
                return self.after(after)
            if loop.time() >= ends:
                break
            future: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(ends, _wake, future)
            self._waiting.append(future)
            try:
                await future
            finally:
                timer.cancel()
                if future in self._waiting:
                    self._waiting.remove(future)
                self.used = loop.time()
        return []

    def wake(self) -> None:
        """Wake the readers that wait."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _wake(future)

    def lose(self, error: Exception | None) -> None:
        """End the subscription; readers ask the log."""
        self.live, self.error = False, error
        _wake(self.confirmed)
        self.wake()

    @property
    def is_unused(self) -> bool:
        """Whether it has had no reader for some time."""
        return not self._waiting and asyncio.get_running_loop().time() - self.used > UNUSED_SECONDS

    def _restart(self, number: int) -> None:
        self._recent.clear()
        self._size = 0
        self.first = self.seq = number


async def read_feed(
    feed: Feed | None,
    follow: Callable[[], Awaitable[Feed]],
    ask: Callable[[], Awaitable[ReadResult | None]],
    after: int,
    seconds: float,
) -> ReadResult | None:
    """Return what a run has after number `after`: from its feed, or from the log where the feed lacks it.

    Args:
        feed: the run's feed, None if there is none.
        follow: returns a feed that has begun; called if this one does not have the items.
        ask: asks the log what follows, without waiting.
        after: the number of the last item that the reader has.
        seconds: how long to wait for an item.
    """
    if feed is None or not feed.covers(after):
        result = await ask()
        if result is None or result.seq > after or result.end is not None:
            return result
        feed = await follow()
        if not feed.covers(after):  # the server may have stored items before the subscription began
            result = await ask()
            if result is None or result.seq > after or result.end is not None:
                return result
            feed.begin(after)
    items = await feed.wait(after, seconds)
    if not items and not feed.covers(after):  # the run has ended, or the subscription was lost
        return await ask()
    return ReadResult(after + len(items), items)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
