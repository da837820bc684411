"""Compute what answers cost: one attempt, one answer with all of its attempts, or the sum of many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from streamcore.chunk import Usage
from streamcore.completion import Completion
from streamcore.cost import Cost
from streamcore.pricing.counts import counts_of
from streamcore.pricing.library import listed_cost
from streamcore.pricing.price_list import Prices, own_prices
from streamcore.provider import provider_names, vendor
from streamcore.usage_sum import added_usage


def cost_of(
    answer: Completion,
    *,
    prices: Prices | Mapping[str, Any] | str | Path | None = None,
    at: datetime | None = None,
) -> Cost | None:
    """Return what an answer costs: all of its attempts, also failed ones that were billed, and all steps of an agent.

    What a gateway reports counts first, then prices of your own, then those of `genai-prices` (extra `cost`).

    Args:
        answer: the answer, complete or not.
        prices: prices of your own, see `Prices.of`; defaults to those of `use_prices` or `STREAMCORE_PRICES`.
        at: when the answer was made, since prices change; defaults to now. Without a timezone it is in UTC.

    Returns:
        The sum; None, never 0, if a part has no known price or the vendor reported no tokens.

    Raises:
        ConfigError: the prices are not valid.
    """
    own = own_prices() if prices is None else Prices.of(prices)
    return added(_parts(answer, own, at or datetime.now(UTC)))


def parts_of(answer: Completion) -> list[Cost | None]:
    """Return the cost of each attempt and step of an answer; None for one that is not known."""
    return _parts(answer, own_prices(), datetime.now(UTC))


def _parts(answer: Completion, own: Prices, at: datetime) -> list[Cost | None]:
    """Return the cost of each attempt of an answer."""
    if answer.steps:
        return [part for step in answer.steps for part in _parts(step, own, at)]
    tier, last = answer.service_tier, len(answer.attempts) - 1
    parts: list[Cost | None] = []
    for number, one in enumerate(answer.attempts):
        if one.error is None or one.usage is not None or one.reported_cost is not None:  # else it was not billed
            found = one.reported_cost or price(
                one.provider, one.model, one.usage, own=own, at=at, tier=tier if number == last else None
            )
            parts.append(found)
    if _has_attempt(answer):
        # An attempt that is still running, or was cancelled, is not in the list.
        parts.append(
            answer.reported_cost or price(answer.provider, answer.model, answer.usage, own=own, at=at, tier=tier)
        )
    return parts


def _has_attempt(answer: Completion) -> bool:
    """Return whether the answer has usage that none of its attempts has."""
    if answer.usage is None and answer.reported_cost is None:
        return False
    last = answer.attempts[-1] if answer.attempts else None
    return last is None or (last.usage, last.reported_cost) != (answer.usage, answer.reported_cost)


def price(
    provider: str | None,
    model: str | None,
    usage: Usage | None,
    *,
    own: Prices | None = None,
    at: datetime | None = None,
    tier: str | None = None,
) -> Cost | None:
    """Return what some tokens of a model cost; None if that is not known."""
    list_id, cache_apart = _vendor(provider)
    counts = counts_of(usage, cache_apart=cache_apart, tier=tier)
    if counts is None or not model:
        return None
    at = at or datetime.now(UTC)
    found = (own_prices() if own is None else own).cost(provider, model, counts, at)
    if found is None and list_id:
        found = listed_cost(list_id, model, counts, at)
    return found


@cache
def _vendor(provider: str | None) -> tuple[str, bool]:
    """Return a provider's id in `genai-prices`, and whether its counts of the prompt leave cached tokens out."""
    found = vendor(provider) if provider is not None and provider in provider_names() else None
    if found is None:
        return provider or "", False
    return found.price_list_id or found.name, found.cache_apart


def added(costs: Iterable[Cost | None]) -> Cost | None:
    """Return the sum of some costs; None if there are none, if one is not known, or if their currencies differ."""
    found = list(costs)
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found) or len({one.currency for one in known}) > 1:
        return None
    if len(known) == 1:
        return known[0]
    computed = any(one.source == "prices" for one in known)
    return Cost(
        sum((one.amount for one in known), Decimal(0)),
        known[0].currency,
        "prices" if computed else "vendor",
        _joined(one.price for one in known),
        _joined(one.price_list for one in known),
        max((one.since for one in known if one.since), default=None),
    )


def _joined(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(name for name in names if name))


def readable(amount: Decimal) -> str:
    """Return an amount with the digits that matter, and no exponent."""
    if not amount:
        return "0"
    digits = max(2, 2 - amount.adjusted())  # two that matter after the zeros
    return f"{amount:.{min(digits, 12)}f}"


def answer_usage(answer: Completion) -> Usage | None:
    """Return the tokens of all attempts and steps of an answer; None if no vendor reported any.

    `Completion.usage` has those of the last attempt only.
    """
    if answer.steps:
        return added_usage(answer_usage(step) for step in answer.steps)
    usages = [one.usage for one in answer.attempts]
    return added_usage([*usages, answer.usage] if _has_attempt(answer) else usages)


@dataclass(slots=True)
class CostSum:
    """Add up what answers cost, also those without a known price, which are counted apart."""

    amount: Decimal = Decimal(0)
    """The sum of the known costs, in `currency`."""
    currency: str = "USD"
    answers: int = 0
    """How many answers were added."""
    unpriced: int = 0
    """How many of them have no known cost, or another currency."""
    usage: Usage | None = None
    """The tokens of all of them."""

    def add(self, answer: Completion, cost: Cost | None = None) -> None:
        """Add an answer, complete or not; `cost` defaults to the answer's own."""
        self.add_known(cost_of(answer) if cost is None else cost, answer_usage(answer))

    def add_known(self, cost: Cost | None, usage: Usage | None) -> None:
        """Add an answer whose cost and tokens are known, or known not to be known."""
        self.answers += 1
        self.usage = added_usage((self.usage, usage))
        if cost is None or (self.amount and cost.currency != self.currency):
            self.unpriced += 1
            return
        self.amount, self.currency = self.amount + cost.amount, cost.currency

    @property
    def known(self) -> bool:
        """True if the cost of every answer is known, and there is one."""
        return bool(self.answers) and not self.unpriced
