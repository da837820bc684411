"""Decide whether a failed attempt is repeated, with which provider, and after how many seconds."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from streamcore.completion import Completion
from streamcore.errors import AnswerTooLarge, ConfigError, MalformedStream, ProviderError, StreamcoreError, StreamError
from streamcore.fallback import Candidate, Fallback, fallback_candidate
from streamcore.structured.output import corrected

OnInterrupt = Literal["raise", "restart"]

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
LONGEST_RETRY_AFTER = 60.0
"""A vendor's Retry-After of more seconds than this is not waited for: the error is raised."""


class Retries:
    """Decide about the next attempt: only before the first content, unless `on_interrupt` is `restart`."""

    def __init__(
        self,
        first: Candidate,
        fallback: Sequence[Fallback],
        max_retries: int,
        on_interrupt: OnInterrupt,
        retries: int = 0,
        transport: str | None = None,
    ) -> None:
        if type(max_retries) is not int or max_retries < 0:
            raise ConfigError(f"max_retries is a number of further attempts, 0 or more, not {max_retries!r}")
        if type(retries) is not int or retries < 0:
            raise ConfigError(
                f"retries is a number of further requests for an answer that fits, 0 or more, not {retries!r}"
            )
        if on_interrupt not in ("raise", "restart"):
            raise ConfigError(f"on_interrupt is 'raise' or 'restart', not {on_interrupt!r}")
        self.candidate = first
        self.fallback = [fallback_candidate(entry, first.request, transport) for entry in fallback]
        self.failure: StreamcoreError | None = None
        """The error that led to the current fallback, without its traceback, which could make a cycle of references."""
        self._max = self._left = max_retries
        self._on_interrupt = on_interrupt
        self._answers_left = retries

    def next_answer(self, answer: Completion, errors: Sequence[Mapping[str, Any]], left: float) -> float | None:
        """Return the seconds to wait before `candidate` is asked to correct its answer, None to give up.

        Without `errors` there is nothing to correct: the model refused, or the answer was cut.
        """
        if not errors or self._answers_left <= 0 or left <= 0:
            return None
        self._answers_left -= 1
        self._left = self._max
        self.candidate = replace(self.candidate, request=corrected(self.candidate.request, answer, errors))
        return 0.0

    def next_pause(self, error: StreamcoreError, *, content: bool, left: float) -> float | None:
        """Return the seconds to wait before the next attempt, None to give up; may change `candidate`.

        `content` is True if the reader has received content; `left` is how many seconds the clock `total` has left.
        """
        if left <= 0 or (content and self._on_interrupt != "restart") or isinstance(error, AnswerTooLarge):
            return None
        pause = self._pause(error) if _retryable(error, content) else None
        if self._left > 0 and pause is not None and pause < left:
            self._left -= 1
            return pause
        if self.fallback and isinstance(error, ProviderError | StreamError):
            self.candidate, self.failure = self.fallback.pop(0), error.with_traceback(None)
            self._left = self._max
            return 0.0
        return None

    def _pause(self, error: StreamcoreError) -> float | None:
        """Return the vendor's Retry-After, or a doubling pause with jitter, which spreads the load of many clients."""
        retry_after = error.retry_after if isinstance(error, ProviderError) else None
        if retry_after is not None:
            return retry_after if retry_after <= LONGEST_RETRY_AFTER else None
        ceiling = min(LONGEST_PAUSE, FIRST_PAUSE * math.pow(2, self._max - self._left))
        return ceiling * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, guards nothing


def _retryable(error: StreamcoreError, content: bool) -> bool:
    """Return True if the same request may succeed: the vendor marks it so, the connection broke, or a clock ran out."""
    if isinstance(error, ProviderError):
        return error.retryable
    if isinstance(error, MalformedStream):
        return content  # without content it is a page instead of a stream, which a retry would only get again
    return isinstance(error, StreamError)
