"""Describe what is known of a run, from the engine's job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamcore.durable.engine import Job

RunState = Literal["queued", "running", "waiting", "done", "stopped", "failed", "cancelled"]

GIVEN_UP = "the run was given up, since its workers were lost too often; start it again"
"""The message of a run that the engine no longer executes."""


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

    @classmethod
    def of(cls, job: Job) -> RunStatus:
        """Return what a job says of its run."""
        run, number = split_name(job.name)
        result = job.result or {}
        state: Any = job.state
        error = result.get("error") or job.error
        if job.state == "done":
            state = result.get("state", "failed")
        elif job.state == "given up":
            state, error = "failed", GIVEN_UP
        return cls(
            run=run,
            graph=str(job.data.get("graph", "")),
            state=state,
            segment=number,
            owner=str(job.data.get("owner", "")),
            question=result.get("question"),
            error=error,
            created=job.created,
            updated=job.updated,
            worker=job.worker,
        )


def split_name(name: str) -> tuple[str, int]:
    """Return the run's name and the number of the segment, from the segment's name."""
    run, _, number = name.partition("~")
    return run, int(number) if number.isdigit() else 1
