"""Collect the facts about an answer that are not content: its service tier, the vendor that served it, its cost.

`start`, `usage`, `finish` and `other` chunks have them in `data`; `Fold` copies them to fields of `Completion`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import is_array, is_object, mapping

_TICKS = 10_000_000_000
"""Ticks in a US dollar, for gateways that count the cost in `cost_in_usd_ticks`."""


_COSTS = frozenset({"cost_in_usd_ticks", "cost", "estimated_cost", "total_cost"})
_GATEWAYS = frozenset({"provider_metadata", "cost"})
"""The keys of a usage object and of an event that may have a cost."""


class Facts:
    """Return each fact once, although vendors repeat it in every event."""

    __slots__ = ("_known", "_new")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._new: dict[str, Any] = {}

    def note(self, name: str, value: object) -> None:
        """Set a fact; None and "" are ignored."""
        if value is not None and value != "" and self._known.get(name) != value:
            self._known[name] = self._new[name] = value

    def take(self) -> Mapping[str, Any] | None:
        """Return the facts that are new or changed since the last call; None if there are none."""
        if not self._new:
            return None
        new, self._new = self._new, {}
        return new


def read_cost(usage: Mapping[str, Any], event: Mapping[str, Any]) -> Mapping[str, Any] | None:
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
        ("usage.cost.total_cost", mapping(cost).get("total_cost")),
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
    except ValueError:
        return None
    return amount if math.isfinite(amount) else None


def _gateway(event: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(event.get("provider_metadata")).get("gateway"))


def token_logprobs(logprobs: object) -> list[Any]:
    """Return the entries of a `logprobs` object, one for each token; an object without entries is one entry itself."""
    if is_array(logprobs):
        return logprobs
    if not is_object(logprobs):
        return []
    content = logprobs.get("content")
    if is_array(content):
        return content
    return [logprobs] if any(logprobs.values()) and not logprobs.get("refusal") else []
