"""Define the store of runs: a protocol that leases, epochs and numbered items make safe for many workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from streamcore.sse import Item

Command = Literal["", "stop", "cancel"]
"""What a producer is to do with its run; "" for nothing."""

RunState = Literal["running", "lost", "ended"]
"""Whether a run is being produced; see `Status`."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a run.

    `lost` is a run whose producer has not renewed its lease; the run's next reader writes its end, or another worker
    continues it. `seq` is the number of the last item; the end counts as an item.
    """

    owner: str
    state: RunState
    seq: int
    first: int = 1
    """The first item that is stored separately; those before it are in the snapshot."""
    trace: str = ""
    """What `start` got as `trace`."""


@dataclass(slots=True)
class ReadResult:
    """What a log has after a number: `items`, of which the last has the number `seq`. The reader owns the list.

    Where items after that number were trimmed, `items` is empty, and `snapshot` has all items up to `seq`, compacted.
    `end` is how the run ended, if these items are its last (`entries.decode_end`).
    """  # not frozen, since one is made for every token, and a frozen one costs four times as much

    seq: int
    items: list[Item]
    end: bytes | None = None
    snapshot: Sequence[Item] | None = None


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a producer learns when it renews its lease: its command, and for how many seconds the run had no reader."""

    command: Command
    idle: float


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a worker needs to continue a run: its new epoch, and the number of the last item."""

    epoch: int
    seq: int


class RunLog(Protocol):
    """A store of runs. `streamcore.testing.suites.run_log` is the suite that an implementation passes.

    An epoch is the right to write to a run: `start` gives it, `take_over` and `adopt` revoke it. Every method may raise
    `RelayError` if the log cannot be reached. The call may then have been done or not, and may be repeated.
    """

    gathers: bool
    """True if an append is slow, so that items that arrive meanwhile are gathered for the next append."""

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
        """Open a run, start its lease (seconds), and return its epoch. The run becomes the newest of its thread.

        `hold` is for how many seconds after its lease has expired the run is not ended by `take_over`, so that a worker
        can adopt it.

        `limit` counts the running runs of the owner; with `client`, those that were started for the same client
        instead, of any owner. The names of clients and owners are apart. `trace` is kept with the run, for its readers;
        it is passed only where an observer has one.

        Raises:
            RunExists: there is a run of that name, of any owner, running or ended; or the newest run of the thread has
                not ended, lost or not.
            TooManyRuns: this owner, or this client, has `limit` running runs.
        """
        ...

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run, None if there is none or it has expired."""
        ...

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those after number `seq`, all or none; renew the lease.

        Returns:
            False if nothing was stored, since the run was taken over, has ended, or does not exist. True for a repeated
            call whose items are stored already.
        """
        ...

    async def renew(self, run_id: str, epoch: int, *, lease: float) -> Renewal | None:
        """Renew the lease; return None if the run was taken over, has ended, or does not exist."""
        ...

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Replace the items up to number `seq` by a snapshot."""
        ...

    async def command(self, run_id: str, command: Command) -> None:
        """Send a command to the run's producer."""
        ...

    async def touch(self, run_id: str) -> None:
        """Record that the run has a reader."""
        ...

    async def read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        """Return what follows number `after`; wait for it for about `seconds`, or not at all if that is 0.

        The end of a run follows its last item. Returns None if the run does not exist; a log may also return an empty
        result then, since `take_over` tells. A log whose producers cannot disappear may wait longer.
        """
        ...

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End a run whose lease has expired, and revoke its epoch; return False if there is no such run.

        A run whose lease has not expired (with `hold`, not long enough ago), or which has ended, is not changed.
        """
        ...

    async def adopt(self, run_id: str, *, lease: float) -> Adopted | None:
        """Continue a run whose lease has expired: revoke its epoch, give a new one, and start a lease.

        Its items, its command and its readers stay. Returns None if there is no such run, it has ended, or its lease
        has not expired; then nothing is changed.
        """
        ...

    async def status(self, run_id: str) -> Status | None:
        """Return the state of the run, None if there is no such run."""
        ...
