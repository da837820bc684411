"""Run graphs that outlive their machine: start, read, resume and end them from any worker."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio

from streamcore.checkpoints import Checkpointer
from streamcore.durable.continuation import Segment
from streamcore.durable.engine import Engine, Job, Queue
from streamcore.durable.graphs import Graphs, open_threads
from streamcore.durable.outcome import outcome
from streamcore.durable.status import RunState, RunStatus, split_name
from streamcore.durable.worker import Worker
from streamcore.durable.worker_lease import WorkerLease
from streamcore.errors import ConfigError, InvalidRunId, RelayError, RunExists, RunNotFound
from streamcore.graph.config import Config
from streamcore.graph.load import Graph
from streamcore.graph.thread import as_json_data
from streamcore.relay import MemoryLog, Reader, Relay, RunLog, open_log
from streamcore.relay.entries import encode_end
from streamcore.sse.public import interrupted

DEFAULT_QUEUE = "default"
QUEUE_PREFIX = "streamcore-"
ANY_VERSION = "any"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,56}")


class DurableRuns:
    """Graphs whose runs go on when their worker is lost, and whose events any worker can read.

    The engine records that a run goes on, the thread's checkpoint where it goes on, and the relay has its events. Use
    it as a context manager for the lifetime of the service; leaving it hands the runs of this worker to the others. It
    needs asyncio.

    Args:
        database: `sqlite:///runs.db` or `postgresql://...`, for DBOS; or another engine.
        graphs: the graphs, or the paths of their files; their names must differ.
        relay: the store of events: a URL (`redis://...`), a log, or an open `Relay`. Workers on several machines need
            one that they share; None is the memory of this process.
        checkpointer: the store of threads. Defaults to the same database: for `sqlite:///runs.db`, the file
            `runs-threads.db`.
        config: provider, model and other settings for every run, see `stream_graph_with_tokens`.
        queues: limits by name. A run is in the queue of its provider's name if there is one, else in `default`.
        versions: what happens to runs that began with other graph or prompt files: `finish` continues them with the new
            ones; `refuse` leaves them to workers that have the old ones.
        work: False only starts, reads and ends runs, and executes none here.
        hold: for how many seconds readers wait for a worker if there is none; then they get an error.
        lease: seconds after which a worker that does not answer is lost.

    Raises:
        ConfigError: a setting is not valid, or a package is missing.
    """

    def __init__(
        self,
        *,
        database: str | Engine,
        graphs: Sequence[Graph | str | Path] = (),
        relay: Relay | RunLog | str | None = None,
        checkpointer: Checkpointer | Mapping[str, Any] | str | None = None,
        config: Config | Mapping[str, Any] | None = None,
        queues: Mapping[str, Queue] | None = None,
        versions: Literal["finish", "refuse"] = "finish",
        work: bool = True,
        hold: float = 86_400.0,
        lease: float = 10.0,
    ) -> None:
        if versions not in ("finish", "refuse"):
            raise ConfigError(f"versions= must be 'finish' or 'refuse', not {versions!r}")
        self._engine = _engine(database)
        self._queues = {DEFAULT_QUEUE: Queue(), **(queues or {})}
        self._own_relay = not isinstance(relay, Relay)
        self._relay = relay if isinstance(relay, Relay) else _relay(relay, lease)
        if isinstance(database, str) and database.startswith("postgres") and isinstance(self._relay.log, MemoryLog):
            raise ConfigError(
                "durable runs in PostgreSQL need a relay that all workers share, as relay='redis://host:6379/0' "
                "(--relay)"
            )
        self._file = database.removeprefix("sqlite:///") if isinstance(database, str) else None
        own = Config.of(config)
        store = checkpointer if checkpointer is not None else own.checkpointer
        self._graphs = Graphs(graphs, replace(own, checkpointer=open_threads(store, database)))
        self._version = ANY_VERSION if versions == "finish" else self._graphs.fingerprint()
        self._works = work
        self._hold = hold
        self._name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._lease = WorkerLease(self._relay.log, self._name, lease)
        self._worker = Worker(
            self._name,
            self._engine,
            self._relay,
            self._graphs,
            self._lease,
            sweep_seconds=min(1.0, lease / 4),
            hold=hold,
        )
        self._stack = AsyncExitStack()

    @property
    def relay(self) -> Relay:
        """The relay that has the events of the runs."""
        return self._relay

    @property
    def worker(self) -> str:
        """The name of this worker, as in `RunStatus.worker`."""
        return self._name

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._own_relay:
                await stack.enter_async_context(self._relay)
            if self._works:
                stack.enter_context(self._lease.alone(self._file))
                await self._lease.begin()
                stack.push_async_callback(self._lease.end)
            queues = {QUEUE_PREFIX + name: queue for name, queue in self._queues.items()}
            execute = self._worker.execute if self._works else None
            await self._engine.open(execute, queues, self._name, self._version)
            stack.push_async_callback(self._engine.aclose)
            if self._works:
                group = await stack.enter_async_context(anyio.create_task_group())
                group.start_soon(self._worker.sweep)
                stack.push_async_callback(self._worker.hand_over, group)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def start(
        self,
        graph: str,
        state: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        thread_id: str | None = None,
        owner: str = "",
        queue: str | None = None,
    ) -> str:
        """Submit a run of a graph, and return its name; from then on it can be read, and goes on without this process.

        Args:
            graph: the graph's name.
            state: plain JSON; its keys override those of the thread's saved state.
            run_id: the run's name, 1 to 56 characters of A-Z a-z 0-9 _ -; defaults to one that cannot be guessed.
            thread_id: the conversation to continue; defaults to a new one, with the run's name.
            owner: the user who owns the run.
            queue: the queue; defaults to that of the run's provider.

        Raises:
            ConfigError: there is no such graph or queue, or `state` is not JSON.
            RunExists: there is a run of that name, or the conversation has one that has not ended.
            DurableError, RelayError, CheckpointError: a store cannot be reached.
        """
        name = secrets.token_urlsafe(12).replace("~", "-") if run_id is None else run_id
        if not _NAME.fullmatch(name):
            raise InvalidRunId(f"the name of a run must be 1 to 56 characters of A-Z a-z 0-9 _ -, not {name[:80]!r}")
        if await self._engine.find(names=[name], limit=1):
            raise RunExists(f"run {name!r} exists already; read it, or start a run with another name")
        segment = Segment(graph, thread_id or name, as_json_data(state or {}, "state"), owner=owner)
        await self._submit(name, segment, queue)
        return name

    async def resume(self, run_id: str, answer: Any, *, who: str = "") -> str:
        """Answer the question that a run waits for, and return the name of the segment that goes on.

        Raises:
            RunNotFound: this user has no such run.
            RunExists: the question was answered already.
            ConfigError: the run waits for no answer, or the answer is not JSON.
            DurableError, RelayError, CheckpointError: a store cannot be reached.
        """
        job = await self._settled(await self._last(run_id, who))
        before = Segment(**job.data)
        status = RunStatus.of(job)
        if status.state != "waiting":
            raise ConfigError(f"run {run_id!r} waits for no answer; its state is {status.state!r}")
        if (await self._graphs.thread(before)).asked is None:
            raise RunExists(f"the question of run {run_id!r} was answered already; read the run")
        given = as_json_data({"answer": answer}, "the answer")["answer"]
        name = f"{status.run}~{status.segment + 1}"
        await self._submit(
            name, replace(before, state={}, resume=given, first=()), job.queue.removeprefix(QUEUE_PREFIX)
        )
        return name

    async def read(self, run_id: str, after: int | None = None, *, who: str = "") -> Reader:
        """Return a reader of a run's last segment, from the item after number `after` to its end or its next question.

        With the name of a segment (`run~2`) it needs no engine. See `Relay.read`.

        Raises:
            RunNotFound: this user has no such run.
        """
        name = run_id if "~" in run_id else (await self._last(run_id, who)).name
        return self._relay.read(name, after, who=who)

    async def stop(self, run_id: str, *, who: str = "") -> bool:
        """End a run as complete up to here, on whichever worker it runs, or before it began.

        Returns:
            True when its end is written; False if it had ended before, or does not end within a few seconds.

        Raises:
            RunNotFound: this user has no such run.
        """
        return await self._end((await self._last(run_id, who)).name, who, "stop")

    async def cancel(self, run_id: str, *, who: str = "") -> bool:
        """End a run as an error; otherwise like `stop`. A run that waits for an answer no longer takes one."""
        name = (await self._last(run_id, who)).name
        ended = await self._end(name, who, "cancel")
        await self._engine.cancel(name)
        return ended

    async def status(self, run_id: str, *, who: str = "") -> RunStatus:
        """Return what is known of a run. Once a reader has seen its end or its question, the state is that one.

        Raises:
            RunNotFound: this user has no such run.
            CheckpointError: the store of threads cannot be reached.
        """
        job = await self._last(run_id, who)
        try:
            return RunStatus.of(await self._settled(job))
        except RelayError:  # the engine knows enough
            return RunStatus.of(job)

    async def list(
        self, *, state: RunState | None = None, owner: str | None = None, limit: int = 100
    ) -> list[RunStatus]:
        """Return the runs that were submitted last, the newest first, by their last segments; see `status`.

        Args:
            state: only runs in this state.
            owner: only runs of this user; None: those of all.
            limit: how many runs at most.

        Raises:
            CheckpointError: the store of threads cannot be reached.
        """
        last: dict[str, Job] = {}
        for job in await self._engine.find(limit=10 * limit):
            run, segment = split_name(job.name)
            if owner not in (None, str(job.data.get("owner", ""))):
                continue
            if run not in last or split_name(last[run].name)[1] < segment:
                last[run] = job
        found: list[RunStatus] = []
        ask = True
        for job in last.values():
            if len(found) == limit:
                break
            try:
                status = RunStatus.of(await self._settled(job) if ask else job)
            except RelayError:
                ask, status = False, RunStatus.of(job)
            if state in (None, status.state):
                found.append(status)
        return found

    async def submit(self, name: str, segment: Segment, *, limit: int | None = None, client: str | None = None) -> None:
        """Submit one segment under a given name, for services that name their runs themselves; see `start`.

        `segment.version` and `segment.counts` are set here. `limit` is for how many runs of the owner, or of the
        `client`, workers may produce at the same time.

        Raises:
            TooManyRuns: the limit is reached.
        """
        await self._submit(name, segment, None, limit=limit, client=client)

    async def _submit(
        self, name: str, segment: Segment, queue: str | None, *, limit: int | None = None, client: str | None = None
    ) -> None:
        graph = self._graphs.find(segment.graph)
        queue = queue or self._queue_of(graph)
        if queue not in self._queues:
            raise ConfigError(f"there is no queue {queue!r}; there are {', '.join(map(repr, self._queues))}")
        key = segment.key or f"{segment.graph}/{segment.thread}"
        epoch = await self._relay.reserve(
            name, owner=segment.owner, thread=key, hold=self._hold, limit=limit, client=client
        )
        try:
            # The thread is read once no other run of it can change it.
            thread = await self._graphs.thread(segment)
            counts = dict(thread.counts) if thread.next or thread.asked is not None else {}
            segment = replace(segment, key=key, version=thread.version, counts=counts)
            await self._engine.submit(name, asdict(segment), QUEUE_PREFIX + queue, self._version)
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                end = encode_end(interrupted(f"the run was not submitted: {error}"), None)
                await self._relay.log.append(name, epoch, 0, [], end, lease=1.0)
            raise

    async def _last(self, run_id: str, who: str) -> Job:
        """Return the job of a run's last segment."""
        base = run_id.partition("~")[0]
        jobs = [*await self._engine.find(names=[base], limit=1), *await self._engine.find(prefix=f"{base}~")]
        if not jobs or jobs[0].data.get("owner", "") != who:
            raise RunNotFound(f"there is no run {run_id!r}")
        return max(jobs, key=lambda job: split_name(job.name)[1])

    async def _settled(self, job: Job) -> Job:
        """Return the job with its result if its log has ended, which its readers see before the engine knows it."""
        segment = Segment(**job.data)
        if job.state not in ("queued", "running") or segment.graph not in self._graphs:
            return job
        status = await self._relay.log.status(job.name)
        if status is None or status.state != "ended":
            return job
        result = await outcome(self._relay.log, self._graphs, job.name, status.seq, segment)
        return replace(job, state="done", result=result)

    async def _end(self, name: str, who: str, command: Literal["stop", "cancel"]) -> bool:
        try:
            return await (self._relay.stop if command == "stop" else self._relay.cancel)(name, who=who)
        except RunNotFound:  # its events have expired
            return False

    def _queue_of(self, graph: Graph) -> str:
        chosen = self._graphs.provider(graph)
        return chosen if chosen in self._queues else DEFAULT_QUEUE


def _engine(database: str | Engine) -> Engine:
    if not isinstance(database, str):
        return database
    from streamcore.durable.dbos_engine import DBOSEngine

    return DBOSEngine(database)


def _relay(given: RunLog | str | None, lease: float) -> Relay:
    return Relay(open_log(given) if isinstance(given, str | None) else given, lease=lease, max_runs=1_000_000)
