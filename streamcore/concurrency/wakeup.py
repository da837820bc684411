"""Let a reader wait until a task has something for it, and call a function at a set time, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import anyio

from streamcore.concurrency.event_loop import running_on_trio


def wakeup(tick: Callable[[], None]) -> AsyncioWakeup | TrioWakeup:
    """Return a wakeup for the running event loop; `tick` is called at the time that `tick_at` sets."""
    return TrioWakeup(tick) if running_on_trio() else AsyncioWakeup(tick)


class AsyncioWakeup:
    """Let the reader wait until the task has something for it, and call `tick` at a set time.

    For asyncio: a plain future for the reader, and one timer that is moved only when it fires.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._tick = tick
        self._waiter: asyncio.Future[None] | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._fires_at = math.inf  # uvloop's handle of a timer that has fired does not know its time
        self._deadline = math.inf

    async def wait(self) -> None:
        """Wait for `wake`."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """End the reader's wait."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def tick_at(self, deadline: float) -> None:
        """Set the time at which `tick` is called, infinity for never."""
        self._deadline = deadline
        handle = self._handle
        if deadline != math.inf and (handle is None or self._fires_at > deadline):
            if handle is not None:
                handle.cancel()
            self._fires_at = deadline
            self._handle = self._loop.call_at(deadline, self._fire)

    def stop(self) -> None:
        """Remove the timer."""
        self._deadline = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self.tick_at(self._deadline)
        else:
            self._tick()


class TrioWakeup:
    """Do the same for trio: an event for the reader; the deadline is that of the scope in which it waits."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self.now: Callable[[], float] = anyio.current_time
        self._tick = tick
        self._event: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._deadline = math.inf

    async def wait(self) -> None:
        """Wait for `wake`, or for the set time."""
        self._event = anyio.Event()
        try:
            with anyio.CancelScope(deadline=self._deadline) as self._scope:
                await self._event.wait()
            if self._scope.cancelled_caught:
                self._tick()
        finally:
            self._event = self._scope = None

    def wake(self) -> None:
        """End the reader's wait."""
        if self._event is not None:
            self._event.set()

    def tick_at(self, deadline: float) -> None:
        """Set the time at which `tick` is called, infinity for never."""
        self._deadline = deadline
        if self._scope is not None:
            self._scope.deadline = deadline

    def stop(self) -> None:
        """Forget the set time."""
        self._deadline = math.inf
