"""Define `Context`: what a node gets to run, besides its keys and the state."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamcore.errors import NodeError, StreamcoreError
from streamcore.graph.config import Config
from streamcore.graph.events import Event
from streamcore.graph.limits import Budget
from streamcore.graph.load import Graph
from streamcore.graph.thread import Thread
from streamcore.reports.report import Reporter
from streamcore.stream import Stream

State = Mapping[str, Any]


class RunGraph(Protocol):
    """Run a graph on a thread, inside another run; the last event is `interrupt` or `graph_complete`."""

    def __call__(
        self, thread: Thread, initial: Mapping[str, Any], context: Context, resume: Any
    ) -> AsyncGenerator[Event]:
        """Return the events of the run."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Pass a node what it needs to run, besides the state."""

    graph: Graph
    config: Config
    restarts: bool = True
    """True if the reader can handle `restart` events."""
    budget: Budget = field(default_factory=Budget)
    """What the run has used, and its limits."""
    thread: Thread | None = None
    """The thread of the run; None where what runs inside a node is not saved, as in a map."""
    resumes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """For nodes whose graph waits for an answer: the answer."""
    run_graph: RunGraph | None = None
    """The function that runs a graph inside this one."""
    seconds: float | None = None
    """The time limit of the node."""
    report: Reporter | None = None
    """What reports the run of the graph to observers."""
    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    """The streams that are being read, by node."""

    def unfinished_texts(self) -> dict[str, str]:
        """Return the text so far of each node whose answer is not complete."""
        return {name: text for name, stream in self.streams.items() if (text := stream.partial.text)}


def failed(name: str, context: Context, why: str, error: Exception | None = None) -> NodeError:
    """Return the error of a node that failed."""
    kind = f"{type(error).__name__}: " if error is not None else ""
    failure = NodeError(
        f"node {name!r} of graph {context.graph.name!r} failed: {kind}{why}", graph=context.graph.name, node=name
    )
    failure.partial = error.partial if isinstance(error, StreamcoreError) else None
    return failure


def as_state_error(name: str, error: Exception, *, tolerated: bool = True) -> dict[str, Any]:
    """Return an error as an entry of `errors` in the state."""
    return {"node": name, "type": type(error).__name__, "message": str(error), "tolerated": tolerated}
