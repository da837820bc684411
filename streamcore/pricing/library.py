"""Look prices up in `genai-prices`, which knows the models of most vendors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from streamcore.cost import Cost
from streamcore.pricing.counts import Counts
from streamcore.pricing.loading import current_list, installed

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, PriceCalculation

_DATE = re.compile(r"-(?:\d{4}-\d\d-\d\d|\d{8})$")
_vendors: list[tuple[DataSnapshot, frozenset[str]]] = []
"""The list that was used last, and the ids of its vendors."""


def _knows(snapshot: DataSnapshot, vendor: str) -> bool:
    """Return whether a list knows a vendor."""
    if not _vendors or _vendors[0][0] is not snapshot:
        _vendors[:] = [(snapshot, frozenset(one.id for one in snapshot.providers))]
    return vendor in _vendors[0][1]


def listed_cost(vendor: str, model: str, counts: Counts, at: datetime) -> Cost | None:
    """Return what an answer costs by the price list; None if the list does not know the vendor or the model.

    The first call imports the list, which takes about 0.3 s.

    Raises:
        ListNotLoaded: the list is not loaded, and `run_when_loaded` must not load it.
    """
    if not installed():
        return None
    snapshot = current_list()
    if not _knows(snapshot, vendor):
        return None
    try:
        _, found = snapshot.find_provider_model(model, None, vendor, None)
    except LookupError:
        undated = _DATE.sub("", model)  # a version that is newer than the list
        return None if undated == model else listed_cost(vendor, undated, counts, at)
    without: Mapping[str, int] = {}
    for details in (counts.details, without):
        try:
            price = _calculated(vendor, model, counts, details, at)
        except ValueError:  # counts that contradict each other
            continue
        if not vars(price.model_price):
            return None  # the model is listed without a price
        name = f"{price.provider.id}/{price.model.id}"
        return Cost(price.total_price, "USD", "prices", name, _list_name(price), _since(found, at))
    return None


def _calculated(vendor: str, model: str, counts: Counts, details: Mapping[str, int], at: datetime) -> PriceCalculation:
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=counts.input,
        output_tokens=counts.output,
        cache_read_tokens=counts.cache_read or None,
        cache_write_tokens=counts.cache_write or None,
        output_reasoning_tokens=counts.reasoning or None,
        **details,
    )
    context = dict(counts.context) or None
    return calc_price(usage, model, provider_id=vendor, genai_request_timestamp=at, price_context=context)


def _list_name(price: PriceCalculation) -> str:
    import genai_prices

    updated = price.auto_update_timestamp
    return f"genai-prices {genai_prices.__version__}" + ("" if updated is None else f", updated {updated:%Y-%m-%d}")


def _since(model: ModelInfo, at: datetime) -> str | None:
    """Return the day from which the price of a model applies, if the list has a new price since a day."""
    from genai_prices.types import StartDateConstraint

    if not isinstance(model.prices, list):
        return None
    for price in reversed(model.prices):
        if price.constraint is None or price.constraint.active(at):
            constraint = price.constraint
            return constraint.start_date.isoformat() if isinstance(constraint, StartDateConstraint) else None
    return None
