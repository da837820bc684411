"""Report one answer to the log and to observers: its attempts, its first content, and its end."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

from streamcore.chunk import Chunk
from streamcore.completion import Attempt, Completion
from streamcore.concurrency.generators import opened
from streamcore.errors import OutputValidationError, StreamcoreError
from streamcore.reports.report import Observer, Reporter, outcome_of, reporter
from streamcore.request import Request
from streamcore.storage.sizes import AnswerSize

if TYPE_CHECKING:
    from streamcore.observe.events import Outcome

log = logging.getLogger("streamcore")


class _Run(Protocol):
    """What a report needs of the run of an answer, at its end."""

    @property
    def stopped(self) -> bool: ...

    def completion(self, *, complete: bool) -> Completion: ...


class _Named(Protocol):
    """A provider, which has a name."""

    name: str


class _Candidate(Protocol):
    """A provider that is asked, and its request; see `pipeline/retry.py`."""

    @property
    def provider(self) -> _Named: ...

    @property
    def request(self) -> Request: ...


class AnswerReport:
    """Report one answer; without observers it only logs that an attempt is repeated.

    Nothing here is called for every token, unless an observer asks for it (`wants_chunks`).
    """

    __slots__ = ("_began", "_error", "_first", "_number", "_open", "_provider", "_report", "_whole", "size")

    def __init__(self, candidate: _Candidate, observer: Observer | None) -> None:
        provider, request = candidate.provider, candidate.request
        name = lambda: request.model or _model(provider, request)  # noqa: E731  is called only where it is needed
        self._report = reporter("answer", name, observer, getattr(provider, "observer", None))
        self._number = 0  # of the current attempt
        self._open = False  # an attempt has begun and not ended
        self._began = 0.0
        self._first: float | None = None
        self._provider = ""
        self._error: StreamcoreError | None = None  # of the last attempt
        self._whole = False  # the last attempt ended well
        self.size: AnswerSize | None = None
        """What measures the last attempt."""

    def attempt(
        self, provider: str, request: Request, source: AsyncGenerator[list[Chunk]]
    ) -> AsyncGenerator[list[Chunk]]:
        """Report that an attempt begins, and return its source, through which observers that want chunks see them."""
        report = self._report
        if report is None:
            return source
        from streamcore.observe import events

        self._provider = provider
        if not self._number:
            report.begun = time.monotonic()
            report.tell(events.AnswerStarted(report.operation, provider, request))
        if not self._open:  # else the request is sent again, without what the model refuses
            self._open = True
            self._number += 1
            self._began = time.monotonic()
            self._first = self._error = self.size = None
            report.tell(events.AttemptStarted(report.operation, self._number, provider, request))
        wanting = tuple(one for one in report.observers if getattr(one, "wants_chunks", False))
        return _shown(source, Reporter(report.operation, wanting)) if wanting else source

    def first_content(self) -> None:
        """Report the first content of an attempt."""
        if self._report is not None:
            from streamcore.observe.events import FirstContent

            self._first = self._report.seconds
            self._report.tell(FirstContent(self._report.operation, self._first))

    def attempted(self, attempt: Attempt, error: StreamcoreError | None) -> None:
        """Report that an attempt has ended."""
        self._error, self._whole, self._open = error, error is None, False
        if self._report is not None:
            from streamcore.observe.events import AttemptEnded

            seconds = time.monotonic() - self._began if self._began else 0.0
            self._report.tell(AttemptEnded(self._report.operation, self._number, attempt, error, seconds))

    @property
    def _run_id(self) -> str | None:
        """The run of the relay that the answer is a part of, for the log."""
        operation = None if self._report is None else self._report.operation
        while operation is not None and operation.kind != "run":
            operation = operation.parent
        return None if operation is None else operation.name

    def again(self, error: StreamcoreError, pause: float, failed: _Candidate, following: _Candidate) -> None:
        """Report that another attempt follows: of the same provider after a pause, or of the next one."""
        # The text of a validation error quotes the answer, and answers are not for logs.
        reason = type(error).__name__ if isinstance(error, OutputValidationError) else error
        provider, model = following.provider.name, following.request.model
        fallback = following.provider is not failed.provider
        fields: dict[str, object] = {"provider": provider, "error": type(error).__name__, "run_id": self._run_id}
        if fallback:
            named = f" with model {model!r}" if model else ""
            fields |= {"event": "fallback", "model": model}
            log.info("asking the fallback provider %r%s after %s", provider, named, reason, extra=fields)
        else:
            fields |= {"event": "retry", "pause": pause}
            log.info("trying again in %.1f s after %s", pause, reason, extra=fields)
        if self._report is not None:
            from streamcore.observe.events import FellBack, Retried

            operation = self._report.operation
            self._report.tell(
                FellBack(operation, provider, model, error) if fallback else Retried(operation, provider, error, pause)
            )
        self._error = None

    def restarted(self) -> None:
        """Report that what the reader has seen is void."""
        if self._report is not None:
            from streamcore.observe.events import Restarted

            self._report.tell(Restarted(self._report.operation))

    def ended(self, run: _Run) -> None:
        """Report the end of the answer; called while the exception that ends it, if there is one, passes."""
        report = self._report
        if report is None or not self._number:
            return
        from streamcore.observe.events import AnswerEnded, AttemptEnded

        # An exception that the reader handles meanwhile is not ours: it is looked at only if ours is not known.
        error = self._error if self._error is not None or self._whole else sys.exception()
        outcome = outcome_of(error)
        partial = error.partial if isinstance(error, StreamcoreError) else None
        completion = run.completion(complete=self._whole and not run.stopped) if partial is None else partial
        if self._open:
            attempt = Attempt(self._provider, completion.model, _described(outcome), completion.usage)
            seconds = time.monotonic() - self._began
            report.tell(AttemptEnded(report.operation, self._number, attempt, None, seconds))
        if outcome == "finished":
            outcome = "stopped" if run.stopped else "refused" if _refused(completion) else "finished"
        failure = error if isinstance(error, Exception) else None
        pieces = 0 if self.size is None else self.size.pieces
        end = (outcome, completion, failure, report.seconds, self._first, self._provider, pieces)
        report.tell(AnswerEnded(report.operation, *end))


def _model(provider: _Named, request: Request) -> str:
    """Return the model that the provider chooses; "" if it does not tell."""
    model_for: Callable[[Request], str | None] | None = getattr(provider, "model_for", None)
    try:
        return (model_for and model_for(request)) or ""
    except StreamcoreError:  # the provider raises it again when it is asked
        return ""


def _described(outcome: Outcome) -> str:
    return "the reader closed the stream" if outcome == "closed" else "the reader was cancelled"


def _refused(answer: Completion) -> bool:
    return answer.finish_reason in ("refusal", "content_filter")


async def _shown(source: AsyncGenerator[list[Chunk]], report: Reporter) -> AsyncGenerator[list[Chunk]]:
    """Yield the chunks of every read, and show them to observers."""
    from streamcore.observe.events import ChunksArrived

    async with opened(source) as batches:
        async for chunks in batches:
            report.tell(ChunksArrived(report.operation, chunks))
            yield chunks
