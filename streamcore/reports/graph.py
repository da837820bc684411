"""Report the run of a graph and its nodes to observers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, TypeVar

from streamcore.concurrency.generators import opened
from streamcore.reports.report import Reporter, outcome_of

if TYPE_CHECKING:
    from streamcore.observe.events import Outcome

T = TypeVar("T")


async def graph_reported(source: AsyncGenerator[T], report: Reporter, thread: str | None) -> AsyncGenerator[T]:
    """Yield the events of a run of a graph, and report its start and its end."""
    from streamcore.observe.events import GraphEnded, GraphStarted

    error: BaseException | None = None
    outcome: Outcome = "finished"
    report.tell(GraphStarted(report.operation, thread))
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
        report.tell(GraphEnded(report.operation, outcome, error, report.seconds))


async def node_reported(source: AsyncGenerator[T], report: Reporter, kind: str, *, enter: bool) -> AsyncGenerator[T]:
    """Yield the events of a node, and report its start and its end; what it begins is a part of it."""
    from streamcore.observe.events import NodeEnded, NodeStarted

    error: BaseException | None = None
    outcome: Outcome = "finished"
    report.tell(NodeStarted(report.operation, kind))
    try:
        async with opened(report.within(source, enter=enter)) as events:
            async for event in events:
                if isinstance(event, dict) and event["type"] == "interrupt":
                    outcome = "waiting"
                yield event
    except BaseException as failure:
        if outcome != "waiting":  # a reader may stop at an interrupt
            error, outcome = failure, outcome_of(failure)
        raise
    finally:
        report.tell(NodeEnded(report.operation, outcome, error, report.seconds))
