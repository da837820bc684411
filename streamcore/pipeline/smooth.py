"""Smooth a source with a timer that fires while nothing arrives: one task reads the source, the reader waits for it.

The task is started outside any task group, so that a reader who stops leaves no scope open. It reads *and* closes the
source, inside one scope of its own, and closing has a time limit.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio

from streamcore.chunk import Chunk
from streamcore.concurrency.event_loop import start_task
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.concurrency.wakeup import AsyncioWakeup, TrioWakeup, wakeup
from streamcore.errors import StreamInterrupted
from streamcore.pipeline.smoother import Smoother, StreamOptions
from streamcore.storage.sizes import PIECE_BYTES, content_size

MOST_READY = 256
"""How many chunks may wait for a slow reader; beyond that the source is not read, and TCP slows the vendor down."""
MOST_BYTES = 2**20
"""How many bytes may be read, besides `buffer_size`, before the reader takes what is ready; `raw` counts, too."""


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
        self._most_bytes = MOST_BYTES + 4 * smoother.size  # a character has at most four bytes
        self._ready: list[Chunk] = []
        self._unread_bytes = 0  # of all that was read from the source since the reader last took something
        self._error: BaseException | None = None
        self._ended = False
        self._space: anyio.Event | None = None
        self._life = anyio.CancelScope()
        self._done = anyio.Event()
        self._wakeup: AsyncioWakeup | TrioWakeup

    def start(self) -> None:
        """Start the task on the running loop."""
        self._wakeup = wakeup(self._tick)
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
        ready, self._ready, self._unread_bytes = self._ready, [], self._smoother.waiting_bytes
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
        smoother = self._smoother
        async for chunks in self._source:
            if not chunks:
                continue
            self._put(smoother.feed(chunks, self._wakeup.now()))
            self._unread_bytes += sum([content_size(chunk) + PIECE_BYTES for chunk in chunks])
            while len(self._ready) >= MOST_READY or self._unread_bytes > self._most_bytes:
                self._space = anyio.Event()
                await self._space.wait()
                self._space = None

    def _put(self, out: list[Chunk]) -> None:
        if out:
            self._ready += out
            self._wakeup.wake()
        self._wakeup.tick_at(self._smoother.deadline)

    def _tick(self) -> None:
        self._put(self._smoother.tick(self._wakeup.now()))
