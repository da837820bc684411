"""Limit what an answer, an agent or a run may cost: add up what was spent, and say when it is too much."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

from streamcore.chunk import Chunk, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.concurrency.generators import opened
from streamcore.cost import Cost, reported
from streamcore.errors import ConfigError, RunLimitReached
from streamcore.observe.events import AnswerEnded, Event
from streamcore.pricing.answers import parts_of, price
from streamcore.pricing.loading import installed, load_prices
from streamcore.pricing.price_list import own_prices

log = logging.getLogger("streamcore")
_warned: set[tuple[str | None, str | None]] = set()


class _Run(Protocol):
    """What a limit needs of the run of an answer."""

    def completion(self, *, complete: bool) -> Completion: ...


def amount_of(max_cost: object) -> Decimal:
    """Return a limit in US dollars.

    Raises:
        ConfigError: it is not an amount above 0, or there are no prices to compare it with.
    """
    try:
        amount = Decimal(str(max_cost))
    except InvalidOperation:
        amount = Decimal(-1)
    if isinstance(max_cost, bool) or not amount.is_finite() or amount <= 0:
        raise ConfigError(f"max_cost is an amount in US dollars, above 0, not {max_cost!r}")
    if not installed() and not own_prices().entries:
        raise ConfigError(
            "max_cost needs prices: run pip install -e '.[cost]', or give your own with streamcore.pricing.use_prices"
        )
    return amount


class CostLimit:
    """Add up what answers cost, in US dollars; an observer, so that it counts everything that runs inside a run.

    Answers without a known price are not counted; that is logged once for a model.

    Attributes:
        limit: the most that may be spent.
        spent: what was spent.
    """

    def __init__(self, max_cost: object) -> None:
        self.limit = amount_of(max_cost)
        self.spent = Decimal(0)

    async def prepare(self) -> None:
        """Load the prices in a thread; await this before the first answer, so that none blocks the event loop."""
        await load_prices()

    def __call__(self, event: Event) -> None:
        """Add an answer that has ended, in any way."""
        if isinstance(event, AnswerEnded):
            self.spent += known_cost(event.completion)

    @property
    def reached(self) -> bool:
        """True if more was spent than may be."""
        return self.spent > self.limit

    def described(self) -> str:
        """Return the limit and what was spent, for an error."""
        return f"max_cost={self.limit} US dollars, and {self.spent:f} were spent"


def known_cost(answer: Completion) -> Decimal:
    """Return what is known of the cost of an answer, in US dollars; log which model has no price."""
    total = Decimal(0)
    for part in parts_of(answer):
        if part is None:
            _warn(answer.provider, answer.model)
        elif part.currency == "USD":
            total += part.amount
    return total


def _warn(provider: str | None, model: str | None) -> None:
    if (provider, model) not in _warned:
        _warned.add((provider, model))
        log.warning(
            "the cost of model %r of provider %r is not known, so that max_cost does not count it; give its price with "
            "streamcore.pricing.use_prices or STREAMCORE_PRICES",
            model,
            provider,
        )


class AnswerLimit:
    """End an answer that costs more than it may, as soon as its vendor reports tokens that are too many.

    Most vendors report them at the end only. So this ends answers whose prompt is too expensive, where the vendor
    counts that first; those of gateways that report tokens as they come; and those that are asked for again too often.
    """

    def __init__(self, max_cost: object) -> None:
        self._limit = amount_of(max_cost)
        self._before = Decimal(0)  # what earlier attempts cost
        self._usage: Usage | None = None
        self._names: tuple[str | None, str | None] | None = None
        self._reported: Cost | None = None
        self._finished = False

    async def limited(self, source: AsyncGenerator[list[Chunk]], run: _Run) -> AsyncGenerator[list[Chunk]]:
        """Yield the chunks of an answer.

        Raises:
            RunLimitReached: it costs more than it may, and has not ended.
        """
        await load_prices()  # so that no look-up below blocks the event loop
        async with opened(source) as batches:
            async for batch in batches:
                yield batch
                for chunk in batch:
                    if chunk.kind == "finish":
                        self._finished = True
                    elif chunk.kind == "restart":
                        self._begin_again(run)
                    elif chunk.usage is not None or chunk.data is not None:
                        self._note(chunk, run)
                if not self._finished:
                    self._check(run)

    def _begin_again(self, run: _Run) -> None:
        self._before = known_cost(run.completion(complete=False))
        self._usage = self._names = self._reported = None
        self._finished = False

    def _note(self, chunk: Chunk, run: _Run) -> None:
        facts: Any = None if chunk.data is None or chunk.kind == "reasoning" else chunk.data.get("cost")
        if facts:
            self._reported = reported(facts)
        if chunk.usage is not None:
            self._usage = merged_usage(self._usage, chunk.usage)
            if self._names is None:
                answer = run.completion(complete=False)
                self._names = answer.provider, answer.model

    def _check(self, run: _Run) -> None:
        cost = self._reported
        if cost is None and self._usage is not None and self._names is not None:
            cost = price(*self._names, self._usage)
            if cost is None:
                _warn(*self._names)
        spent = self._before + (cost.amount if cost is not None and cost.currency == "USD" else 0)
        if spent > self._limit:
            error = RunLimitReached(
                f"the answer was ended: its max_cost is {self._limit} US dollars, and {spent:f} were spent; what "
                "arrived is in .partial",
                limit="max_cost",
            )
            error.partial = run.completion(complete=False)
            raise error
