"""Read one source to its end, store its items before a reader sees them, and end the run once."""

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
from streamcore.errors import AnswerTooLarge, ConfigError, RelayError, StreamTimeout
from streamcore.relay.entries import compacted, encode_end
from streamcore.relay.log import Command, RunLog
from streamcore.reports.relay import RunReport
from streamcore.sse import Item
from streamcore.sse.public import described_in_log, failure_fields, interrupted, public
from streamcore.storage.sizes import items_size

log = logging.getLogger("streamcore")


class BatchSource(Protocol):
    """A source that returns what has arrived, in batches, and None at its end; a `Stream` is one."""

    async def next_batch(self) -> list[Item] | None: ...
    async def aclose(self) -> None: ...


Source = BatchSource | AsyncIterable[Item] | Callable[[], AsyncIterable[Item] | Awaitable[AsyncIterable[Item]]]
"""The source of a run: a stream of chunks, tokens or graph events, or a function that opens one."""

GONE = "another worker has ended it, or the log no longer has it"

CANCELLED = "the answer was cancelled"
"""The message of a run that was cancelled."""

MAX_PENDING_BYTES = 4 * 2**20
"""How many bytes may wait for a log that is slower than the vendor; beyond that the source is not read."""

AT_ONCE = 0.001
"""The lease, in seconds, of a run that no worker produces for the moment."""

STOP_SECONDS = 5.0
"""How long a source may take to stop before it is cancelled."""


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """The times of a relay, in seconds, and how many items of a run are stored separately."""

    grace: float = 60.0
    lease: float = 10.0
    max_items: int = 20_000
    max_seconds: float | None = None

    @property
    def renew_every(self) -> float:
        """The seconds between two renewals of a lease, each of which returns the run's command."""
        return min(0.5, self.lease / 5, self.grace / 5)

    @property
    def log_lease(self) -> float:
        """The lease in the log: it expires early enough that readers notice within `lease`."""
        return self.lease * 0.6


def in_batches(source: BatchSource | AsyncIterator[Item]) -> Callable[[], Awaitable[list[Item] | None]]:
    """Return a function that reads what has arrived, None at the end; from an iterator one item at a time."""
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


@dataclass(frozen=True, slots=True)
class AdoptedItems:
    """What a run has that another worker began: how many items, how many of them separately, what voids the rest."""

    seq: int
    stored: int
    restarts: list[Item]


class Producer:
    """The one writer of a run; `run()` returns when the end is written, or another worker has taken the run over.

    Args:
        log: the store of the run.
        run_id: the run's name.
        epoch: the right to write to it.
        source: what is read.
        settings: times and limits.
        report: tells observers of the run.
        adopted: the run's items so far, if another worker wrote them; the run is then continued, and if this worker
            stops, it is left to another one.
    """

    def __init__(
        self,
        log: RunLog,
        run_id: str,
        epoch: int,
        source: Source,
        settings: ProducerSettings,
        report: RunReport,
        adopted: AdoptedItems | None = None,
    ) -> None:
        self._log = log
        self._run_id = run_id
        self._epoch = epoch
        self._opens = source
        self._source: Any = None
        self._items: Any = None
        self._settings = settings
        self._report = report
        self._first = adopted.restarts if adopted else []
        self._hands_over = adopted is not None
        self._seq = adopted.seq if adopted else 0
        self._stored = adopted.stored if adopted else 0  # items that are stored separately
        self._pending: list[Item] = []
        self._pending_bytes = 0
        self._has_pending = anyio.Event()  # set when there are pending items
        self._taken = anyio.Event()  # set when the pending items were taken
        self._renewed = time.monotonic()
        self._reading = anyio.CancelScope()
        self._stopping: Command = ""
        self._fenced = False
        self._broken = False  # an item cannot be stored
        self._left = False  # to another worker
        self._error: Exception | None = interrupted("the service is being stopped; the answer ends here")
        self.over = anyio.Event()
        """Set when the source is closed and the end is written."""

    async def run(self) -> None:
        """Produce the run."""
        with self._report.around():
            await self._run()

    async def _run(self) -> None:
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
        except BaseException:
            self._left = self._hands_over
            raise
        finally:
            with anyio.CancelScope(shield=True):
                if self._left and not self._fenced:
                    with suppress(RelayError):  # then the lease expires by itself
                        await self._log.renew(self._run_id, self._epoch, lease=AT_ONCE)
                elif not self._fenced:
                    await self._write_end()
            self._report.ended(self._error, self._partial(), self._seq, stopped=self._stopping == "stop")
            self.over.set()

    @property
    def hands_over(self) -> bool:
        """Whether the run is left to another worker if this one stops."""
        return self._hands_over

    def hand_over(self) -> None:
        """Stop reading, and let another worker continue the run."""
        self._left = True
        self._reading.cancel()

    async def _read(self) -> None:
        """Read the source until it ends, fails, or is cancelled."""
        error: Exception | None = None
        with self._reading:
            try:
                if self._first:
                    await self._append(self._first)
                read_on = await self._open()
                take = self._gather if self._log.gathers else self._append
                while (batch := await read_on()) is not None:
                    if batch:
                        await take(batch)
            except Exception as failure:  # it becomes the end of the run
                error = failure
                text, unexpected = described_in_log(failure)
                extra = {**failure_fields(failure), "run_id": self._run_id, "owner": self._report.owner or None}
                log.warning("run %r ended in %s", self._run_id, text, exc_info=unexpected, extra=extra)
        if not self._reading.cancelled_caught:
            self._error = error

    async def _open(self) -> Callable[[], Awaitable[list[Item] | None]]:
        """Open the source, and return the function that reads it in batches, None at the end."""
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
            self._pending_bytes += items_size(batch)
            if self._pending_bytes > MAX_PENDING_BYTES or len(self._pending) > self._settings.max_items:
                # The log is slower than the vendor.
                self._taken = anyio.Event()
                await self._taken.wait()
        else:
            self._pending = [*batch]
            self._pending_bytes = items_size(batch)
            self._has_pending.set()

    async def _write_on(self) -> None:
        """Append pending items; those that arrive meanwhile are pending for the next append."""
        while True:
            await self._has_pending.wait()
            self._has_pending = anyio.Event()
            batch, self._pending = self._pending, []
            self._taken.set()
            if batch and not self._broken:
                with anyio.CancelScope(shield=True):  # a cancelled append may be stored or not
                    await self._append(batch)

    async def _append(self, items: list[Item], end: bytes | None = None) -> None:
        lease = self._settings.log_lease
        while not self._fenced:
            try:
                done = await self._log.append(self._run_id, self._epoch, self._seq, items, end, lease=lease)
            except RelayError as error:  # repeated until another worker may have taken the run over
                if time.monotonic() - self._renewed > lease:
                    self._lose(str(error))
                await anyio.sleep(self._settings.renew_every)
                continue
            except (ConfigError, AnswerTooLarge) as error:  # not JSON, or too large: what precedes it is stored
                await self._append_until(items, error)
                return
            if not done:
                self._lose(GONE)
            self._renewed = time.monotonic()
            self._seq += len(items)
            self._stored += len(items)
            if self._stored >= self._settings.max_items and end is None:
                await self._trim()
            return

    async def _append_until(self, items: list[Item], error: ConfigError | AnswerTooLarge) -> None:
        """Append items one by one, up to the one that cannot be stored, which ends the run."""
        if len(items) == 1:
            self._broken = True
            self._cut(error)
        for item in items if len(items) > 1 else ():
            await self._append([item])
            if self._broken:
                return

    async def _trim(self) -> None:
        """Replace the older half of the items by a snapshot; if that fails, try again later."""
        keep = self._settings.max_items // 2
        self._stored = keep
        items: list[Item] = []
        after = 0
        with suppress(RelayError):
            while after < self._seq:
                result = await self._log.read(self._run_id, after, 0)
                if result is None:
                    return
                items += result.items if result.snapshot is None else result.snapshot
                after = result.seq
            await self._log.trim(self._run_id, self._epoch, self._seq - keep, compacted(items[: len(items) - keep]))

    def _lose(self, why: str) -> None:
        """Give the run up: no reader would see what is not stored."""
        if not self._fenced:
            log.warning("run %r is given up: %s", self._run_id, why)
        self._fenced = True
        self._reading.cancel()

    async def _watch(self, group: TaskGroup) -> None:
        """Renew the lease; end the run at a command, or if it has had no reader for `grace` seconds."""
        settings = self._settings
        ends = None if settings.max_seconds is None else time.monotonic() + settings.max_seconds
        while True:
            await anyio.sleep(settings.renew_every)
            if ends is not None and time.monotonic() > ends:
                message = f"this answer took longer than {settings.max_seconds:g} s, the limit of the service"
                late = StreamTimeout(f"{message}; it ends here", clock="total", seconds=settings.max_seconds)
                self._cut(public(late))
            try:
                renewal = await self._log.renew(self._run_id, self._epoch, lease=settings.log_lease)
            except RelayError as error:
                if time.monotonic() - self._renewed > settings.log_lease:
                    self._lose(str(error))
                continue
            self._renewed = time.monotonic()
            if renewal is None:
                self._lose(GONE)
            elif renewal.command:
                group.start_soon(self.end, renewal.command)  # in a task, since it may take longer than the lease
            elif renewal.idle > settings.grace - settings.renew_every:  # the next renewal would be too late
                self._cut(
                    interrupted(f"this answer had no reader for {settings.grace:g} s and was cancelled; ask again")
                )

    async def end(self, command: Command) -> None:
        """End the run early: `stop` as complete up to here, `cancel` as an error."""
        if command == "cancel":
            self._cut(interrupted(CANCELLED))
        elif not self._stopping:
            self._stopping = "stop"
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
            except Exception:  # the run is cut instead
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
                except Exception:  # the end must still be written
                    log.warning("closing the source of run %r failed", self._run_id, exc_info=True)

    def _partial(self) -> Completion | None:
        """Return the answer so far; None if the source has none."""
        partial = getattr(self._source, "partial", None)
        return partial if isinstance(partial, Completion) else None

    async def _write_end(self) -> None:
        partial = self._partial()
        if partial is None and (self._reading.cancel_called or self._stopping):
            partial = Completion()
        pending, self._pending = self._pending, []
        if pending and not self._broken:
            await self._append(pending)
        await self._append([], encode_end(self._error, partial))
