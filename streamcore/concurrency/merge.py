"""Run several async generators at the same time and yield their items in the order of arrival.

One task, started outside any task group, runs the tasks that read the sources, so that a reader who stops leaves no
scope open. It closes all the sources, and its own scope encloses them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Generic, TypeVar

import anyio

from streamcore.concurrency.event_loop import start_task
from streamcore.concurrency.generators import opened
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import StreamInterrupted
from streamcore.storage.sizes import item_size

T = TypeVar("T")

MOST_READY = 64
"""How many items may wait for a slow reader; beyond that no source is read."""
MOST_READY_BYTES = 2**20
"""How many bytes these items may have; one item may have more, and each source may have one more that waits."""


async def merged(sources: Sequence[AsyncGenerator[T]], limit: int) -> AsyncGenerator[tuple[int, T]]:
    """Yield each item with the number of its source, at most `limit` of which run at a time, in the order given.

    The first error of a source cancels the others; it is raised after all items that were yielded before it.
    """
    merger = _Merger(sources, limit)
    start_task(merger.run)
    try:
        async for number, item, size in merger.ready:
            merger.taken(size)
            yield number, item
        if merger.error is not None:
            raise merger.error
    finally:
        await merger.aclose()


class _Merger(Generic[T]):
    def __init__(self, sources: Sequence[AsyncGenerator[T]], limit: int) -> None:
        self._sources = sources
        self._limiter = anyio.Semaphore(limit)
        self._life = anyio.CancelScope()
        self._done = anyio.Event()
        self._send, self.ready = anyio.create_memory_object_stream[tuple[int, T, int]](MOST_READY)
        self._bytes = 0  # of the items that wait
        self._fewer: anyio.Event | None = None  # set when some were taken
        self.error: Exception | None = None

    async def run(self) -> None:
        """Read all the sources to their end and close them."""
        try:
            with self._life:
                async with anyio.create_task_group() as self._tasks:
                    for number, source in enumerate(self._sources):
                        await self._limiter.acquire()
                        self._tasks.start_soon(self._read, number, source)
        except BaseException:
            # Cancelled from outside, as by a loop that ends: the reader must not take this for the end.
            self.error = self.error or StreamInterrupted("the run was cancelled before its end")
            raise
        finally:
            self._send.close()
            self._done.set()

    async def _read(self, number: int, source: AsyncGenerator[T]) -> None:
        try:
            async with opened(source) as items:
                async for item in items:
                    size = item_size(item)
                    while self._bytes and self._bytes + size > MOST_READY_BYTES:
                        self._fewer = self._fewer or anyio.Event()
                        await self._fewer.wait()
                    self._bytes += size
                    await self._send.send((number, item, size))
        except Exception as error:  # noqa: BLE001  raised on the reader's side
            self.error = self.error or error
            self._tasks.cancel_scope.cancel()
        finally:
            self._limiter.release()

    def taken(self, size: int) -> None:
        """Record that the reader has taken an item, so that sources are read again."""
        self._bytes -= size
        if self._fewer is not None:
            self._fewer.set()
            self._fewer = None

    async def aclose(self) -> None:
        """End the tasks and wait until they have closed their sources."""
        self._life.cancel()
        try:
            with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True):
                await self._done.wait()
        finally:
            self.ready.close()
