"""Read one source to its end, write down what it gives before anybody sees it, and end the run once."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

import anyio
from anyio.abc import TaskGroup

from streamcore.completion import Completion
from streamcore.concurrency.resources import CLOSE_SECONDS
from streamcore.errors import ConfigError, RelayError, StreamcoreError, StreamInterrupted
from streamcore.relay.entries import compacted, encode_end
from streamcore.relay.log import RunLog, Wish
from streamcore.sse import Item

log = logging.getLogger("streamcore")


class Batches(Protocol):
    """A source that gives all that has come, None at its end; as a `Stream` does."""

    async def next_batch(self) -> list[Item] | None: ...
    async def aclose(self) -> None: ...


Source = Batches | AsyncIterable[Item] | Callable[[], AsyncIterable[Item] | Awaitable[AsyncIterable[Item]]]
"""What a run is made of: a stream of chunks, tokens or graph events, or a function that opens one."""

GONE = "another worker has ended it, or its log is gone"

STOP_SECONDS = 5.0
"""How long a source that was asked to stop may go on before it is cut."""


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """Say how long things may take, in seconds, and how much of a run is kept one by one."""

    grace: float = 60.0
    lease: float = 10.0
    max_items: int = 20_000

    @property
    def beat(self) -> float:
        """How often a producer renews its lease and looks for word."""
        return min(0.5, self.lease / 5, self.grace / 5)

    @property
    def held(self) -> float:
        """How long the lease of the log is: over soon enough that readers know of it within `lease`."""
        return self.lease * 0.6


def in_batches(source: Batches | AsyncIterator[Item]) -> Callable[[], Awaitable[list[Item] | None]]:
    """Return what reads all that has come, None at the end; of an iterator one item at a time."""
    next_batch: Callable[[], Awaitable[list[Item] | None]] | None = getattr(source, "next_batch", None)
    if next_batch is not None:
        return next_batch
    items = cast("AsyncIterator[Item]", source)

    async def next_item() -> list[Item] | None:
        try:
            return [await anext(items)]
        except StopAsyncIteration:
            return None

    return next_item


class Producer:
    """The one writer of a run; `run()` returns when its end is written, or the run is another's."""

    def __init__(self, log: RunLog, run_id: str, epoch: int, source: Source, settings: ProducerSettings) -> None:
        self._log = log
        self._run_id = run_id
        self._epoch = epoch
        self._opens = source
        self._source: Any = None
        self._items: Any = None
        self._settings = settings
        self._seq = 0
        self._kept = 0  # items that are in the log one by one
        self._pending: list[Item] = []
        self._news = anyio.Event()  # something is pending
        self._taken = anyio.Event()  # nothing is
        self._renewed = time.monotonic()
        self._reading = anyio.CancelScope()
        self._wished: Wish = ""
        self._fenced = False
        self._broken = False  # something came that cannot be written
        self._error: Exception | None = StreamInterrupted("the service is being stopped; the answer ends here")
        self.over = anyio.Event()
        """Set when the source is closed and the end is written."""

    async def run(self) -> None:
        """Produce the run."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, group)
                if self._log.gathers:
                    group.start_soon(self._write_on)
                try:
                    await self._read()
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._close()
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                if not self._fenced:
                    await self._write_end()
            self.over.set()

    async def _read(self) -> None:
        """Read the source to its end, or until it is cut or fails."""
        error: Exception | None = None
        with self._reading:
            try:
                read_on = await self._open()
                take = self._gather if self._log.gathers else self._append
                while (batch := await read_on()) is not None:
                    if batch:
                        await take(batch)
            except Exception as failure:  # it becomes the end of the run
                error = failure
                hidden = not isinstance(failure, StreamcoreError)
                log.warning(
                    "run %r ended in %s", self._run_id, type(error).__name__, exc_info=failure if hidden else None
                )
        if not self._reading.cancelled_caught:
            self._error = error

    async def _open(self) -> Callable[[], Awaitable[list[Item] | None]]:
        """Open the source, and return what reads all that has come, None at the end."""
        source: Any = self._opens
        if callable(source):
            source = source()
            if inspect.isawaitable(source):
                source = await source
        self._source = source
        if not hasattr(source, "next_batch"):
            self._items = source = aiter(cast("AsyncIterable[Item]", source))
        return in_batches(source)

    async def _gather(self, batch: list[Item]) -> None:
        if self._pending:
            self._pending += batch
            if len(self._pending) > self._settings.max_items:  # the log is slower than the vendor
                self._taken = anyio.Event()
                await self._taken.wait()
        else:
            self._pending = [*batch]
            self._news.set()

    async def _write_on(self) -> None:
        """Append what has come, and while that is under way gather what comes next."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            batch, self._pending = self._pending, []
            self._taken.set()
            if batch and not self._broken:
                with anyio.CancelScope(shield=True):  # or nobody would know whether it is written
                    await self._append(batch)

    async def _append(self, items: list[Item], end: bytes | None = None) -> None:
        lease = self._settings.held
        while not self._fenced:
            try:
                done = await self._log.append(self._run_id, self._epoch, self._seq, items, end, lease=lease)
            except RelayError as error:  # it may be asked again, as long as nobody else may have the run
                if time.monotonic() - self._renewed > lease:
                    self._lose(str(error))
                await anyio.sleep(self._settings.beat)
                continue
            except ConfigError as error:  # an event that is not JSON: what came before it is kept
                await self._append_until(items, error)
                return
            if not done:
                self._lose(GONE)
            self._renewed = time.monotonic()
            self._seq += len(items)
            self._kept += len(items)
            if self._kept >= self._settings.max_items and end is None:
                await self._trim()
            return

    async def _append_until(self, items: list[Item], error: ConfigError) -> None:
        """Append items one by one up to the one that cannot be, which ends the run."""
        if len(items) == 1:
            self._broken = True
            self._cut(error)
        for item in items if len(items) > 1 else ():
            await self._append([item])
            if self._broken:
                return

    async def _trim(self) -> None:
        """Put the older half of the items together to a snapshot; if that fails, later."""
        keep = self._settings.max_items // 2
        self._kept = keep
        items: list[Item] = []
        after = 0
        with suppress(RelayError):
            while after < self._seq:
                found = await self._log.read(self._run_id, after, 0)
                if found is None:
                    return
                items += found.items if found.snapshot is None else found.snapshot
                after = found.seq
            await self._log.trim(self._run_id, self._epoch, self._seq - keep, compacted(items[: len(items) - keep]))

    def _lose(self, why: str) -> None:
        """Give the run up: what is not written is seen by nobody, and not worth paying for."""
        if not self._fenced:
            log.warning("run %r is given up: %s", self._run_id, why)
        self._fenced = True
        self._reading.cancel()

    async def _watch(self, group: TaskGroup) -> None:
        """Renew the lease, and look whether anybody reads, or wants an end."""
        settings = self._settings
        while True:
            await anyio.sleep(settings.beat)
            try:
                beat = await self._log.renew(self._run_id, self._epoch, lease=settings.held)
            except RelayError as error:
                if time.monotonic() - self._renewed > settings.held:
                    self._lose(str(error))
                continue
            self._renewed = time.monotonic()
            if beat is None:
                self._lose(GONE)
            elif beat.wish:
                group.start_soon(self.end, beat.wish)  # it may take longer than the lease
            elif beat.idle > settings.grace - settings.beat:  # at the next beat it would be too late
                self._cut(StreamInterrupted(f"nobody came back to this answer within {settings.grace:g} s; ask again"))

    async def end(self, wish: Wish) -> None:
        """End the run early: `stop` ends it well with what there is, `cancel` as an error."""
        if wish == "cancel":
            self._cut(StreamInterrupted("the answer was cancelled"))
        elif not self._wished:
            self._wished = "stop"
            stop = getattr(self._source, "stop", None)
            if stop is None:
                self._cut(None)
                return
            try:
                with anyio.move_on_after(STOP_SECONDS):
                    stopping = stop()
                    if inspect.isawaitable(stopping):
                        await stopping
                    await self.over.wait()
            except Exception:  # it is cut all the same
                log.warning("stopping the source of run %r failed", self._run_id, exc_info=True)
            self._cut(None)

    def _cut(self, error: Exception | None) -> None:
        if not self._reading.cancel_called:
            self._error = error
            self._reading.cancel()

    async def _close(self) -> None:
        for opened in (self._items, self._source):
            close = getattr(opened, "aclose", None)
            if close is None:
                continue
            with anyio.move_on_after(CLOSE_SECONDS):
                try:
                    await close()
                except Exception:  # the end must be written all the same
                    log.warning("closing the source of run %r failed", self._run_id, exc_info=True)

    async def _write_end(self) -> None:
        partial = getattr(self._source, "partial", None)
        if not isinstance(partial, Completion):
            partial = Completion() if self._reading.cancel_called or self._wished else None
        pending, self._pending = self._pending, []
        if pending and not self._broken:
            await self._append(pending)
        await self._append([], encode_end(self._error, partial))
