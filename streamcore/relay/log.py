"""Define what keeps runs: a protocol that a lease, an epoch and numbered items make safe for many workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streamcore.sse import Item

Wish = Literal["", "stop", "cancel"]
"""What somebody asked a producer to do."""


@dataclass(frozen=True, slots=True)
class Status:
    """Tell where a run stands.

    `lost` is a run whose producer has not renewed its lease: its next reader will write the end. `seq` is the number
    of the last item; the end, once it is there, counts as one.
    """

    owner: str
    state: Literal["running", "lost", "ended"]
    seq: int
    first: int = 1
    """The first item that is still there one by one; those before it are in the snapshot."""


@dataclass(slots=True)
class Found:
    """Hold what a log has behind a number: `items`, the last of which is number `seq`; whoever reads owns the list.

    Where items behind that number are gone, `snapshot` says what all up to `seq` were, and `items` are none.
    `end` is how the run ended, if these items are its last (`entries.decode_end`).
    """  # not frozen: one is made for every token, and that would cost four times as much

    seq: int
    items: list[Item]
    end: bytes | None = None
    snapshot: Sequence[Item] | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """Tell a producer what others want of it, and how many seconds nobody has read."""

    wish: Wish
    idle: float


class RunLog(Protocol):
    """What keeps runs. `streamcore.testing.suites.run_log` is the suite that each one passes.

    An epoch is the right to write to a run: `start` gives it, and `take_over` takes it away. All may raise
    `RelayError`: the log cannot be reached; then what was asked may or may not have been done, and may be asked again.
    """

    gathers: bool
    """True if an append takes its time, so that what comes meanwhile is better kept for one append more."""

    async def start(
        self, run_id: str, owner: str, *, lease: float, limit: int | None = None, thread: str | None = None
    ) -> int:
        """Open a run and return its epoch; the lease, in seconds, begins. It becomes the newest run of its thread.

        Raises:
            RunExists: there is a run of that name, whoever's, ended or not; or the newest run of the thread has not
                ended, be it lost or not.
            TooManyRuns: `limit` runs of this owner are going on.
        """
        ...

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run, None if there is none or it has expired."""
        ...

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those behind number `seq`, all or none; renew the lease.

        Returns:
            False if nothing was stored, since the run is another's by now, has ended, or is gone. True when asked
            again for what is stored already.
        """
        ...

    async def renew(self, run_id: str, epoch: int, *, lease: float) -> Beat | None:
        """Renew the lease; None if the run is another's by now, has ended, or is gone."""
        ...

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Drop the items up to number `seq`, which the snapshot stands for from now on."""
        ...

    async def wish(self, run_id: str, wish: Wish) -> None:
        """Leave word for the producer."""
        ...

    async def touch(self, run_id: str) -> None:
        """Note that somebody reads the run."""
        ...

    async def read(self, run_id: str, after: int, seconds: float) -> Found | None:
        """Return what stands behind number `after`, waiting up to about `seconds` for it; 0 is not at all.

        Behind the last item of a run that has ended stands its end. None if the run is gone; a log may also just find
        nothing then, since `take_over` tells. A log whose producers cannot vanish may wait longer.
        """
        ...

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End the run for a producer whose lease is over, and take its epoch away; False if there is no run.

        Nothing happens to a run whose lease holds, or which has ended.
        """
        ...

    async def status(self, run_id: str) -> Status | None:
        """Tell where the run stands; None if there is no such run."""
        ...
