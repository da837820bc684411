"""Measure the time of a stream as its reader sees it."""

from __future__ import annotations

import time

from streamcore.chunk import Chunk
from streamcore.completion import Completion


class Stopwatch:
    """Measure the time of a stream: until its first text, and as a whole."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self._last = self._start
        self.pieces = 0

    def see(self, chunk: Chunk) -> None:
        """Count a chunk that has just arrived."""
        if chunk.text:
            self._last = time.perf_counter()
            self._first = self._first or self._last
            self.pieces += 1

    @property
    def first_token(self) -> float | None:
        """Seconds until the first text."""
        return None if self._first is None else self._first - self._start

    @property
    def rate(self) -> float | None:
        """Pieces of text per second, after the first."""
        if self._first is None or self.pieces < 2 or self._last == self._first:
            return None
        return (self.pieces - 1) / (self._last - self._first)

    def describe(self, answer: Completion) -> str:
        """Return the figures as one line of text; tokens and cost are those of all attempts and steps."""
        from streamcore.pricing import answer_usage, readable

        parts: list[str] = []
        if answer.attempts:
            parts.append(f"{answer.attempts[-1].provider} {answer.model or ''}".strip())
        if self.first_token is not None:
            parts.append(f"first token after {self.first_token * 1000:.0f} ms")
        if self.rate is not None:
            parts.append(f"{self.rate:.0f} tokens/s")
        usage = answer_usage(answer)
        if usage is not None:
            parts.append(f"{usage.input_tokens} tokens in, {usage.output_tokens} out")
        cost = answer.cost
        if cost is not None:
            parts.append(f"{readable(cost.amount)} {cost.currency}")
        if answer.raw_finish_reason:
            parts.append(f"ended with {answer.raw_finish_reason}")
        return " · ".join(parts)
