"""Smooth a source with a timer that fires while nothing arrives: one task reads the source, the reader waits for it.

The task is started outside any task group, so that a reader who stops leaves no scope open. It reads *and* closes the
source, inside one scope of its own, and closing has a time limit.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable

import anyio

from streamcore.chunk import Chunk
from streamcore.concurrency.event_loop import running_on_trio, start_task
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import StreamInterrupted
from streamcore.pipeline.smoother import Smoother, StreamOptions

MOST_READY = 256
"""How many chunks may wait for a slow reader; beyond that the source is not read, and TCP slows the vendor down."""


async def smoothed(source: AsyncGenerator[list[Chunk]], options: StreamOptions) -> AsyncGenerator[list[Chunk]]:
    """Yield the source's chunks with their text gathered according to the options.

    An error of the source is raised after all chunks that were received before it.
    """
    task = _SmoothingTask(source, Smoother(options))
    task.start()
    try:
        while True:
            ready = await task.next()
            if ready is None:
                return
            yield ready
    finally:
        await task.aclose()


class _SmoothingTask:
    """Read a source in a task of its own."""

    def __init__(self, source: AsyncGenerator[list[Chunk]], smoother: Smoother) -> None:
        self._source = source
        self._smoother = smoother
        self._ready: list[Chunk] = []
        self._error: BaseException | None = None
        self._ended = False
        self._space: anyio.Event | None = None
        self._life = anyio.CancelScope()
        self._done = anyio.Event()
        self._wakeup: _AsyncioWakeup | _TrioWakeup

    def start(self) -> None:
        """Start the task on the running loop."""
        self._wakeup = _TrioWakeup(self._tick) if running_on_trio() else _AsyncioWakeup(self._tick)
        start_task(self._run)

    async def next(self) -> list[Chunk] | None:
        """Return what is ready, after waiting for it if nothing is; None at the end."""
        while not self._ready:
            if self._ended:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                return None
            await self._wakeup.wait()
        ready, self._ready = self._ready, []
        if self._space is not None:
            self._space.set()
        return ready

    async def aclose(self) -> None:
        """End the task and wait until it has closed the source."""
        self._wakeup.stop()
        if not self._done.is_set():
            self._life.cancel()
            with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                await self._done.wait()

    async def _run(self) -> None:
        try:
            with self._life:
                try:
                    await self._read()
                finally:
                    with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                        await self._source.aclose()
        except Exception as error:  # noqa: BLE001  raised on the reader's side
            self._error = error
        except BaseException:
            # Cancelled from outside, as by a loop that ends: the reader must not take this for the end.
            self._error = StreamInterrupted("reading was cancelled before the end of the stream")
            raise
        finally:
            self._ready += self._smoother.flush(self._wakeup.now())
            self._ended = True
            self._done.set()
            self._wakeup.wake()

    async def _read(self) -> None:
        wakeup, smoother = self._wakeup, self._smoother
        async for chunks in self._source:
            if not chunks:
                continue
            out = smoother.feed(chunks, wakeup.now())
            if out:
                self._ready += out
                wakeup.wake()
            wakeup.tick_at(smoother.deadline)
            if len(self._ready) >= MOST_READY:
                self._space = anyio.Event()
                await self._space.wait()
                self._space = None

    def _tick(self) -> None:
        out = self._smoother.tick(self._wakeup.now())
        if out:
            self._ready += out
            self._wakeup.wake()
        self._wakeup.tick_at(self._smoother.deadline)


class _AsyncioWakeup:
    """Let the reader wait until the task has something for it, and call `tick` at a set time.

    For asyncio: a plain future for the reader, and one timer that is moved only when it fires.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.now: Callable[[], float] = self._loop.time
        self._tick = tick
        self._waiter: asyncio.Future[None] | None = None
        self._handle: asyncio.TimerHandle | None = None
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
        if deadline != math.inf and (handle is None or handle.when() > deadline):
            if handle is not None:
                handle.cancel()
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


class _TrioWakeup:
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
