"""Run graphs that outlive their machine: start, read, resume and end them from any worker."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import anyio
from anyio.abc import TaskGroup

from streamcore.checkpoints import Checkpointer, open_checkpointer
from streamcore.completion import Completion
from streamcore.durable.continuation import Segment, events
from streamcore.durable.engine import Engine, Job, Queue
from streamcore.durable.worker_lease import WorkerLease
from streamcore.errors import (
    ConfigError,
    DurableError,
    InvalidRunId,
    RelayError,
    RunExists,
    RunNotFound,
)
from streamcore.graph.config import Config
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.thread import Thread, as_json_data
from streamcore.graph.variables import paths_of
from streamcore.relay import MemoryLog, Reader, Relay, RunLog, open_log
from streamcore.relay.entries import decode_end, encode_end
from streamcore.relay.producer import CANCELLED, Producer
from streamcore.sse import Item
from streamcore.sse.public import interrupted

log = logging.getLogger("streamcore")

RunState = Literal["queued", "running", "waiting", "done", "stopped", "failed", "cancelled"]

DEFAULT_QUEUE = "default"
QUEUE_PREFIX = "streamcore-"
ANY_VERSION = "any"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,56}")


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What is known of a run.

    Attributes:
        run: the run's name.
        graph: the graph's name.
        state: `queued`, `running`, `waiting` for the answer to `question`, `done`, `stopped`, `failed` or `cancelled`.
        segment: the stretch of the run that this describes, from 1; each answer begins another one.
        owner: the user who owns the run.
        question: `node`, `message` and `resume_key` of the question that the run waits for.
        error: why it failed.
        created: when the segment was submitted, in seconds since 1970.
        updated: when its state changed last.
        worker: the worker that began it last.
    """

    run: str
    graph: str
    state: RunState
    segment: int
    owner: str = ""
    question: Mapping[str, Any] | None = None
    error: str | None = None
    created: float = 0.0
    updated: float = 0.0
    worker: str | None = None


class DurableRuns:
    """Graphs whose runs go on when their worker is lost, and whose events any worker can read.

    An engine remembers that a run goes on, the thread's checkpoint where, and the relay has its events. Use it as a
    context manager for the lifetime of the service; leaving it hands the runs of this worker to the others. It needs
    asyncio.

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
        loaded = [one if isinstance(one, Graph) else load_graph(one) for one in graphs]
        self._graphs = {graph.name: graph for graph in loaded}
        if len(self._graphs) < len(loaded):
            raise ConfigError("two of the graphs have the same name; rename one")
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
        self._config = replace(own, checkpointer=_threads(store, database))
        self._version = ANY_VERSION if versions == "finish" else _fingerprint(loaded)
        self._works = work
        self._hold = hold
        self._worker = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._lease = WorkerLease(self._relay.log, self._worker, lease)
        self._sweep_seconds = min(1.0, lease / 4)
        self._stack = AsyncExitStack()
        self._producers: set[Producer] = set()
        self._closing = False
        self._lost: set[str] = set()  # workers that were reported

    @property
    def relay(self) -> Relay:
        """The relay that has the events of the runs."""
        return self._relay

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._own_relay:
                await stack.enter_async_context(self._relay)
            if self._works:
                stack.enter_context(self._lease.alone(self._file))
                await self._lease.begin()
                stack.push_async_callback(self._lease.end)
            queues = {QUEUE_PREFIX + name: queue for name, queue in self._queues.items()}
            await self._engine.open(self._execute if self._works else None, queues, self._worker, self._version)
            stack.push_async_callback(self._engine.aclose)
            if self._works:
                group = await stack.enter_async_context(anyio.create_task_group())
                group.start_soon(self._sweep)
                stack.push_async_callback(self._hand_over, group)
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
        found = self._graph(graph)
        thread = await Thread.open(found, self._of(thread_id or name))
        counts = thread.counts if thread.next or thread.asked is not None else {}
        segment = Segment(
            found.name, thread_id or name, as_json_data(state or {}, "state"), version=thread.version, counts=counts
        )
        await self._submit(name, replace(segment, owner=owner), queue or self._queue_of(found))
        return name

    async def resume(self, run_id: str, answer: Any, *, who: str = "") -> str:
        """Answer the question that a run waits for, and return the name of the segment that goes on.

        Raises:
            RunNotFound: this user has no such run.
            RunExists: the question was answered already.
            ConfigError: the run waits for no answer, or the answer is not JSON.
            DurableError, RelayError, CheckpointError: a store cannot be reached.
        """
        job = await self._last(run_id, who)
        before = Segment(**job.data)
        status = _status(job)
        if status.state != "waiting":
            raise ConfigError(f"run {run_id!r} waits for no answer; its state is {status.state!r}")
        graph = self._graph(before.graph)
        thread = await Thread.open(graph, self._of(before.thread))
        if thread.asked is None:
            raise RunExists(f"the question of run {run_id!r} was answered already; read the run")
        given = as_json_data({"answer": answer}, "the answer")["answer"]
        segment = replace(before, state={}, resume=given, version=thread.version, counts=dict(thread.counts))
        name = f"{status.run}~{status.segment + 1}"
        await self._submit(name, segment, job.queue.removeprefix(QUEUE_PREFIX))
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
        """Return what is known of a run.

        Raises:
            RunNotFound: this user has no such run.
        """
        return _status(await self._last(run_id, who))

    async def list(self, *, state: RunState | None = None, limit: int = 100) -> list[RunStatus]:
        """Return the runs that were submitted last, the newest first, by their last segments."""
        found: dict[str, RunStatus] = {}
        for job in await self._engine.find(limit=10 * limit):
            status = _status(job)
            known = found.get(status.run)
            if known is None or known.segment < status.segment:
                found[status.run] = status
        return [status for status in found.values() if state in (None, status.state)][:limit]

    async def submit(
        self,
        name: str,
        graph: str,
        thread_id: str,
        state: Mapping[str, Any],
        *,
        resume: Any = None,
        owner: str = "",
    ) -> None:
        """Submit one segment under a given name, for services that name their runs themselves; see `start`."""
        found = self._graph(graph)
        thread = await Thread.open(found, self._of(thread_id))
        counts = dict(thread.counts) if thread.next or thread.asked is not None else {}
        segment = Segment(found.name, thread_id, as_json_data(state, "state"), resume, thread.version, counts, owner)
        await self._submit(name, segment, self._queue_of(found))

    async def _submit(self, name: str, segment: Segment, queue: str) -> None:
        if queue not in self._queues:
            raise ConfigError(f"there is no queue {queue!r}; there are {', '.join(map(repr, self._queues))}")
        segment = replace(segment, key=f"{segment.graph}/{segment.thread}")
        epoch = await self._relay.reserve(name, owner=segment.owner, thread=segment.key, hold=self._hold)
        try:
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
        return max(jobs, key=lambda job: _segment(job.name)[1])

    async def _end(self, name: str, who: str, command: Literal["stop", "cancel"]) -> bool:
        """End a segment; one that no worker has is ended here."""
        error = interrupted(CANCELLED) if command == "cancel" else None
        adopted = await self._relay.log.adopt(name, lease=5.0)
        if adopted is None:
            try:
                return await (self._relay.stop if command == "stop" else self._relay.cancel)(name, who=who)
            except RunNotFound:  # its events have expired
                return False
        end = encode_end(error, Completion())
        return await self._relay.log.append(name, adopted.epoch, adopted.seq, [], end, lease=5.0)

    async def _execute(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Execute a job: produce its segment until it has ended, here or on another worker."""
        segment = Segment(**data)

        def source(before: list[Item]) -> Any:
            return events(self._graph(segment.graph), self._of(segment.thread), segment, before)

        while not self._closing:
            try:
                producer = await self._relay.adopt(name, source)
                if producer is not None:
                    self._producers.add(producer)
                    await producer.over.wait()
                    self._producers.discard(producer)
                    continue
                status = await self._relay.log.status(name)
                if status is None:  # its log was lost, as with a process whose memory it was
                    await self._relay.reserve(name, owner=segment.owner, thread=segment.key, hold=self._hold)
                elif status.state == "ended":
                    return await self._outcome(name, status.seq, segment)
            except RunExists:  # another worker has just reserved it
                log.debug("run %r is reserved by another worker", name)
            except RelayError as error:
                log.warning("run %r waits for the relay: %s", name, error)
            await anyio.sleep(0.05)
        await anyio.sleep_forever()  # the engine gives the job to another worker
        raise AssertionError  # not reached

    async def _outcome(self, name: str, seq: int, segment: Segment) -> Mapping[str, Any]:
        """Return the result of a segment that has ended."""
        found = await self._relay.log.read(name, seq - 1, 0)
        error = None if found is None or found.end is None else decode_end(found.end)[0]
        if error is not None:
            state = "cancelled" if str(error) == CANCELLED else "failed"
            return {"state": state, "error": f"{type(error).__name__}: {error}"}
        thread = await Thread.open(self._graph(segment.graph), self._of(segment.thread))
        question = thread.question()
        if question is not None:
            return {"state": "waiting", "question": question}
        return {"state": "stopped" if thread.next else "done"}

    async def _sweep(self) -> None:
        """Keep this worker's lease, and take the jobs of workers whose lease has expired."""
        while True:
            try:
                await self._lease.renew()
                running = await self._engine.find(states=["running"], limit=10_000)
                for worker in {job.worker for job in running} - {self._worker}:
                    if worker is not None and await self._lease.is_lost(worker):
                        if worker not in self._lost:
                            log.warning("worker %r is lost; its runs go on elsewhere", worker)
                        self._lost.add(worker)
                        await self._engine.recover(worker)
            except (RelayError, DurableError) as error:
                log.warning("the look for lost workers failed: %s", error)
            await anyio.sleep(self._sweep_seconds)

    async def _hand_over(self, group: TaskGroup) -> None:
        """Stop producing, so that other workers can go on."""
        self._closing = True
        group.cancel_scope.cancel()
        for producer in [*self._producers]:
            producer.hand_over()
        with anyio.CancelScope(shield=True):
            for producer in [*self._producers]:
                await producer.over.wait()

    def _graph(self, name: str) -> Graph:
        graph = self._graphs.get(name)
        if graph is None:
            known = ", ".join(map(repr, self._graphs)) or "none"
            raise ConfigError(f"this worker has no graph {name!r}; it has {known}")
        return graph

    def _of(self, thread_id: str) -> Config:
        return replace(self._config, thread_id=thread_id)

    def _queue_of(self, graph: Graph) -> str:
        chosen = self._config.provider or graph.file.defaults.provider
        return chosen if isinstance(chosen, str) and chosen in self._queues else DEFAULT_QUEUE


def _engine(database: str | Engine) -> Engine:
    if not isinstance(database, str):
        return database
    from streamcore.durable.dbos_engine import DBOSEngine

    return DBOSEngine(database)


def _relay(given: RunLog | str | None, lease: float) -> Relay:
    return Relay(open_log(given) if isinstance(given, str | None) else given, lease=lease, max_runs=1_000_000)


def _threads(given: Checkpointer | Mapping[str, Any] | str | None, database: str | Engine) -> Checkpointer:
    """Return the store of threads; it must outlive the process."""
    if given is None and isinstance(database, str):
        given = database
        if database.startswith("sqlite:///"):
            path = Path(database.removeprefix("sqlite:///"))
            given = {"type": "sqlite", "path": str(path.with_name(f"{path.stem}-threads{path.suffix}"))}
    if given is None:
        raise ConfigError("durable runs on an engine of your own need checkpointer=, the store of their threads")
    return open_checkpointer(given)


def _fingerprint(graphs: Sequence[Graph]) -> str:
    """Return a digest of the files of graphs and prompts."""
    digest = hashlib.blake2b(digest_size=8)
    for graph in sorted(graphs, key=lambda graph: graph.name):
        for path in sorted(paths_of(graph)):
            digest.update(f"{graph.name}\0{path.name}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _segment(name: str) -> tuple[str, int]:
    """Return the run's name and the number of the segment."""
    run, _, number = name.partition("~")
    return run, int(number) if number.isdigit() else 1


def _status(job: Job) -> RunStatus:
    run, number = _segment(job.name)
    result = job.result or {}
    state: Any = result.get("state", "failed") if job.state == "done" else job.state
    return RunStatus(
        run=run,
        graph=str(job.data.get("graph", "")),
        state=state,
        segment=number,
        owner=str(job.data.get("owner", "")),
        question=result.get("question"),
        error=result.get("error") or job.error,
        created=job.created,
        updated=job.updated,
        worker=job.worker,
    )
