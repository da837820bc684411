"""Keep four clocks over a stream's reads, at the cost of a few attribute stores for each.

The reads are timed, not what the reader does between them: time outside `__anext__` counts for no clock.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, fields
from typing import Any, Literal

import anyio

from streamcore.chunk import CONTENT_KINDS, Chunk
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
    """From sending the request to the first content (text, reasoning, refusal, tool call, citation, other)."""
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
        if isinstance(value, Timeouts):
            return value
        given = dict(value or {})
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"timeouts: unknown {', '.join(map(repr, unknown))}; known are {', '.join(known)}")
        return cls(**given)


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
        "interrupt",
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
        self._spent = 0.0
        self._since_content = 0.0
        self._begun = False

    def restart(self) -> None:
        """Begin anew with another attempt; only `total` goes on."""
        self._since_content = 0.0
        self._begun = False

    @property
    def left(self) -> float:
        """Seconds until `total` runs out."""
        return self._total - self._spent

    def stop(self) -> None:
        """End the stream where it is, the read that is under way included."""
        self.stopped = True
        if self.interrupt is not None:
            self.interrupt()

    def limit(self) -> float:
        """Return how many seconds the next read may take."""
        content = (self._stall if self._begun else self._first) - self._since_content
        limit = content if content < self._silence else self._silence  # noqa: FURB136  half the price of min()
        left = self._total - self._spent
        return limit if limit < left else left  # noqa: FURB136

    def read(self, chunks: Iterable[Chunk], seconds: float) -> None:
        """Note that a read took so long and brought these chunks."""
        self._spent += seconds
        for chunk in chunks:
            if chunk.kind in CONTENT_KINDS:
                self._begun = True
                self._since_content = 0.0
                return
        self._since_content += seconds

    def spend(self, seconds: float) -> None:
        """Count a pause between attempts."""
        self._spent += seconds

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

    For asyncio. A timeout armed and disarmed around every read costs more than reading; here each read stores a
    deadline, and the timer looks at it when it fires. `Task.uncancel` keeps this apart from a real cancellation, as
    in `asyncio.timeout`.
    """

    __slots__ = ("_cancelling", "_deadline", "_handle", "_loop", "_rang", "_task", "now")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._deadline = math.inf
        self._task: asyncio.Task[Any] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._rang = False
        self._cancelling = 0

    def set(self, deadline: float) -> None:
        """Watch the current task until `clear`."""
        self._deadline = deadline
        self._task = asyncio.current_task()
        if self._handle is None or self._handle.when() > deadline:
            self._start()

    def clear(self) -> None:
        """Watch nobody; the timer may fire and will do nothing."""
        self._task = None

    def ring(self) -> None:
        """Cancel the watched task now."""
        if self._task is not None and not self._rang:
            self._rang = True
            self._cancelling = self._task.cancelling()
            self._task.cancel()

    def stop(self) -> None:
        """Take the timer back."""
        self._task = None
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

    def _start(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None if self._deadline == math.inf else self._loop.call_at(self._deadline, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._task is None:
            return
        if self._loop.time() < self._deadline:
            self._start()
        else:
            self.ring()


def timed(source: AsyncGenerator[list[Chunk]], clocks: Clocks, came: Callable[[], str]) -> AsyncGenerator[list[Chunk]]:
    """Return the source with each of its reads under the clocks; `came` is asked when one runs out.

    A stream that is stopped ends here as if it had no more to read.

    Raises:
        StreamTimeout: a clock ran out; the source is closed.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return _timed_by_scope(source, clocks, came)
    return _timed_by_alarm(source, clocks, came)


async def _timed_by_alarm(
    source: AsyncGenerator[list[Chunk]], clocks: Clocks, came: Callable[[], str]
) -> AsyncGenerator[list[Chunk]]:
    alarm = Alarm()
    clocks.interrupt = alarm.ring
    now = alarm.now
    try:
        async with aclosing(source):
            while not clocks.stopped:
                start = now()
                alarm.set(start + clocks.limit())
                try:
                    chunks = await anext(source)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    if not alarm.rang():
                        raise
                    if clocks.stopped:
                        return
                    raise clocks.ran_out(came()) from None
                finally:
                    alarm.clear()
                clocks.read(chunks, now() - start)
                yield chunks
    finally:
        alarm.stop()


async def _timed_by_scope(
    source: AsyncGenerator[list[Chunk]], clocks: Clocks, came: Callable[[], str]
) -> AsyncGenerator[list[Chunk]]:
    async with aclosing(source):
        while not clocks.stopped:
            start = anyio.current_time()
            chunks: list[Chunk] | None = None
            with anyio.CancelScope(deadline=start + clocks.limit()) as scope:
                clocks.interrupt = scope.cancel
                chunks = await anext(source, _NO_MORE)
            if chunks is None:
                if clocks.stopped:
                    return
                raise clocks.ran_out(came())
            if chunks is _NO_MORE:
                return
            clocks.read(chunks, anyio.current_time() - start)
            yield chunks
