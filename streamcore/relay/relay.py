"""Start runs that outlive their readers' connections, read them, and end them, from any worker."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamcore.errors import ConfigError, RunNotFound, TooManyRuns
from streamcore.relay.log import RunLog, Status, Wish
from streamcore.relay.memory import MemoryLog
from streamcore.relay.producer import STOP_SECONDS, Producer, ProducerSettings, Source
from streamcore.relay.reader import LOST, Reader, expired

log = logging.getLogger("streamcore")

Access = Callable[[str, str], bool | Awaitable[bool]]
"""Whether somebody may read and end a run: called with the run's owner and with who wants to."""


def _same(owner: str, who: str) -> bool:
    return owner == who


class Relay:
    """Produce runs in the background, and give each reader exactly what it lacks.

    A run's items are written to the log before any reader sees them, and numbered from 1. It ends once, with one end
    that every reader gets, late ones too: well, stopped, or as an error. Use it as a context manager for as long as
    the service lives; leaving it ends the runs of this worker, as errors.

    Args:
        log: where runs are kept; None: in the memory of this process (see `open_log`).
        grace: seconds without a reader after which a run is cancelled; also if none ever came.
        lease: seconds after which the readers of a worker that has vanished are told.
        max_runs: how many runs this worker produces at the same time.
        max_per_owner: how many runs of one owner may go on at the same time, on all workers; None: any number.
        max_items: how many items of a run are kept one by one; when there are more, the older half becomes a snapshot.
        access: who may read and end whose runs; without, owners their own.
    """

    def __init__(
        self,
        log: RunLog | None = None,
        *,
        grace: float = 60.0,
        lease: float = 10.0,
        max_runs: int = 1000,
        max_per_owner: int | None = None,
        max_items: int = 20_000,
        access: Access = _same,
    ) -> None:
        if min(grace, lease) <= 0 or max_items < 2:
            raise ConfigError(f"grace and lease are seconds above 0, max_items at least 2: {grace=}, {lease=}")
        self._log = MemoryLog() if log is None else log
        self._settings = ProducerSettings(grace, lease, max_items)
        self.max_runs = max_runs
        self._max_per_owner = max_per_owner
        self._access = access
        self._producers: dict[str, Producer] = {}
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
            await group.__aexit__(None, None, None)  # the block's own error goes on as it is, not in a group

    @property
    def running(self) -> int:
        """How many runs this worker produces now."""
        return len(self._producers)

    async def start(self, run_id: str, source: Source, *, owner: str = "", thread: str | None = None) -> None:
        """Produce a run from a source, which the relay closes; return once its name is taken, nothing having come.

        Args:
            run_id: the run's name, for all workers; best one that nobody can guess.
            source: a `Stream`, the events of a graph, any async iterable of chunks, tokens or events, or a function
                (plain or async) that returns one. If it has a `stop`, that is how it is stopped; if it has `partial`,
                a `Completion`, the run's readers get that at its end.
            owner: whose run it is.
            thread: a conversation, of which one run at most goes on at a time, on all workers; see `latest`.

        Raises:
            RunExists: there is a run of that name, going on or ended, or the thread's newest run goes on; the source
                was not touched.
            TooManyRuns: `max_runs` or `max_per_owner` are going on; the source was not touched.
            RelayError: the log cannot be reached.
            ConfigError: the relay is not open.
        """
        if self._group is None:
            raise ConfigError("a relay runs inside `async with Relay(...)`; open it in the service's lifespan")
        if len(self._producers) >= self.max_runs:
            raise TooManyRuns(f"{self.max_runs} answers are on their way, and that is as many as may be; wait")
        newest = None if thread is None else await self._log.latest(thread)
        if newest is not None:
            await self._log.take_over(newest, LOST)  # if it is lost it must not wake up beside this one
        epoch = await self._log.start(
            run_id, owner, lease=self._settings.held, limit=self._max_per_owner, thread=thread
        )
        producer = self._producers[run_id] = Producer(self._log, run_id, epoch, source, self._settings)
        await self._group.start(self._produce, run_id, producer)  # a task that has not begun could not write an end

    async def _produce(self, run_id: str, producer: Producer, *, task_status: TaskStatus[None]) -> None:
        try:
            task_status.started()
            await producer.run()
        except Exception:  # the outermost edge: one run must not end the others
            log.exception("run %r failed", run_id)
        finally:
            del self._producers[run_id]

    def read(self, run_id: str, after: int | None = None, *, who: str = "") -> Reader:
        """Return a reader of what stands behind item number `after`, and of all that comes, to the run's end.

        Nothing happens before its first iteration. It yields the items as they were; where they are no longer there
        one by one, first `{"type": "gap", "seq": ..., "items": [...]}`, whose items say the same as all up to number
        `seq`. Then it ends, or raises the error that the run ended in.

        Args:
            run_id: the run's name.
            after: the number of the last item that the reader has; None for who reads for the first time.
            who: who reads, for `access`.

        Raises:
            RunNotFound: there is no such run for this reader (who gave no `after`).
            RunExpired: there was one, since the reader has some of it.
            RelayError: the log cannot be reached.
        """

        async def check() -> Status:
            status = await self._find(run_id, who)
            if status is None:
                raise _unknown(run_id) if after is None else expired(run_id)
            return status

        return Reader(self._log, run_id, after, check, self._settings.beat, lambda: run_id not in self._producers)

    async def latest(self, thread: str, *, who: str = "") -> str | None:
        """Return the name of a thread's newest run; None if there is none, it has expired, or is somebody else's.

        Raises:
            RelayError: the log cannot be reached.
        """
        newest = await self._log.latest(thread)
        return None if newest is None or await self._find(newest, who) is None else newest

    async def status(self, run_id: str, *, who: str = "") -> Status:
        """Tell where a run stands.

        Raises:
            RunNotFound: there is no such run for whoever asks.
            RelayError: the log cannot be reached.
        """
        status = await self._find(run_id, who)
        if status is None:
            raise _unknown(run_id)
        return status

    async def stop(self, run_id: str, *, who: str = "") -> bool:
        """End a run well, with what there is, whichever worker produces it; its readers see its end.

        Returns when the end is written and the vendor's response closed; False if it had ended before, or if that
        takes longer than some seconds.

        Raises:
            RunNotFound: there is no such run for whoever asks.
            RelayError: the log cannot be reached.
        """
        return await self._end(run_id, who, "stop")

    async def cancel(self, run_id: str, *, who: str = "") -> bool:
        """End a run as an error, at once. The rest is as with `stop`."""
        return await self._end(run_id, who, "cancel")

    async def _end(self, run_id: str, who: str, wish: Wish) -> bool:
        status = await self.status(run_id, who=who)
        if status.state == "ended":
            return False
        producer = self._producers.get(run_id)
        with anyio.move_on_after(STOP_SECONDS + 1):
            if producer is not None:
                await producer.end(wish)
                await producer.over.wait()
                return True
            await self._log.wish(run_id, wish)
            after = status.seq
            while (found := await self._log.read(run_id, after, self._settings.beat)) is not None:
                if found.end is not None:
                    return True
                after = found.seq
        return False

    async def _find(self, run_id: str, who: str) -> Status | None:
        """Return where a run stands, None if there is none, or if it is no business of theirs."""
        status = await self._log.status(run_id)
        if status is None:
            return None
        allowed = self._access(status.owner, who)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        return status if allowed else None


def _unknown(run_id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id!r}")
