"""Report the run of a graph and its nodes to observers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeVar

from streamcore.concurrency.generators import opened
from streamcore.reports.report import Reporter, outcome_of

if TYPE_CHECKING:
    from streamcore.observe.events import Event, Operation, Outcome

T = TypeVar("T")


def graph_reported(source: AsyncGenerator[T], report: Reporter, thread: str | None) -> AsyncGenerator[T]:
    """Yield the events of a run of a graph, and report its start and its end."""
    from streamcore.observe.events import GraphEnded, GraphStarted

    return _reported(source, report, lambda: GraphStarted(report.operation, thread), GraphEnded)


def node_reported(source: AsyncGenerator[T], report: Reporter, kind: str, *, enter: bool) -> AsyncGenerator[T]:
    """Yield the events of a node, and report its start and its end; what it begins is a part of it."""
    from streamcore.observe.events import NodeEnded, NodeStarted

    inside = report.within(source, enter=enter)
    return _reported(inside, report, lambda: NodeStarted(report.operation, kind), NodeEnded)


async def _reported(
    source: AsyncGenerator[T],
    report: Reporter,
    started: Callable[[], Event],
    ended: Callable[[Operation, Outcome, BaseException | None, float], Event],
) -> AsyncGenerator[T]:
    error: BaseException | None = None
    outcome: Outcome = "finished"
    report.tell(started())
    try:
        async with opened(source) as events:
            async for event in events:
                if isinstance(event, dict) and event["type"] == "interrupt":
                    outcome = "waiting"
                yield event
    except BaseException as failure:
        if outcome != "waiting":  # a reader may stop at an interrupt
            error, outcome = failure, outcome_of(failure)
        raise
    finally:
        report.tell(ended(report.operation, outcome, error, report.seconds))
