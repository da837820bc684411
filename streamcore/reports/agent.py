"""Report an agent and the calls of its tools to observers."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from streamcore.chunk import ToolCall, ToolResult
from streamcore.completion import Completion
from streamcore.errors import StreamcoreError
from streamcore.reports.report import Observer, Reporter, outcome_of, reporter
from streamcore.request import Request

if TYPE_CHECKING:
    from streamcore.observe.events import Outcome


class _Run(Protocol):
    """What a report needs of the run of an agent, at its end."""

    @property
    def stopped(self) -> bool: ...

    def completion(self, *, complete: bool) -> Completion: ...


class AgentReport:
    """Report one agent; does nothing without observers."""

    __slots__ = ("_begun", "report")

    def __init__(self, name: str, *observers: Observer | None) -> None:
        self.report = reporter("agent", name, *observers)
        self._begun = False

    def around(self) -> AbstractContextManager[None]:
        """Make what begins inside the block a part of this agent."""
        return nullcontext() if self.report is None else self.report.active()

    def begin(self, provider: str, request: Request) -> None:
        """Report that the agent begins."""
        if self.report is not None:
            from streamcore.observe.events import AgentStarted

            self._begun = True
            self.report.tell(AgentStarted(self.report.operation, provider, request))

    def step(self, number: int) -> None:
        """Report that the model is asked again."""
        if self.report is not None:
            from streamcore.observe.events import StepStarted

            self.report.tell(StepStarted(self.report.operation, number))

    def ended(self, run: _Run, error: StreamcoreError | None, *, done: bool) -> None:
        """Report the end; called while the exception that ends the agent, if there is one, passes."""
        report = self.report
        if report is None or not self._begun:
            return
        from streamcore.observe.events import AgentEnded

        caught = error if error is not None or done or run.stopped else sys.exception()
        completion = error.partial if error is not None and error.partial else run.completion(complete=done)
        outcome = outcome_of(caught)
        if outcome == "finished":
            outcome = _ending(run, completion)
        failure = caught if isinstance(caught, Exception) else None
        report.tell(AgentEnded(report.operation, outcome, completion, failure, report.seconds))


def _ending(run: _Run, completion: Completion) -> Outcome:
    if run.stopped:
        return "stopped"
    if completion.pending:
        return "waiting"
    return "refused" if completion.finish_reason in ("refusal", "content_filter") else "finished"


class ToolReport:
    """Report one call of a tool."""

    __slots__ = ("_report", "result")

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self.result: ToolResult | None = None

    def ended(self, error: BaseException | None) -> None:
        """Report the end of the call."""
        from streamcore.observe.events import ToolEnded

        result, report = self.result, self._report
        outcome = outcome_of(error) if result is None else "failed" if result.error is not None else "finished"
        if result is None and error is None:  # its cancel scope has caught the cancellation
            outcome = "cancelled"
        report.tell(ToolEnded(report.operation, outcome, result, report.seconds))


@contextmanager
def tool_reported(
    call: ToolCall, description: str, parent: Reporter | None, observer: Observer | None = None
) -> Generator[ToolReport | None]:
    """Report a call of a tool that runs inside the block; its code may be a part of other operations, too."""
    report = reporter("tool", call.name or "", observer, parent=parent)
    if report is None:
        yield None
        return
    from streamcore.observe.events import ToolStarted

    told = ToolReport(report)
    report.tell(ToolStarted(report.operation, call, description))
    with report.active(enter=True):
        try:
            yield told
        except BaseException as error:
            told.ended(error)
            raise
        told.ended(None)
