"""Answer rows, several at a time, and describe each answer or error as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from streamcore.bulk.limits import RateLimiter
from streamcore.bulk.rows import Row
from streamcore.completion import Completion
from streamcore.errors import (
    AuthenticationError,
    ConfigError,
    NotFoundError,
    OutputValidationError,
    PromptError,
    ProviderError,
    RateLimitError,
    StreamcoreError,
)
from streamcore.execute import stream_prompt
from streamcore.prompts.prompt_file import Prompt
from streamcore.structured.output import is_unfinished

Line = dict[str, Any]
"""One JSON object of the output."""

_ANSWER = (
    "text",
    "parsed",
    "reasoning",
    "refusal",
    "tool_calls",
    "citations",
    "finish_reason",
    "raw_finish_reason",
    "model",
    "usage",
    "cost",
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a row."""

    row: Row
    line: Line
    """The answer, or the error with what arrived before it."""
    answer: Completion
    """The answer, or what arrived of it."""
    error: StreamcoreError | None = None


@dataclass(slots=True)
class Question:
    """What is asked for every row, and how fast."""

    prompt: Prompt
    options: Mapping[str, Any]
    """The keyword arguments of `stream_prompt`."""
    provider: str
    """The name of the provider that is asked first."""
    text: str
    """Everything that decides the answer beside the row; see `Row.key`."""
    limiters: Mapping[str, RateLimiter]

    async def answer(self, row: Row) -> Result:
        """Return the answer to a row, or the error that it ended with.

        Raises:
            AuthenticationError, NotFoundError, ConfigError: no row can be answered, so the others need not be asked.
        """
        limiter = self.limiters.get(self.provider)
        reserved = 0.0 if limiter is None else await limiter.admit()
        stream = stream_prompt(self.prompt.name, row.values, **self.options)
        error: StreamcoreError | None = None
        try:
            async with stream:
                answer = await stream.collect()
        except (AuthenticationError, NotFoundError):
            raise
        except StreamcoreError as failed:
            if isinstance(failed, ConfigError) and not isinstance(failed, PromptError):
                raise
            answer, error = failed.partial or stream.partial, failed
            if limiter is not None and isinstance(failed, RateLimitError) and failed.retry_after is not None:
                limiter.pause(failed.retry_after)
        else:
            error = _unanswered(answer, structured=stream.structured)
        finally:
            self._count(stream.partial, reserved)
        return Result(row, self._line(row, answer, error), answer, error)

    def _count(self, answer: Completion, reserved: float) -> None:
        """Settle with the limits of every provider that was asked."""
        names = [attempt.provider for attempt in answer.attempts] or [self.provider]
        for name, limiter in self.limiters.items():
            used = [attempt.usage for attempt in answer.attempts if attempt.provider == name]
            tokens = sum((usage.input_tokens or 0) + (usage.output_tokens or 0) for usage in used if usage is not None)
            first = name == self.provider
            if first or name in names:
                limiter.settle(reserved if first else 0.0, names.count(name), tokens)

    def _line(self, row: Row, answer: Completion, error: StreamcoreError | None) -> Line:
        """Return the object that the output has for this row."""
        found: Line = {name: value for name, value in json.loads(answer.to_json()).items() if name in _ANSWER}
        if found.get("usage"):
            found["usage"].pop("raw", None)
        line: Line = {"row": row.number, "input": row.values}
        if error is None:
            line |= {"text": answer.text, **found}
        else:
            described: Line = {"type": type(error).__name__, "message": str(error)}
            if isinstance(error, ProviderError):
                described |= {"status": error.status, "retryable": error.retryable}
            line |= {"error": described, "partial": found}
        if answer.attempts:
            line["provider"] = answer.attempts[-1].provider
        line["key"] = row.key(self.text)
        return line


def _unanswered(answer: Completion, *, structured: bool) -> StreamcoreError | None:
    """Return the error of a stream that ended well without an answer to the row: its calls were not run."""
    if answer.pending:
        names = ", ".join(call.name or "?" for call in answer.pending)
        return OutputValidationError(f"the call of {names} waits for approval; give approve=, or --yes")
    if structured and is_unfinished(answer):
        return OutputValidationError(
            f"the model called tools or paused ({answer.raw_finish_reason!r}), without an answer"
        )
    return None


async def answer_rows(
    rows: Iterator[Row], question: Question, on_result: Callable[[Result], None], *, concurrency: int
) -> None:
    """Answer rows, `concurrency` at a time, and call `on_result` with each result, in the order in which they end.

    Raises:
        StreamcoreError: no row can be answered, or reading the rows failed; answers that have not ended are cancelled.
    """
    failures: list[BaseException] = []

    async def work(scope: anyio.CancelScope) -> None:
        try:
            for row in rows:  # one iterator for all, so that each takes the next
                on_result(await question.answer(row))
        except Exception as error:  # noqa: BLE001  raised below, outside of an exception group
            failures.append(error)
            scope.cancel()

    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(work, tasks.cancel_scope)
    if failures:
        raise failures[0]
