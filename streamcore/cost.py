"""Define `Cost`, what an answer costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Cost:
    """Represent what an answer costs, or several do, as a gateway reports it or as a price list gives it."""

    amount: Decimal
    """The amount in `currency`, not rounded."""
    currency: str = "USD"
    """The currency's code, as in `USD`."""
    source: Literal["vendor", "prices"] = "vendor"
    """`vendor`: the response states the amount. `prices`: it, or a part of it, was computed from token counts."""
    price: str = ""
    """Which price: `openai/gpt-5.2`, as the price list names it; or the field of the response, as in `usage.cost`."""
    price_list: str = ""
    """The price list and its version, as in `genai-prices 0.2.3`; empty if the response states the amount."""
    since: str | None = None
    """The day from which the price applies, as in `2026-08-01`; None if the list does not know."""


def reported(fact: Mapping[str, Any] | None) -> Cost | None:
    """Return the cost that a chunk has under `cost` of its `data`; None if it has none."""
    return None if not fact else Cost(Decimal(str(fact["amount"])), fact["currency"], price=fact["source"])


def write_cost(cost: Cost | None) -> Mapping[str, Any] | None:
    """Return a cost as JSON; the amount is a text, since a number would lose digits."""
    if cost is None:
        return None
    fields = {"currency": cost.currency, "source": cost.source, "price": cost.price}
    more = {"price_list": cost.price_list, "since": cost.since}
    return {"amount": str(cost.amount), **fields, **{name: value for name, value in more.items() if value}}


def read_cost(given: Mapping[str, Any] | None) -> Cost | None:
    """Return the cost in JSON, also as earlier versions wrote it: a number, and the response's field as `source`."""
    if not given:
        return None
    if "price" not in given:
        return reported(given)
    names = ("currency", "source", "price", "price_list", "since")
    return Cost(Decimal(str(given["amount"])), **{name: given[name] for name in names if name in given})
