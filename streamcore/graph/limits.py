"""Limit what one run may cost: items of a map, model calls, tokens, nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from streamcore.chunk import Chunk, Usage
from streamcore.completion import merged_usage
from streamcore.errors import RunLimitReached
from streamcore.storage.sizes import utf8_size

if TYPE_CHECKING:
    from streamcore.pricing.limit import CostLimit

MAX_STATE_BYTES = 64 * 2**20
"""The default limit of a graph's state."""
BYTES_PER_TOKEN = 4
"""The bytes of text that count as a token until the vendor reports a count, and where it reports none."""
_NEW_ANSWER = frozenset({"start", "restart", "step"})


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of one run; None: no limit.

    Attributes:
        max_items: the maximum number of items of a `map` node's list.
        max_model_calls: the maximum number of answers of models, retries not counted.
        max_nodes: the maximum number of nodes that run, those of maps and loops included.
        max_tokens: the maximum number of tokens of all answers, input and output, as the vendors report them; answers
            that were voided by a retry count, too. While an answer streams, and where no count is reported, 4 bytes of
            text are a token.
        max_state_bytes: the maximum size of a graph's state in memory, in bytes, 64 MiB by default; also of the
            results of a `map` node. A node whose output needs more fails with `NodeError`, and a caller's values raise
            `ConfigError`.
        max_cost: the most US dollars that all answers may cost together, those of tools and failed attempts included;
            checked before each node and each answer. Answers without a known price do not count.
    """

    max_items: int | None = None
    max_model_calls: int | None = None
    max_nodes: int | None = None
    max_tokens: int | None = None
    max_state_bytes: int | None = MAX_STATE_BYTES
    max_cost: Decimal | float | None = None


class Budget:
    """Count what one run has used.

    Raises:
        RunLimitReached: by each method, if the run has reached the limit.
    """

    def __init__(self, limits: RunLimits | None = None) -> None:
        self._limits = limits or RunLimits()
        self.cost = None if self._limits.max_cost is None else _cost_limit(self._limits.max_cost)
        """Adds up what the run costs, as an observer; None without a limit."""
        self._model_calls = 0
        self._nodes = 0
        self._tokens = 0

    def count_node(self, name: str) -> None:
        """Count a node that is about to run."""
        self._nodes += 1
        self._check_cost(name)
        self._check("max_nodes", self._nodes, self._limits.max_nodes, name)

    def count_model_call(self, name: str) -> None:
        """Count an answer that is about to be asked for."""
        self._model_calls += 1
        self._check_cost(name)
        self._check("max_model_calls", self._model_calls, self._limits.max_model_calls, name)

    def check_items(self, name: str, count: int) -> None:
        """Check the number of a map's items."""
        self._check("max_items", count, self._limits.max_items, name)

    def check_bytes(self, name: str, count: int) -> None:
        """Check the bytes of a map's results."""
        self._check("max_state_bytes", count, self._limits.max_state_bytes, name)

    def count_tokens(self, name: str, tokens: int) -> None:
        """Count tokens; fewer than 0 correct an estimate of this run that was too high."""
        self._tokens += tokens
        self._check("max_tokens", self._tokens, self._limits.max_tokens, name)

    def answer(self, name: str, *, count_steps: bool = False) -> AnswerTokens:
        """Return what counts the tokens of the answers of one stream, and with `count_steps` an agent's answers."""
        return AnswerTokens(self, name, counts=self._limits.max_tokens is not None, count_steps=count_steps)

    def _check_cost(self, name: str) -> None:
        if self.cost is not None and self.cost.reached:
            raise RunLimitReached(
                f"the run reached its limit {self.cost.described()}, at {name!r}; raise the limit, or end the loop, "
                "list or answer earlier",
                limit="max_cost",
            )

    @staticmethod
    def _check(limit: str, count: int, most: int | None, name: str) -> None:
        if most is not None and count > most:
            raise RunLimitReached(
                f"the run reached its limit {limit}={most} at {name!r}; raise the limit, or end the loop, list or "
                "answer earlier",
                limit=limit,
            )


def _cost_limit(max_cost: Decimal | float) -> CostLimit:
    from streamcore.pricing.limit import CostLimit  # seldom used

    return CostLimit(max_cost)


class AnswerTokens:
    """Count the tokens of one stream's answers in the budget of its run, while they arrive."""

    __slots__ = ("_budget", "_bytes", "_count_steps", "_counted", "_counts", "_finished", "_name", "_output", "_usage")

    def __init__(self, budget: Budget, name: str, *, counts: bool, count_steps: bool = False) -> None:
        self._budget = budget
        self._name = name
        self._counts = counts
        self._count_steps = count_steps
        self._begin()

    def _begin(self) -> None:
        self._usage: Usage | None = None
        self._bytes = 0
        self._counted = 0  # tokens of this answer that the budget has
        self._output = 0  # those of them that are output
        self._finished = False

    def note(self, chunks: Sequence[Chunk]) -> None:
        """Count the chunks of a read.

        Raises:
            RunLimitReached: the run has reached its limit of tokens, or of answers.
        """
        if not (self._counts or self._count_steps):
            return
        if self._counts and len(chunks) == 1 and chunks[0].kind == "text":
            # As below, for a token: nothing but the estimate can change.
            self._bytes += utf8_size(chunks[0].text)
            more = -(-self._bytes // BYTES_PER_TOKEN) - self._output
            if more > 0:
                self._output += more
                self._counted += more
                self._budget.count_tokens(self._name, more)
            return
        for chunk in chunks:
            if self._count_steps and chunk.kind == "step":
                self._budget.count_model_call(self._name)
            if not self._counts:
                continue
            if chunk.kind in _NEW_ANSWER:
                self.end()
            self._bytes += utf8_size(chunk.text)
            if chunk.tool_call is not None:
                self._bytes += utf8_size(chunk.tool_call.arguments)
            if chunk.usage is not None:
                self._usage = merged_usage(self._usage, chunk.usage)
            self._finished |= chunk.kind == "finish"
        if self._counts:
            self._count(final=False)

    def end(self) -> None:
        """Count the answer as the vendor reported it, and begin another.

        Raises:
            RunLimitReached: the run has reached its limit of tokens.
        """
        if self._counts:
            self._count(final=self._finished)
            self._begin()

    def _count(self, *, final: bool) -> None:
        usage = self._usage or Usage()
        estimate = -(-self._bytes // BYTES_PER_TOKEN)
        reported = max(0, usage.output_tokens or 0)
        output = reported if final and reported else max(reported, estimate)
        self._output = output
        tokens = max(0, usage.input_tokens or 0) + output
        change, self._counted = tokens - self._counted, tokens
        self._budget.count_tokens(self._name, change)
