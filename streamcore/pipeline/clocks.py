"""Keep four clocks over a stream's reads, at the cost of a few attribute stores for each.

The reads are timed, not what the reader does between them: time outside `__anext__` counts for no clock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, fields
from typing import Any, Literal

import anyio

from streamcore.chunk import CONTENT_KINDS, Chunk
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, StreamTimeout

_NO_MORE: list[Chunk] = []  # told from an empty read by its identity

ClockName = Literal["first_token", "stall", "silence", "total"]

_WHAT: Mapping[ClockName, str] = {
    "first_token": "no content came",
    "stall": "no more content came",
    "silence": "not a byte came",
    "total": "the answer was not whole",
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Say how long to wait, in seconds; None is for ever. The defaults suit a person who waits for an answer.

    A mapping with the same keys does as well, in calls and as `timeouts:` in YAML.
    """

    first_token: float | None = 120.0
    """From sending the request to the first content (text, reasoning, refusal, tool call, citation)."""
    stall: float | None = 60.0
    """From content to content. Pings, usage and comments do not count: a server that only keeps alive is stuck."""
    silence: float | None = 120.0
    """From byte to byte, pings and comments included."""
    total: float | None = None
    """For everything, retries and their pauses included. None by default: long answers are the point."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
                raise ConfigError(f"timeouts: {field.name} is a number of seconds above 0 or null, not {value!r}")

    @classmethod
    def of(cls, value: Timeouts | Mapping[str, Any] | None) -> Timeouts:
        """Return timeouts from what a caller or a file gave; keys that it leaves out keep their defaults.

        Raises:
            ConfigError: a key is unknown or a value is no number of seconds.
        """
        if value is None:
            return DEFAULT
        if isinstance(value, Timeouts):
            return value
        given = dict(value)
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"timeouts: unknown {', '.join(map(repr, unknown))}; known are {', '.join(known)}")
        return cls(**given)


DEFAULT = Timeouts()


class Clocks:
    """Count the seconds that reads have taken, and say how long the next may take."""

    __slots__ = (
        "_begun",
        "_first",
        "_silence",
        "_since_content",
        "_spent",
        "_stall",
        "_total",
        "flow",
        "interrupt",
        "limit",
        "shortest",
        "stopped",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self.stopped = False
        """True once the reader has asked for the end."""
        self.interrupt: Callable[[], None] | None = None
        """Ends the read that is under way."""
        self._first = timeouts.first_token or math.inf
        self._stall = timeouts.stall or math.inf
        self._silence = timeouts.silence or math.inf
        self._total = timeouts.total or math.inf
        self.flow = min(self._stall, self._silence) if timeouts.total is None else -1.0
        """The limit of every read while content flows and nothing counts the whole: then a read changes nothing."""
        self.shortest = min(self._first, self._stall, self._silence, self._total)
        self._spent = 0.0
        self.restart()

    def restart(self) -> None:
        """Begin anew with another attempt; only `total` goes on."""
        self._since_content = 0.0
        self._begun = False
        self.limit = self._limit()
        """How many seconds the next read may take."""

    def stop(self) -> None:
        """End the stream where it is, the read that is under way included."""
        self.stopped = True
        if self.interrupt is not None:
            self.interrupt()

    @property
    def left(self) -> float:
        """Seconds until `total` runs out."""
        return self._total - self._spent

    def read(self, chunks: Iterable[Chunk], seconds: float) -> None:
        """Note that a read took so long and brought these chunks."""
        self._spent += seconds
        self._since_content += seconds
        for chunk in chunks:
            if chunk.kind in CONTENT_KINDS:
                self._begun = True
                self._since_content = 0.0
                break
        self.limit = self._limit()

    def spend(self, seconds: float) -> None:
        """Count a pause between attempts."""
        self._spent += seconds

    def _limit(self) -> float:
        content = (self._stall if self._begun else self._first) - self._since_content
        return min(content, self._silence, self._total - self._spent)

    def ran_out(self, came: str) -> StreamTimeout:
        """Return the error for a read that took longer than `limit()`; `came` says what had arrived."""
        content: ClockName = "stall" if self._begun else "first_token"
        limits: dict[ClockName, tuple[float, float]] = {
            "total": (self._total - self._spent, self._total),
            content: ((self._stall if self._begun else self._first) - self._since_content, self._stall),
            "silence": (self._silence, self._silence),
        }
        limits[content] = (limits[content][0], self._stall if self._begun else self._first)
        name = min(limits, key=lambda clock: limits[clock][0])
        seconds = limits[name][1]
        return StreamTimeout(
            f"{_WHAT[name]} within {seconds:g} s (clock {name!r}); {came}", clock=name, seconds=seconds
        )


class Alarm:
    """Cancel the task that waits, when its time is over: one timer for a whole stream, moved only when it fires.

    For asyncio. A timeout armed and disarmed around every read costs more than reading. Here each read only notes who
    reads and since when; the timer looks at that when it fires, and goes off again when the time could be over at the
    earliest. `Task.uncancel` keeps this apart from a real cancellation, as in `asyncio.timeout`.
    """

    __slots__ = ("_cancelling", "_clocks", "_due", "_handle", "_rang", "loop", "start", "task")

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self.loop = asyncio.get_running_loop()
        self.start = 0.0
        """When the read that is under way began, by `time.monotonic`: half the price of the loop's own method."""
        self.task: asyncio.Task[Any] | None = None
        """Who reads; None between two reads."""
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._rang = False
        self._cancelling = 0

    def limit_changed(self) -> None:
        """Look at the clocks again: the next read may take less time than the one before."""
        limit = self._clocks.limit
        if self._handle is None or time.monotonic() + limit < self._due:
            self.stop()
            # One that goes off too early looks again, and the first content need not move it.
            self._look_after(min(limit, self._clocks.shortest))

    def ring(self) -> None:
        """Cancel the watched task now."""
        if self.task is not None and not self._rang:
            self._rang = True
            self._cancelling = self.task.cancelling()
            self.task.cancel()

    def stop(self) -> None:
        """Take the timer back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def rang(self) -> bool:
        """Return whether the cancellation that was just caught is this alarm's, and no one else's besides."""
        if not self._rang:
            return False
        self._rang = False
        task = asyncio.current_task()
        return task is not None and task.uncancel() <= self._cancelling

    def _look_after(self, seconds: float) -> None:
        if seconds != math.inf:
            self._due = time.monotonic() + seconds
            self._handle = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._handle = None
        now = time.monotonic()
        # A reader who is busy elsewhere has all the time of the next read.
        over = (now if self.task is None else self.start) + self._clocks.limit
        if over > now:
            self._look_after(over - now)
        else:
            self.ring()


def alarm(clocks: Clocks) -> Alarm | None:
    """Return an alarm for the running loop, None under trio, where `timed` does its work."""
    return None if running_on_trio() else Alarm(clocks)


async def timed(
    source: AsyncGenerator[list[Chunk]], clocks: Clocks, came: Callable[[], str], finished: Callable[[], bool]
) -> AsyncGenerator[list[Chunk]]:
    """Yield from the source with each of its reads in a cancel scope of its own: for trio.

    A stream that is stopped, or whose answer is finished when a clock runs out, ends here as if it had no more to read.

    Raises:
        StreamTimeout: a clock ran out; `came` says what had arrived.
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
                raise clocks.ran_out(came())
            if chunks is _NO_MORE:
                return
            clocks.read(chunks, anyio.current_time() - start)
            yield chunks
