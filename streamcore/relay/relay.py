"""Start runs that outlive their readers' connections, read them, and end them, from any worker."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import TaskGroup, TaskStatus

from streamcore.completion import Completion
from streamcore.errors import ConfigError, InvalidRunId, RunNotFound, TooManyRuns
from streamcore.relay.entries import encode_end
from streamcore.relay.log import Command, RunLog, Status
from streamcore.relay.memory import MemoryLog
from streamcore.relay.producer import (
    AT_ONCE,
    CANCELLED,
    STOP_SECONDS,
    AdoptedItems,
    Producer,
    ProducerSettings,
    Source,
)
from streamcore.relay.reader import LOST, Reader, all_items, expired
from streamcore.relay.unfinished import restarts
from streamcore.reports.relay import RunReport
from streamcore.sse import Item
from streamcore.sse.event_id import is_run_id
from streamcore.sse.public import interrupted

log = logging.getLogger("streamcore")

Access = Callable[[str, str], bool | Awaitable[bool]]
"""A function that returns whether a user may read and end a run; called with the run's owner and the user."""


def _same(owner: str, who: str) -> bool:
    return owner == who


class Relay:
    """Produce runs in the background, and give each reader exactly the items that it lacks.

    A run's items are numbered from 1, and stored in the log before a reader sees them. A run ends once, and every
    reader gets that end, late ones too: complete, stopped, or an error. Use the relay as a context manager for the
    lifetime of the service; leaving it ends the runs of this worker, as errors.

    Args:
        log: the store of runs, see `open_log`; None: the memory of this process.
        grace: seconds without a reader after which a run is cancelled; also if it never had one.
        lease: seconds after which readers learn that the run's worker was lost.
        max_runs: how many runs this worker produces at the same time.
        max_per_owner: how many runs of one owner may run at the same time, on all workers; None: no limit. Runs without
            an owner are not counted.
        max_seconds: seconds after which a run is ended as an error, within a second; None: no limit.
        max_items: how many items of a run are stored separately; above that, the older half becomes a snapshot.
        access: returns whether a user may read and end a run; by default, owners their own.
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
        max_seconds: float | None = None,
        access: Access = _same,
    ) -> None:
        if min(grace, lease, 1 if max_seconds is None else max_seconds) <= 0 or max_items < 2:
            raise ConfigError(
                "grace, lease and max_seconds must be above 0 seconds, and max_items at least 2: "
                f"{grace=}, {lease=}, {max_seconds=}, {max_items=}"
            )
        self._log = MemoryLog() if log is None else log
        self._settings = ProducerSettings(grace, lease, max_items, max_seconds)
        self.max_runs = max_runs
        self._max_per_owner = max_per_owner
        self._access = access
        self._producers: dict[str, Producer] = {}
        self._starting = 0  # runs that are counted, but not registered yet
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
            await group.__aexit__(None, None, None)  # not with the error, which the group would wrap

    @property
    def log(self) -> RunLog:
        """The store of runs."""
        return self._log

    @property
    def grace(self) -> float:
        """The seconds without a reader after which a run is cancelled."""
        return self._settings.grace

    @property
    def running(self) -> int:
        """The number of runs that this worker produces now, or is about to."""
        return len(self._producers) + self._starting

    async def start(
        self,
        run_id: str,
        source: Source,
        *,
        owner: str = "",
        thread: str | None = None,
        client: str | None = None,
        max_per_client: int | None = None,
    ) -> None:
        """Start a run of a source, which the relay closes; return when the run is registered, before its first item.

        Args:
            run_id: the run's name on all workers, 1 to 64 characters of A-Z a-z 0-9 _ ~ -; choose one that cannot
                guess.
            source: a `Stream`, the events of a graph, any async iterable of chunks, tokens or events, or a function
                (plain or async) that returns one. Its `stop`, if it has one, is called to stop it. Its `partial`, if
                that is a `Completion`, is given to the run's readers at the end.
            owner: the user who owns the run.
            thread: a conversation, which has at most one running run, on all workers; see `latest`.
            client: who the run is counted for if it has no owner, as an address.
            max_per_client: how many runs of that client may run at the same time, on all workers; None: no limit.

        Raises:
            InvalidRunId: the name has other characters, or too many; the source was not touched.
            RunExists: there is a run of that name, running or ended, or the thread's newest run has not ended; the
                source was not touched.
            TooManyRuns: `max_runs`, `max_per_owner` or `max_per_client` is reached; the source was not touched.
            RelayError: the log cannot be reached.
            ConfigError: the relay is not open.
        """
        if self._group is None:
            raise _not_open()
        if not is_run_id(run_id):
            raise _invalid(run_id)
        if self.running >= self.max_runs:
            raise TooManyRuns(f"at most {self.max_runs} answers may run at once; try again later")
        report = RunReport(run_id)
        self._starting += 1  # before the first await, so that a burst of starts cannot exceed the limit
        try:
            trace = report.begin(owner, thread)
            epoch = await self._register(run_id, owner, thread, None if owner else client, max_per_client, trace)
            producer = self._producers[run_id] = Producer(self._log, run_id, epoch, source, self._settings, report)
        except Exception as error:
            report.ended(error, None, 0, stopped=False)
            raise
        finally:
            self._starting -= 1
        try:
            await self._group.start(self._produce, run_id, producer)  # a task that has not begun could write no end
        except BaseException as error:
            self._producers.pop(run_id, None)  # the task may have been cancelled before its first step
            report.ended(error, None, 0, stopped=False)
            raise

    async def reserve(
        self,
        run_id: str,
        *,
        owner: str = "",
        thread: str | None = None,
        hold: float,
        limit: int | None = None,
        client: str | None = None,
    ) -> int:
        """Open a run that another call, on any worker, produces with `adopt`; return its epoch.

        For `hold` seconds its readers wait, and no other run of its thread can start; then they get its end. `limit` is
        for how many runs of the owner, or of the `client`, workers may produce at the same time; see `RunLog.start`.

        Raises:
            InvalidRunId, RunExists, TooManyRuns, RelayError: see `start`.
        """
        if not is_run_id(run_id):
            raise _invalid(run_id)
        newest = None if thread is None else await self._log.latest(thread)
        if newest is not None:
            await self._log.take_over(newest, LOST)
        more: dict[str, Any] = {} if limit is None else {"limit": limit, "client": client}
        if trace := RunReport(run_id).reserved():
            more["trace"] = trace
        return await self._log.start(run_id, owner, lease=AT_ONCE, thread=thread, hold=hold, **more)

    async def adopt(
        self,
        run_id: str,
        source: Callable[[list[Item]], Source | Awaitable[Source]],
        *,
        max_seconds: float | None = None,
    ) -> Producer | None:
        """Continue a run that was reserved, or whose worker was lost, and return its producer.

        What its last worker left unfinished is voided by `restart`; readers stay connected. The run has no `grace`.
        If this relay is closed, or `hand_over` of the producer is called, the run waits for another worker.

        Args:
            run_id: the run's name.
            source: a function (plain or async) that gets the run's items so far and returns the source of the rest.
            max_seconds: seconds from now after which the run is ended as an error; defaults to the relay's.

        Returns:
            None if there is no such run, it has ended, or its worker is alive.

        Raises:
            ConfigError: the relay is not open, or the run has plain tokens, which cannot be voided.
            RelayError: the log cannot be reached.
        """
        if self._group is None:
            raise _not_open()
        settings = replace(self._settings, grace=math.inf, max_seconds=max_seconds or self._settings.max_seconds)
        adopted = await self._log.adopt(run_id, lease=settings.log_lease)
        if adopted is None:
            return None
        status = await self._log.status(run_id)
        items = await all_items(self._log, run_id, adopted.seq)
        stored = adopted.seq + 1 - (status.first if status else 1)
        before = AdoptedItems(adopted.seq, stored, restarts(items))

        async def opened() -> Any:
            found = source(items)
            found = await found if inspect.isawaitable(found) else found
            return found() if callable(found) else found

        report = RunReport(run_id)
        owner, trace = ("", "") if status is None else (status.owner, status.trace)
        report.begin(owner, None, trace)
        producer = Producer(self._log, run_id, adopted.epoch, opened, settings, report, before)
        self._producers[run_id] = producer
        try:
            await self._group.start(self._produce, run_id, producer)
        except BaseException:
            self._producers.pop(run_id, None)
            raise
        return producer

    async def _register(
        self, run_id: str, owner: str, thread: str | None, client: str | None, max_per_client: int | None, trace: str
    ) -> int:
        """Open the run in the log, and return its epoch."""
        newest = None if thread is None else await self._log.latest(thread)
        if newest is not None:
            await self._log.take_over(newest, LOST)  # a lost run must not continue beside this one
        facts: dict[str, Any] = {"lease": self._settings.log_lease, "thread": thread}
        if trace:  # a log that is older than this argument is not given it
            facts["trace"] = trace
        if client is not None and max_per_client is not None:
            return await self._log.start(run_id, owner, limit=max_per_client, client=client, **facts)
        return await self._log.start(run_id, owner, limit=self._max_per_owner if owner else None, **facts)

    async def _produce(self, run_id: str, producer: Producer, *, task_status: TaskStatus[None]) -> None:
        try:
            task_status.started()
            await producer.run()
        except Exception:  # the outermost edge: one run must not end the others
            log.exception("run %r failed", run_id)
        finally:
            self._producers.pop(run_id, None)

    def read(self, run_id: str, after: int | None = None, *, who: str = "") -> Reader:
        """Return a reader of the items after number `after`, to the run's end.

        Nothing happens before its first iteration. It yields the items as they were. Where they are no longer stored
        separately, it first yields `{"type": "gap", "seq": ..., "items": [...]}`, whose items have the content of all
        items up to number `seq`. At the end it stops, or raises the error that ended the run.

        Args:
            run_id: the run's name.
            after: the number of the last item that the reader has; None for a new reader.
            who: who reads, for `access`.

        Raises:
            RunNotFound: there is no such run for a new reader.
            RunExpired: there is no such run, but the reader has a part of it.
            RelayError: the log cannot be reached.
        """

        async def check() -> Status:
            status = await self._find(run_id, who)
            if status is None:
                raise _unknown(run_id) if after is None else expired(run_id)
            return status

        return Reader(self._log, run_id, after, check, self._settings.renew_every, lambda: self._continues(run_id))

    def _continues(self, run_id: str) -> bool:
        """Return whether a run goes on if this process ends."""
        producer = self._producers.get(run_id)
        return producer is None or (producer.hands_over and not isinstance(self._log, MemoryLog))

    async def keep(self, run_id: str) -> None:
        """Record that a run has a reader, so that it is not cancelled after `grace` seconds without one.

        Raises:
            RelayError: the log cannot be reached.
        """
        await self._log.touch(run_id)

    async def latest(self, thread: str, *, who: str = "") -> str | None:
        """Return the name of a thread's newest run; None if there is none, it has expired, or belongs to another user.

        Raises:
            RelayError: the log cannot be reached.
        """
        newest = await self._log.latest(thread)
        return None if newest is None or await self._find(newest, who) is None else newest

    async def status(self, run_id: str, *, who: str = "") -> Status:
        """Return the state of a run.

        Raises:
            RunNotFound: this user has no such run.
            RelayError: the log cannot be reached.
        """
        status = await self._find(run_id, who)
        if status is None:
            raise _unknown(run_id)
        return status

    async def stop(self, run_id: str, *, who: str = "") -> bool:
        """End a run as complete up to here, on whichever worker it runs; its readers get its end.

        Returns:
            True when the end is written and the vendor's response is closed; False if the run had ended before, or
            does not end within a few seconds.

        Raises:
            RunNotFound: this user has no such run.
            RelayError: the log cannot be reached.
        """
        return await self._end(run_id, who, "stop")

    async def cancel(self, run_id: str, *, who: str = "") -> bool:
        """End a run as an error, at once; otherwise like `stop`."""
        return await self._end(run_id, who, "cancel")

    async def _end(self, run_id: str, who: str, command: Command) -> bool:
        status = await self.status(run_id, who=who)
        if status.state == "ended":
            return False
        producer = self._producers.get(run_id)
        with anyio.move_on_after(STOP_SECONDS + 1):
            if producer is not None:
                await producer.end(command)
                await producer.over.wait()
                return True
            if status.state == "lost" and await self._end_lost(run_id, command):
                return True
            await self._log.command(run_id, command)
            after = status.seq
            while (result := await self._log.read(run_id, after, self._settings.renew_every)) is not None:
                if result.end is not None or await self._end_lost(run_id, command):
                    return True
                after = result.seq
        return False

    async def _end_lost(self, run_id: str, command: Command) -> bool:
        """End a run here that no worker produces for the moment; return False if one does."""
        adopted = await self._log.adopt(run_id, lease=self._settings.log_lease)
        if adopted is None:
            return False
        end = encode_end(interrupted(CANCELLED) if command == "cancel" else None, Completion())
        lease = self._settings.log_lease
        return await self._log.append(run_id, adopted.epoch, adopted.seq, [], end, lease=lease)

    async def _find(self, run_id: str, who: str) -> Status | None:
        """Return the state of a run, None if there is none that this user may read."""
        status = await self._log.status(run_id)
        if status is None:
            return None
        allowed = self._access(status.owner, who)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        return status if allowed else None


def _not_open() -> ConfigError:
    return ConfigError("the relay is not open; use it inside `async with Relay(...)`, in the service's lifespan")


def _invalid(run_id: str) -> InvalidRunId:
    return InvalidRunId(f"the name of a run must be 1 to 64 characters of A-Z a-z 0-9 _ ~ -, not {run_id[:80]!r}")


def _unknown(run_id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {run_id!r}")
