"""Show other workers that this one is alive: a lease in the relay's log, as runs have."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import anyio

from streamcore.errors import ConfigError, RelayError, RunExists
from streamcore.relay import MemoryLog, RunLog
from streamcore.relay.entries import encode_end

PREFIX = "worker-"


class WorkerLease:
    """The lease of one worker.

    Args:
        log: the relay's log.
        worker: the worker's name.
        lease: seconds after which a worker that does not renew it is lost.
    """

    def __init__(self, log: RunLog, worker: str, lease: float) -> None:
        self._log = log
        self._worker = worker
        self._seconds = lease * 0.6  # as of runs, so that others notice within `lease`
        self._name = _name(worker)
        self._epoch = 0

    async def begin(self) -> None:
        """Begin the lease."""
        with suppress(RunExists):
            self._epoch = await self._log.start(self._name, "", lease=self._seconds)

    async def renew(self) -> None:
        """Renew the lease; begin it anew if the log has lost it."""
        if await self._log.renew(self._name, self._epoch, lease=self._seconds) is None:
            await self.begin()

    async def end(self) -> None:
        """End the lease: the worker is no longer there."""
        with suppress(RelayError), anyio.CancelScope(shield=True):
            await self._log.append(self._name, self._epoch, 0, [], encode_end(None, None), lease=1.0)

    async def is_lost(self, worker: str) -> bool:
        """Return whether another worker is lost."""
        status = await self._log.status(_name(worker))
        return status is None or status.state != "running"

    @contextmanager
    def alone(self, database: str | None) -> Generator[None]:
        """Refuse a second worker on an SQLite database if the log is in memory, where leases of others are not seen."""
        if database is None or not isinstance(self._log, MemoryLog):
            yield
            return
        try:
            import fcntl
        except ModuleNotFoundError:  # not on this system
            yield
            return
        with Path(f"{database}.lock").open("a") as file:
            _lock(fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB, file, database)
            yield


def _lock(flock: object, how: int, file: IO[str], database: str) -> None:
    try:
        flock(file, how)  # type: ignore[operator]
    except OSError as error:
        raise ConfigError(
            f"another worker uses the database {database!r}; several workers need a relay that they share, as "
            "relay='redis://host:6379/0' (--relay)"
        ) from error


def _name(worker: str) -> str:
    """Return the name of a worker's lease among the runs."""
    return PREFIX + "".join(one if one.isascii() and one.isalnum() else "-" for one in worker)[-50:]
