"""Collect what vendors tell about an answer besides its content: service tier, who served it, its cost.

Facts travel as `data` of `start`, `usage`, `finish` and `other` chunks; `Fold` makes fields of `Completion` of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import is_array, is_object, mapping

_TICKS = 10_000_000_000
"""Ticks in a US dollar, for gateways that count the cost in `cost_in_usd_ticks`."""


class Facts:
    """Remember what has been passed on, so that a value repeated in every event is passed on once."""

    __slots__ = ("_known", "_new")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._new: dict[str, Any] = {}

    def note(self, name: str, value: object) -> None:
        """Note a value; None and "" say nothing."""
        if value is not None and value != "" and self._known.get(name) != value:
            self._known[name] = self._new[name] = value

    def take(self) -> Mapping[str, Any] | None:
        """Return what is new since the last call, None if nothing is."""
        if not self._new:
            return None
        new, self._new = self._new, {}
        return new


def read_cost(usage: Mapping[str, Any], event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the cost that a gateway reports in a usage object or beside it; `source` is where it stands.

    Amounts are US dollars: no gateway that reports a cost has been seen to name another currency.
    """
    ticks = _amount(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return _cost(ticks / _TICKS, "usage.cost_in_usd_ticks")
    cost = usage.get("cost")
    places: tuple[tuple[str, object], ...] = (
        ("usage.cost", cost),
        ("usage.cost.total_cost", mapping(cost).get("total_cost")),
        ("usage.estimated_cost", usage.get("estimated_cost")),
        ("usage.total_cost", usage.get("total_cost")),
        ("provider_metadata.gateway.cost", _gateway(event).get("cost")),
        ("cost", event.get("cost")),
    )
    for source, value in places:
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
    """Return the entries of a `logprobs` object, one a token; a form without entries is one entry itself."""
    if is_array(logprobs):
        return logprobs
    if not is_object(logprobs):
        return []
    content = logprobs.get("content")
    if is_array(content):
        return content
    return [logprobs] if any(logprobs.values()) and not logprobs.get("refusal") else []
