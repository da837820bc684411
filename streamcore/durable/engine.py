"""Define what an engine of durable runs must supply: a queue of jobs that survives the processes that work on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

JobState = Literal["queued", "running", "done", "failed", "given up", "cancelled"]
"""The state of a job; `given up` is one that is not executed again, since its workers were lost too often."""

Execute = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""A function that executes a job, by its name and its data, and returns its result; both are plain JSON."""


@dataclass(frozen=True, slots=True)
class Queue:
    """How many runs of a queue may run at once, and begin in a time. All workers of a database share a queue.

    Attributes:
        concurrency: the most runs at once, on all workers; None: no limit.
        per_worker: the most runs at once on one worker; None: no limit. At most `concurrency` counts.
        rate: the maximum number of runs that begin in a number of seconds, as `(100, 60.0)`; None: no limit.
    """

    concurrency: int | None = None
    per_worker: int | None = 100
    rate: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the engine knows it; times are seconds since 1970, `worker` is the one that began it last."""

    name: str
    queue: str
    state: JobState
    data: Mapping[str, Any]
    created: float
    updated: float
    worker: str | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None


class Engine(Protocol):
    """Keep jobs, and execute each at least once, on any worker.

    A job may be executed twice at the same time, if its first worker was thought lost: the run's log and its thread let
    only one of them write. Times, retries and checkpoints inside a job are not the engine's.
    """

    async def open(self, execute: Execute | None, queues: Mapping[str, Queue], worker: str, version: str) -> None:
        """Connect; with `execute`, begin to work on the jobs of this version.

        Raises:
            ConfigError: the database cannot be used, or this process has another engine that works.
        """
        ...

    async def submit(self, name: str, data: Mapping[str, Any], queue: str, version: str) -> None:
        """Add a job; a name that exists is no error, and changes nothing."""
        ...

    async def find(
        self, *, names: Sequence[str] = (), prefix: str = "", states: Sequence[JobState] = (), limit: int = 100
    ) -> list[Job]:
        """Return jobs, the newest first."""
        ...

    async def cancel(self, name: str) -> None:
        """Mark a job as cancelled; one that is queued is not executed."""
        ...

    async def recover(self, worker: str) -> None:
        """Return the running jobs of a lost worker, which have this engine's version, to their queues."""
        ...

    async def aclose(self) -> None:
        """Stop working, and disconnect. The jobs that run here stay so until another worker calls `recover`."""
        ...
