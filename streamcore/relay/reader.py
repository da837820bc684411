"""Read a run from any item to its end, and write the end if its producer is lost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Self

from streamcore.completion import Completion
from streamcore.errors import RunExpired
from streamcore.relay.entries import decode_end, encode_end
from streamcore.relay.log import RunLog, Status
from streamcore.reports.relay import ReaderReport
from streamcore.sse import Item
from streamcore.sse.public import interrupted, public

LOST = encode_end(interrupted("the worker that produced this answer was lost; the answer ends here. Ask again"), None)


class Reader:
    """Iterate over the items of a run after a number; `Relay.read` makes one and documents the errors.

    A reader may be dropped at any time: nothing is open between two items, and the run continues.
    """

    def __init__(
        self,
        log: RunLog,
        run_id: str,
        after: int | None,
        check: Callable[[], Awaitable[Status]],
        every: float,
        elsewhere: Callable[[], bool],
    ) -> None:
        self._log = log
        self._run_id = run_id
        self._check = check
        self._every = every
        self._elsewhere = elsewhere
        self._checked = False
        self._touch_at = 0.0
        self._pending: list[Item] = []  # of the last batch, the next one last
        self._read = after or 0
        self._end: bytes | None = None
        self._error: Exception | None = None
        self._over = False
        self._report = ReaderReport(run_id)
        self.partial: Completion | None = None
        """After the end: the answer so far as it arrived; None if the source has no `partial`."""

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self._run_id

    @property
    def seq(self) -> int:
        """The number of the item that was returned last; pass it as `after` to continue."""
        return self._read - len(self._pending)

    @property
    def resumable(self) -> bool:
        """Whether the run continues if this worker stops, since another worker produces it."""
        return self._elsewhere()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        if not self._pending:
            batch = await self.next_batch()
            if batch is None:
                raise StopAsyncIteration
            if len(batch) == 1:
                return batch[0]
            self._pending = batch[::-1]
        return self._pending.pop()

    async def next_batch(self) -> list[Item] | None:
        """Return what has arrived, at least one item; None at the end of a run that did not fail."""
        while not self._over and self._end is None:
            if time.monotonic() >= self._touch_at:
                await self._touch()
            result = await self._log.read(self._run_id, self._read, self._every)
            if result is None:
                raise expired(self._run_id)
            self._read, self._end = result.seq, result.end
            if result.items:
                return result.items
            if result.snapshot is not None:
                return [{"type": "gap", "seq": result.seq, "items": [*result.snapshot]}]
            if result.end is None and not await self._log.take_over(self._run_id, LOST):
                raise expired(self._run_id)
        if self._end is not None and not self._over:
            self._over = True
            self._error, self.partial = decode_end(self._end)
            self._report.ended(self._error)
        if self._error is not None:
            raise self._error
        return None

    async def _touch(self) -> None:
        """Signal to the producer that the run has a reader; the first time, check that the run can be read."""
        if not self._checked:
            status = await self._check()
            if self._read > status.seq:  # the client has an earlier run of this name
                raise expired(self._run_id)
            self._checked = True
            self._report.begin(status.trace)
            if status.state == "ended":
                self._read = min(self._read, status.seq - 1)  # a log returns the end after the last item
        self._touch_at = time.monotonic() + self._every
        await self._log.touch(self._run_id)

    async def aclose(self) -> None:
        """Stop reading; the run continues."""
        self._pending.clear()
        if not self._over:
            self._over = True
            self._error = interrupted("the reader was closed before the end of the run; read it again")
            self._report.ended(GeneratorExit())


async def all_items(log: RunLog, run_id: str, seq: int) -> list[Item]:
    """Return the items of a run up to number `seq`; those before the first separate one are compacted."""
    items: list[Item] = []
    after = 0
    while after < seq:
        result = await log.read(run_id, after, 0)
        if result is None:
            raise expired(run_id)
        items += result.items if result.snapshot is None else result.snapshot
        after = result.seq
    return items


def expired(run_id: str) -> RunExpired:
    """Return the error for a run that existed."""
    return public(
        RunExpired(f"run {run_id!r} can no longer be read: it has expired, or its store was emptied; ask again")
    )
