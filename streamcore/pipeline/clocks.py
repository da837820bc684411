"""Limit how long each read of a stream may take, by four clocks, at the cost of a few attribute stores a read.

Only reads are timed: the time that the caller spends between them counts for no clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Literal

import anyio

from streamcore.chunk import CONTENT_KINDS, Chunk
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import StreamTimeout
from streamcore.reports.messages import timed_out
from streamcore.timeouts import Timeouts

_NO_MORE: list[Chunk] = []  # marks the end; compared by identity, since a read may be empty

ClockName = Literal["first_token", "stall", "silence", "total"]


class Clocks:
    """Count the seconds that reads have taken, and compute how long the next may take."""

    __slots__ = (
        "_begun",
        "_first",
        "_silence",
        "_since_content",
        "_spent",
        "_stall",
        "_total",
        "interrupt",
        "limit",
        "on_content",
        "shortest",
        "steady_limit",
        "stopped",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self.stopped = False
        """True once the reader has asked for the end."""
        self.interrupt: Callable[[], None] | None = None
        """Ends the current read."""
        self.on_content: Callable[[], object] = int
        """Is called at the first content of an attempt."""
        self._first = timeouts.first_token or math.inf
        self._stall = timeouts.stall or math.inf
        self._silence = timeouts.silence or math.inf
        self._total = timeouts.total or math.inf
        self.steady_limit = min(self._stall, self._silence) if timeouts.total is None else -1.0
        """The limit of every read that follows a read with content, if `total` is off; else no limit equals it."""
        self.shortest = min(self._first, self._stall, self._silence, self._total)
        """The shortest of the four times."""
        self._spent = 0.0
        self.restart()

    def restart(self) -> None:
        """Reset all clocks but `total` for another attempt."""
        self._since_content = 0.0
        self._begun = False
        self.limit = self._limit()
        """How many seconds the next read may take."""

    def stop(self) -> None:
        """End the stream where it is; a read that is waiting ends, too."""
        self.stopped = True
        if self.interrupt is not None:
            self.interrupt()

    @property
    def left(self) -> float:
        """Seconds until `total` runs out."""
        return self._total - self._spent

    def read(self, chunks: Iterable[Chunk], seconds: float) -> None:
        """Count a read: the seconds that it took, and the chunks that it gave."""
        self._spent += seconds
        self._since_content += seconds
        for chunk in chunks:
            if chunk.kind in CONTENT_KINDS:
                if not self._begun:
                    self._begun = True
                    self.on_content()
                self._since_content = 0.0
                break
        self.limit = self._limit()

    def spend(self, seconds: float) -> None:
        """Count a pause between attempts."""
        self._spent += seconds

    def _limit(self) -> float:
        content = (self._stall if self._begun else self._first) - self._since_content
        return min(content, self._silence, self._total - self._spent)

    def ran_out(self, received: str) -> StreamTimeout:
        """Return the error for a read that took longer than `limit`; `received` describes what arrived before it."""
        content: ClockName = "stall" if self._begun else "first_token"
        longest = self._stall if self._begun else self._first
        limits: dict[ClockName, tuple[float, float]] = {
            "total": (self.left, self._total),
            content: (longest - self._since_content, longest),
            "silence": (self._silence, self._silence),
        }
        name = min(limits, key=lambda clock: limits[clock][0])
        return timed_out(name, limits[name][1], received)


class ReadTimer:
    """Cancel the task that reads when the read takes too long: one timer for a whole stream, moved only when needed.

    For asyncio. A timeout that is set and removed around every read costs more than reading. Here each read only notes
    its task and its beginning. When the timer fires, it looks at these, and either cancels the task or is set again for
    the earliest moment at which the read could be too long. `Task.uncancel` tells this cancellation from any other, as
    in `asyncio.timeout`.
    """

    __slots__ = ("_cancelled", "_cancelling", "_clocks", "_due", "_handle", "loop", "start", "task")

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.loop = asyncio.get_running_loop()
        self.start = 0.0
        """When the current read began, by `time.monotonic`, which costs half of the loop's own method."""
        self.task: asyncio.Task[Any] | None = None
        """The task that reads; None between two reads."""
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._cancelled = False
        self._cancelling = 0

    def limit_changed(self) -> None:
        """Set the timer to an earlier moment if the next read may take less time than it was set for."""
        limit = self._clocks.limit
        if self._handle is None or time.monotonic() + limit < self._due:
            self.stop()
            # A timer that fires too early is set again; so the shorter limit after the first content moves nothing.
            self._fire_after(min(limit, self._clocks.shortest))

    def cancel_read(self) -> None:
        """Cancel the current read now."""
        if self.task is not None and not self._cancelled:
            self._cancelled = True
            self._cancelling = self.task.cancelling()
            self.task.cancel()

    def stop(self) -> None:
        """Remove the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def caused_cancellation(self) -> bool:
        """Return True if this timer alone cancelled the task that has just caught `CancelledError`."""
        if not self._cancelled:
            return False
        self._cancelled = False
        task = asyncio.current_task()
        return task is not None and task.uncancel() <= self._cancelling

    def _fire_after(self, seconds: float) -> None:
        if seconds != math.inf:
            self._due = time.monotonic() + seconds
            self._handle = self.loop.call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = time.monotonic()
        # Between two reads, the next one still has its whole time.
        end = (now if self.task is None else self.start) + self._clocks.limit
        if end > now:
            self._fire_after(end - now)
        else:
            self.cancel_read()


def read_timer(clocks: Clocks) -> ReadTimer | None:
    """Return a timer for the running loop; None on trio, where `timed` limits the reads."""
    return None if running_on_trio() else ReadTimer(clocks)


async def timed(
    source: AsyncGenerator[list[Chunk]], clocks: Clocks, received: Callable[[], str], finished: Callable[[], bool]
) -> AsyncGenerator[list[Chunk]]:
    """Yield from the source with each of its reads in a cancel scope of its own: for trio.

    A stream that is stopped, or whose answer is finished when a clock runs out, ends here without an error.

    Raises:
        StreamTimeout: a clock ran out; `received` describes what arrived before it.
    """
    async with aclosing(source):
        while not clocks.stopped:
            start = anyio.current_time()
            chunks: list[Chunk] | None = None
            with anyio.CancelScope(deadline=start + clocks.limit) as scope:
                clocks.interrupt = scope.cancel
                chunks = await anext(source, _NO_MORE)
            if chunks is None:
                if clocks.stopped or finished():
                    return
                raise clocks.ran_out(received())
            if chunks is _NO_MORE:
                return
            clocks.read(chunks, anyio.current_time() - start)
            yield chunks
