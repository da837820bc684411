"""Add up the figures of all answers that a command asks for: tokens, cost, times."""

from __future__ import annotations

from decimal import Decimal

from streamcore.completion import Completion
from streamcore.cost import Cost
from streamcore.observe import AnswerEnded, Event
from streamcore.pricing import CostSum, readable


class Figures:
    """Observe the answers of a command, those of tools, interrupts and failed attempts included.

    With `cost`, their cost is added up, too, for which the list of prices is loaded.
    """

    def __init__(self, *, cost: bool = False) -> None:
        self._total = CostSum()
        self._cost = cost
        self._first: float | None = None
        self._streaming = 0.0
        self._tokens = 0

    def __call__(self, event: Event) -> None:
        """Add an answer that has ended."""
        if not isinstance(event, AnswerEnded):
            return
        self.add(event.completion)
        if event.first_content is not None:
            self._first = event.first_content if self._first is None else self._first
            usage = event.completion.usage
            if usage is not None and usage.output_tokens:
                self._tokens += usage.output_tokens
                self._streaming += event.seconds - event.first_content

    def add(self, answer: Completion) -> None:
        """Add an answer."""
        self._total.add(answer, None if self._cost else _NOTHING)

    @property
    def tokens(self) -> str:
        """The tokens of all answers, as in `24 tokens in, 6 out`; empty if no vendor reported any."""
        usage = self._total.usage
        return "" if usage is None else f"{usage.input_tokens or 0} tokens in, {usage.output_tokens or 0} out"

    @property
    def more(self) -> list[str]:
        """The cost, the time to the first token, and the rate."""
        total = self._total
        parts = [f"{total.answers} answer{'' if total.answers == 1 else 's'}"]
        if total.answers > total.unpriced:
            without = f" (without {total.unpriced} whose price is not known)" if total.unpriced else ""
            parts.append(f"{readable(total.amount)} {total.currency}{without}")
        elif total.answers:
            parts.append("cost not known")
        if self._first is not None:
            parts.append(f"first token after {self._first * 1000:.0f} ms")
        if self._streaming > 0 and self._tokens > 1:
            parts.append(f"{self._tokens / self._streaming:.0f} tokens/s")
        return parts


_NOTHING = Cost(Decimal(0))
