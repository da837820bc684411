"""Define `Cost`, what an answer costs, and read the cost that a gateway reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, cast

_TICKS = 10_000_000_000
"""Ticks in a US dollar, for gateways that count the cost in `cost_in_usd_ticks`."""


_COSTS = frozenset({"cost_in_usd_ticks", "cost", "estimated_cost", "total_cost"})
_GATEWAYS = frozenset({"provider_metadata", "cost"})
"""The keys of a usage object and of an event that may have a cost."""


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


def gateway_cost(usage: Mapping[str, Any], event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the cost that a gateway reports in a usage object or in its event; `source` is the field it is read from.

    Amounts are US dollars: every known gateway that reports a cost uses them.
    """
    if _COSTS.isdisjoint(usage) and _GATEWAYS.isdisjoint(event):
        return None
    ticks = _amount(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return _cost(ticks / _TICKS, "usage.cost_in_usd_ticks")
    cost = usage.get("cost")
    candidates: tuple[tuple[str, object], ...] = (
        ("usage.cost", cost),
        ("usage.cost.total_cost", _mapping(cost).get("total_cost")),
        ("usage.estimated_cost", usage.get("estimated_cost")),
        ("usage.total_cost", usage.get("total_cost")),
        ("provider_metadata.gateway.cost", _gateway(event).get("cost")),
        ("cost", event.get("cost")),
    )
    for source, value in candidates:
        amount = _amount(value)
        if amount is not None:
            return _cost(amount, source)
    return None


def _cost(amount: float, source: str) -> Mapping[str, Any]:
    return {"amount": amount, "currency": "USD", "source": source}


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if 0 <= amount < math.inf else None


def _gateway(event: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(event.get("provider_metadata")).get("gateway"))


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}
