"""Keep runs in the memory of this process, for one worker and for tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

import anyio

from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import AnswerTooLarge, ConfigError, RunExists, TooManyRuns
from streamcore.relay.log import Adopted, Command, ReadResult, Renewal, RunState, Status
from streamcore.relay.packed import Block, compress, decompress, pack
from streamcore.sse import Item
from streamcore.storage.sizes import items_size

MAX_BYTES = 512 * 2**20
"""The default limit of all runs in memory."""
BLOCK_ITEMS = 512
"""How many items are packed together."""
BLOCK_BYTES = 2**20
"""Items of one append that are larger than this are packed at once."""
RUN_BYTES = 500
"""About how many bytes a run takes besides its items."""


@dataclass(slots=True)
class _StoredRun:
    owner: str
    counted: tuple[str, str]
    """Whose running runs it counts among: an owner's, or a client's."""
    epoch: int
    lease: float
    """When it expires, on the monotonic clock."""
    seen: float
    blocks: list[Block] = field(default_factory=list[Block])
    """The older items, packed."""
    packed: int = 0
    """How many items are packed."""
    size: int = 0
    """The bytes that the run takes."""
    items: list[Item] = field(default_factory=list[Item])
    """The newer items."""
    trimmed: int = 0
    """How many items the snapshot replaces."""
    snapshot: Sequence[Item] = ()
    end: bytes | None = None
    ended: float = 0.0
    command: Command = ""
    hold: float = 0.0
    """Seconds after its lease in which it is not ended by `take_over`."""
    readers: int = 0
    """How many wait for the next item."""
    waiting: list[asyncio.Future[None] | anyio.Event] = field(default_factory=list[Any])
    dropped: bool = False
    trace: str = ""

    @property
    def seq(self) -> int:
        return self.trimmed + self.packed + len(self.items) + (self.end is not None)

    def pack(self, count: int) -> None:
        """Pack the first of the newer items."""
        old = self.items[:count]
        if old:
            block = pack(old)
            del self.items[:count]
            self.blocks.append(block)
            self.packed += count
            self.size += block.size - items_size(old)

    def after(self, number: int) -> list[Item]:
        """Return items after this number: the newer ones, or those of one block."""
        skip = number - self.trimmed
        if skip >= self.packed:
            return self.items[skip - self.packed :]
        for block in self.blocks:
            if skip < block.count:
                return block.items()[skip:]
            skip -= block.count
        return []

    def trim(self, count: int) -> None:
        """Remove the first items."""
        while count and self.blocks:
            block = self.blocks.pop(0)
            self.packed -= block.count
            self.size -= block.size
            if block.count > count:
                rest = pack(block.items()[count:])
                self.blocks.insert(0, rest)
                self.packed += rest.count
                self.size += rest.size
                return
            count -= block.count
        self.size -= items_size(self.items[:count])
        del self.items[:count]

    def notify(self) -> None:
        """Wake the readers that wait."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            if isinstance(one, anyio.Event):
                one.set()
            elif not one.done():
                one.set_result(None)

    async def wait(self) -> None:
        """Return at the next `notify`."""
        if running_on_trio():
            event = anyio.Event()
            self.waiting.append(event)
            await event.wait()
        else:  # an anyio event costs more per token than the rest of the relay
            future = asyncio.get_running_loop().create_future()
            self.waiting.append(future)
            await future


_logs: WeakSet[MemoryLog] = WeakSet()


def held_bytes() -> int:
    """Return the bytes of all runs that the logs of this process hold."""
    return sum(log.size for log in _logs)


class MemoryLog:
    """Keep runs until `keep` seconds after their end; all users share one event loop.

    All runs together take at most about `max_bytes`. Beyond that, the runs that ended first are removed before their
    time; if none has ended, the run that needs more memory is ended with `AnswerTooLarge`.
    """

    gathers = False

    def __init__(self, *, keep: float = 3600.0, max_bytes: int = MAX_BYTES) -> None:
        if max_bytes < 1:
            raise ConfigError(f"max_bytes is the memory of all runs in bytes, 1 or more, not {max_bytes!r}")
        self._keep = keep
        self._max_bytes = max_bytes
        self._size = 0  # bytes of all runs
        self._ended: dict[str, None] = {}  # the runs that have ended, the first one first
        self._runs: dict[str, _StoredRun] = {}
        self._threads: dict[str, str] = {}
        self._forget_at = 0.0
        _logs.add(self)

    @property
    def size(self) -> int:
        """The bytes of all runs."""
        return self._size

    async def start(
        self,
        run_id: str,
        owner: str,
        *,
        lease: float,
        limit: int | None = None,
        thread: str | None = None,
        client: str | None = None,
        hold: float = 0.0,
        trace: str = "",
    ) -> int:
        """Open a run and return its epoch."""
        now = time.monotonic()
        self._forget(now)
        if self._find(run_id) is not None:
            raise exists(run_id)
        if thread is not None:
            newest = self._runs.get(self._threads.get(thread, ""))
            if newest is not None and newest.end is None:
                raise busy(thread)
        counted = ("owner", owner) if client is None else ("client", client)
        if limit is not None and self._count_running(counted, now) >= limit:
            raise too_many(limit, counted[0])
        epoch = secrets.randbits(53)  # not that of an earlier run of this name, on any worker
        self._runs[run_id] = _StoredRun(owner, counted, epoch, now + lease, now, hold=hold, trace=trace)
        if thread is not None:
            self._threads[thread] = run_id
        return epoch

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run."""
        newest = self._threads.get(thread, "")
        return None if self._find(newest) is None else newest

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those after number `seq`."""
        run = self._runs.get(run_id)
        if run is None or run.epoch != epoch:
            return False
        if run.end is not None:
            return end is not None and run.seq == seq + len(items) + 1
        if run.seq == seq:
            size = items_size(items)
            if not self._make_room(size, run_id) and end is None:
                raise AnswerTooLarge(
                    f"the memory of the relay is full: its runs have {self._max_bytes:,} bytes, and none has ended; "
                    "ask again later, or give MemoryLog a higher max_bytes",
                    limit=self._max_bytes,
                )
            before = run.size
            run.size += size
            run.items += items
            if len(run.items) >= 2 * BLOCK_ITEMS or run.size - before > BLOCK_BYTES:
                run.pack(min(BLOCK_ITEMS, len(run.items)))
            self._size += run.size - before
        elif run.seq != seq + len(items):
            return False
        run.lease = time.monotonic() + lease
        if end is not None:
            self._end(run_id, run, end)
        else:
            run.notify()
        return True

    async def renew(self, run_id: str, epoch: int, *, lease: float) -> Renewal | None:
        """Renew the lease."""
        run = self._runs.get(run_id)
        if run is None or run.epoch != epoch or run.end is not None:
            return None
        now = time.monotonic()
        run.lease = now + lease
        return Renewal(run.command, 0.0 if run.readers else now - run.seen)

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Drop the items up to number `seq`."""
        run = self._runs.get(run_id)
        if run is not None and run.epoch == epoch and seq > run.trimmed:
            before = run.size
            run.trim(seq - run.trimmed)
            run.size += items_size(snapshot) - items_size(run.snapshot)
            self._size += run.size - before
            run.trimmed, run.snapshot = seq, snapshot

    async def command(self, run_id: str, command: Command) -> None:
        """Send a command to the producer."""
        if run_id in self._runs:
            self._runs[run_id].command = command

    async def touch(self, run_id: str) -> None:
        """Record that the run has a reader."""
        run = self._runs.get(run_id)
        if run is not None:
            run.seen = time.monotonic()

    async def read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        """Return what follows number `after`; wait without limit if the run has a producer, or not at all."""
        run = self._find(run_id)
        while run is not None and not run.dropped:
            if after < run.trimmed:
                return ReadResult(run.trimmed, [], snapshot=run.snapshot)
            items = run.after(after)
            if items or run.end is not None or not seconds:
                seq = after + len(items)
                last = run.end is not None and seq >= run.seq - 1
                return ReadResult(seq, items, decompress(run.end) if last and run.end is not None else None)
            run.readers += 1
            try:
                if run.hold:  # it may have no producer
                    with anyio.move_on_after(seconds) as waited:
                        await run.wait()
                    if waited.cancelled_caught:
                        run.waiting = [one for one in run.waiting if isinstance(one, anyio.Event) or not one.done()]
                        return ReadResult(after, [])
                else:
                    await run.wait()
            finally:
                run.readers -= 1
                run.seen = time.monotonic()
        return None

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End the run if its lease has expired."""
        run = self._find(run_id)
        if run is not None and run.end is None and run.lease + run.hold < time.monotonic():
            run.epoch = 0
            self._end(run_id, run, end)
        return run is not None

    async def adopt(self, run_id: str, *, lease: float) -> Adopted | None:
        """Give the run a new epoch if its lease has expired."""
        run, now = self._find(run_id), time.monotonic()
        if run is None or run.end is not None or run.lease >= now:
            return None
        run.epoch, run.lease, run.seen = secrets.randbits(53), now + lease, now
        return Adopted(run.epoch, run.seq)

    async def status(self, run_id: str) -> Status | None:
        """Return the state of the run."""
        run = self._find(run_id)
        if run is None:
            return None
        lost = run.lease < time.monotonic()
        state: RunState = "ended" if run.end else "lost" if lost else "running"
        return Status(run.owner, state, run.seq, run.trimmed + 1, run.trace)

    def begin_after(self, run_id: str, epoch: int, seq: int, lease: float) -> None:
        """Open a run whose items up to number `seq` another log has; its readers do not wait without limit."""
        self.drop(run_id)
        now = time.monotonic()
        self._runs[run_id] = _StoredRun("", ("owner", ""), epoch, now + lease, now, trimmed=seq, hold=1.0)

    def drop(self, run_id: str, *, ended: bool = False) -> None:
        """Remove a run (with `ended`, only one that has ended); readers that wait for it get None."""
        run = self._runs.get(run_id)
        if run is not None and (run.end is not None or not ended):
            del self._runs[run_id]
            self._ended.pop(run_id, None)
            self._size -= run.size
            run.dropped = True
            run.notify()

    def _forget(self, now: float) -> None:
        """Remove expired runs, at most every 10 seconds."""
        if now < self._forget_at:
            return
        self._forget_at = now + min(self._keep, 10.0)
        for name in [name for name in self._ended if self._is_over(self._runs[name], now)]:
            self.drop(name)
        self._threads = {thread: newest for thread, newest in self._threads.items() if newest in self._runs}

    def _find(self, run_id: str) -> _StoredRun | None:
        run = self._runs.get(run_id)
        return None if run is None or self._is_over(run, time.monotonic()) else run

    def _count_running(self, counted: tuple[str, str], now: float) -> int:
        return sum(run.counted == counted and run.end is None and run.lease >= now for run in self._runs.values())

    def _is_over(self, run: _StoredRun, now: float) -> bool:
        return run.end is not None and run.ended + self._keep < now

    def _end(self, run_id: str, run: _StoredRun, end: bytes) -> None:
        before = run.size
        while run.items:
            run.pack(min(len(run.items), BLOCK_ITEMS))
        run.end, run.ended = compress(end), time.monotonic()
        run.size += len(run.end) + RUN_BYTES
        self._size += run.size - before
        self._ended[run_id] = None
        self._make_room(0, run_id)
        run.notify()

    def _make_room(self, size: int, run_id: str) -> bool:
        """Remove runs that have ended, except this one, until so many bytes more are allowed; False if that fails."""
        while self._size + size > self._max_bytes:
            oldest = next((name for name in self._ended if name != run_id), None)
            if oldest is None:
                return False
            self.drop(oldest)
        return True


def exists(run_id: str) -> RunExists:
    """Return the error for a name that is in use."""
    return RunExists(f"run {run_id!r} exists already; read it, or start a run with another name")


def busy(thread: str) -> RunExists:
    """Return the error for a thread whose newest run has not ended."""
    return RunExists(f"a run of {thread!r} has not ended; read it, stop it, or wait for its end")


def too_many(limit: int, kind: str) -> TooManyRuns:
    """Return the error for an owner or a client (`kind`) at the limit of running runs."""
    shown = "user" if kind == "owner" else kind
    return TooManyRuns(f"at most {limit} answers per {shown} may run at once; stop one, or try again later")
