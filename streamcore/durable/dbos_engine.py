"""Keep the jobs of durable runs with DBOS, in SQLite or PostgreSQL.

A job is a workflow without steps: what it has done so far is in the thread and in the relay. DBOS has one instance in a
process, whose threads fetch jobs; a job itself runs on the event loop that opened the engine.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any, cast

import anyio
from anyio.from_thread import BlockingPortal

from streamcore.base.redact import redact
from streamcore.concurrency.threads import run_in_thread
from streamcore.durable.engine import Execute, Job, JobState, Queue
from streamcore.errors import ConfigError, DurableError, install_command

try:
    from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions, WorkflowStatus
    from dbos import error as dbos_errors
    from sqlalchemy.exc import SQLAlchemyError
except ModuleNotFoundError as error:
    raise ConfigError(
        f"durable runs need the package 'dbos', which is not installed; run: {install_command('durable')}"
    ) from error

WORKFLOW = "streamcore_run"
ATTEMPTS = 50
"""How many workers may be lost with one job before it is given up."""
POLL_SECONDS = 0.2
"""How often a worker looks for jobs."""

_STATES: Mapping[str, JobState] = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "given up",
    "CANCELLED": "cancelled",
}
_working: list[DBOSEngine] = []
"""The engine of this process that works."""


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=ATTEMPTS)
async def _work(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Execute a job on the event loop of the engine; DBOS calls it on a loop of its own."""
    if not _working:
        raise DurableError("the worker is being stopped")
    return await _working[0].execute(str(DBOS.workflow_id), data)


class DBOSEngine:
    """An engine on DBOS.

    Args:
        url: `sqlite:///runs.db` or `postgresql://user:password@host:5432/database`.
        poll: seconds between two polls for jobs.

    Raises:
        ConfigError: the URL is none of these, or DBOS is not installed.
    """

    def __init__(self, url: str, *, poll: float = POLL_SECONDS) -> None:
        if not url.startswith(("sqlite:///", "postgresql://", "postgres://")) or url == "sqlite:///":
            raise ConfigError(
                "the database of durable runs must be sqlite:///runs.db or "
                "postgresql://user:password@host:5432/database"
            )
        self._url = url.replace("postgres://", "postgresql://", 1)
        self._poll = poll
        self._client: DBOSClient | None = None
        self._execute: Execute | None = None
        self._portal: BlockingPortal | None = None
        self._worker = ""
        self._context = Context()
        """The context in which the engine was opened: its observers observe the jobs."""

    async def open(self, execute: Execute | None, queues: Mapping[str, Queue], worker: str, version: str) -> None:
        """Make the tables, connect, and with `execute` begin to work."""
        self._execute, self._worker = execute, worker
        if execute is not None:
            if _working:
                raise ConfigError("this process has durable runs that work already; open others with work=False")
            self._context = copy_context()
            _working.append(self)
            self._portal = BlockingPortal()
            await self._portal.__aenter__()
        try:
            await self._run(lambda: self._open(queues, version))
        except BaseException:
            await self.aclose()
            raise

    def _open(self, queues: Mapping[str, Queue], version: str) -> None:
        logging.getLogger("dbos").setLevel(logging.ERROR)
        config: DBOSConfig = {
            "name": "streamcore",
            "system_database_url": self._url,
            "serializer": DBOSPortableJSONSerializer(),
            "application_version": version,
            "executor_id": self._worker,
            "log_level": "ERROR",
            "enable_otlp": False,
            "use_listen_notify": False,
        }
        DBOS.migrate(self._url)
        self._client = DBOSClient(
            system_database_url=self._url,
            serializer=DBOSPortableJSONSerializer(),
            application_name="streamcore",
            retry_connection_errors=False,
        )
        if self._execute is None:
            return
        for name, queue in queues.items():
            limits = (queue.per_worker, queue.concurrency)
            self._client.register_queue(
                name,
                global_concurrency=queue.concurrency,
                worker_concurrency=min((one for one in limits if one is not None), default=None),
                limiter=None if queue.rate is None else {"limit": queue.rate[0], "period": queue.rate[1]},
                polling_interval_sec=self._poll,
            )
        DBOS(config=config)
        DBOS.launch()

    async def execute(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Execute a job on the loop that opened the engine, called on another one."""
        if self._portal is None or self._execute is None:
            raise DurableError("the worker is being stopped")
        return await asyncio.wrap_future(
            self._context.copy().run(self._portal.start_task_soon, self._execute, name, data)
        )

    async def submit(self, name: str, data: Mapping[str, Any], queue: str, version: str) -> None:
        """Add a job."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": queue,
            "workflow_id": name,
            "app_version": version,
        }

        def enqueue() -> None:
            self._connected().enqueue(options, dict(data))

        await self._run(enqueue)

    async def find(
        self, *, names: Sequence[str] = (), prefix: str = "", states: Sequence[JobState] = (), limit: int = 100
    ) -> list[Job]:
        """Return jobs, the newest first."""
        wanted = [name for name, state in _STATES.items() if state in states]
        found = await self._run(
            lambda: self._connected().list_workflows(
                name=WORKFLOW,
                workflow_ids=list(names) or None,
                workflow_id_prefix=prefix or None,
                status=wanted or None,
                limit=limit,
                sort_desc=True,
            )
        )
        return [_job(one) for one in found]

    async def cancel(self, name: str) -> None:
        """Mark a job as cancelled."""
        await self._run(lambda: self._connected().cancel_workflow(name))

    async def recover(self, worker: str) -> None:
        """Return the running jobs of a lost worker to their queues."""
        # Private: DBOS leaves it to its own service to notice that a worker is lost.
        await self._run(lambda: DBOS._recover_pending_workflows([worker]))  # pyright: ignore[reportPrivateUsage]

    async def aclose(self) -> None:
        """Stop working, and disconnect."""
        client, self._client = self._client, None
        works = self in _working

        def close() -> None:
            if works:
                DBOS.destroy()
            if client is not None:
                client.destroy()

        portal, self._portal = self._portal, None
        try:
            with anyio.CancelScope(shield=True):
                await self._run(close)
        finally:
            if works:
                _working.remove(self)
            if portal is not None:
                await portal.stop(cancel_remaining=True)
                await portal.__aexit__(None, None, None)

    def _connected(self) -> DBOSClient:
        if self._client is None:
            raise ConfigError("durable runs are not open; use them inside `async with DurableRuns(...)`")
        return self._client

    async def _run(self, work: Any) -> Any:
        """Call a function in a worker thread, and raise the database's errors as ours, without the password."""
        try:
            return await run_in_thread("durable", work)
        except (dbos_errors.DBOSException, SQLAlchemyError, OSError) as error:
            text = redact(str(getattr(error, "orig", error)).strip().split("\n")[0])
            raise DurableError(f"the database of durable runs failed: {text}; try again later") from error


def _job(found: WorkflowStatus) -> Job:
    """Return a workflow as a job."""
    given = found.input
    data = cast("Mapping[str, Any]", given["args"][0] if given and given["args"] else {})
    result = cast("Mapping[str, Any] | None", found.output)
    return Job(
        name=found.workflow_id,
        queue=found.queue_name or "",
        state=_STATES.get(str(found.status), "failed"),
        data=data,
        created=(found.created_at or 0) / 1000,
        updated=(found.updated_at or 0) / 1000,
        worker=found.executor_id,
        result=result,
        error=None if found.error is None else str(found.error),
    )
