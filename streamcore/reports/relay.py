"""Report the runs of a relay and their readers to observers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from streamcore.completion import Completion
from streamcore.reports.report import outcome_of, reporter


class RunReport:
    """Report one run of a relay; does nothing without observers."""

    __slots__ = ("_open", "_report", "owner")

    def __init__(self, run_id: str) -> None:
        self._report = reporter("run", run_id)
        self._open = self._report is not None
        self.owner = ""
        """The user who owns the run, once it has begun."""

    def reserved(self) -> str:
        """Return what observers store with a run that begins later, perhaps in another process."""
        return "" if self._report is None else self._report.trace()

    def begin(self, owner: str, thread: str | None, trace: str = "") -> str:
        """Report that the run begins; return what observers store with it. `trace` is what `reserved` returned."""
        self.owner = owner
        if self._report is None:
            return ""
        from streamcore.observe.events import RunStarted

        self._report.tell(RunStarted(self._report.operation, owner, thread, trace))
        return self._report.trace()

    def around(self) -> AbstractContextManager[None]:
        """Make what begins inside the block a part of this run."""
        return nullcontext() if self._report is None else self._report.active(enter=True)

    def ended(self, error: BaseException | None, completion: Completion | None, items: int, *, stopped: bool) -> None:
        """Report that the run has ended; harmless when repeated."""
        report = self._report
        if report is None or not self._open:
            return
        from streamcore.observe.events import RunEnded

        self._open = False
        outcome = "stopped" if stopped and error is None else outcome_of(error)
        failure = error if isinstance(error, Exception) else None
        report.tell(RunEnded(report.operation, outcome, completion, failure, report.seconds, items))


class ReaderReport:
    """Report one reader of a run; does nothing without observers."""

    __slots__ = ("_open", "_report")

    def __init__(self, run_id: str) -> None:
        self._report = reporter("reader", run_id)
        self._open = False

    def begin(self, trace: str) -> None:
        """Report that reading begins; `trace` was stored with the run."""
        if self._report is not None:
            from streamcore.observe.events import ReaderStarted

            self._open = True
            self._report.tell(ReaderStarted(self._report.operation, trace))

    def ended(self, error: BaseException | None) -> None:
        """Report that reading has ended; harmless when repeated."""
        report = self._report
        if report is None or not self._open:
            return
        from streamcore.observe.events import ReaderEnded

        self._open = False
        report.tell(ReaderEnded(report.operation, outcome_of(error), report.seconds))

    def __del__(self) -> None:
        if self._open:  # a reader may be dropped
            self.ended(GeneratorExit())
