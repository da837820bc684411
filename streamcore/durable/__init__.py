"""Run graphs that outlive their machine, on DBOS; their events are read live, from any worker."""

from streamcore.durable.engine import Engine, Execute, Job, JobState, Queue
from streamcore.durable.runs import DurableRuns
from streamcore.durable.status import RunState, RunStatus
from streamcore.errors import DurableError

__all__ = ["DurableError", "DurableRuns", "Engine", "Execute", "Job", "JobState", "Queue", "RunState", "RunStatus"]
