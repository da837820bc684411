"""Keep prices of your own: per provider and model, from a mapping or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeGuard, cast

from streamcore.cost import Cost
from streamcore.errors import ConfigError
from streamcore.pricing.counts import Counts

VARIABLE = "STREAMCORE_PRICES"
"""The environment variable with the path of a file of prices."""
_MILLION = 1_000_000
_KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, slots=True)
class _Rates:
    """Prices for a million tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write: Decimal
    reasoning: Decimal

    def amount(self, counts: Counts) -> Decimal:
        plain = counts.input - counts.cache_read - counts.cache_write
        return (
            self.input * plain
            + self.cache_read * counts.cache_read
            + self.cache_write * counts.cache_write
            + self.output * (counts.output - counts.reasoning)
            + self.reasoning * counts.reasoning
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class _Price:
    """The price of one entry: `tiers` are for prompts with more than a number of tokens, the largest first."""

    name: str
    rates: _Rates
    tiers: tuple[tuple[int, _Rates], ...]
    currency: str
    since: date | None

    def rates_for(self, counts: Counts) -> _Rates:
        return next((rates for above, rates in self.tiers if counts.input > above), self.rates)


@dataclass(frozen=True, slots=True)
class Prices:
    """Hold prices of your own, which override those of `genai-prices`; `Prices.of` makes them."""

    entries: tuple[_Price, ...] = field(default=(), repr=False)
    source: str = "own prices"
    """What `Cost.price_list` says."""

    @classmethod
    def of(cls, given: Prices | Mapping[str, Any] | str | Path) -> Prices:
        """Return the prices in a mapping, or in a YAML or JSON file.

        Keys are models, as `my-model` or `provider/my-model`; `*` and `?` match any text. Of several keys that match,
        the one that comes first counts, and those with a provider come before those without. Values are mappings:
        `input` and `output`, the price of a million tokens in US dollars; and if they differ from these, `cache_read`,
        `cache_write` and `reasoning`; `currency`; `since`, the first day of the price; and `tiers`, a list of mappings
        with the same prices and `above`, the tokens of the prompt from which they apply to all tokens. An entry may be
        a list of such mappings with different `since`.

        Raises:
            ConfigError: the file cannot be read, or an entry is not valid; the message names it.
        """
        if isinstance(given, Prices):
            return given
        if isinstance(given, str | Path):
            return cls(_entries(_read(Path(given))), Path(given).name)
        return cls(_entries(given))

    def cost(self, provider: str | None, model: str, counts: Counts, at: datetime) -> Cost | None:
        """Return what an answer costs; None if no entry is for this model."""
        named = [entry for entry in self.entries if _applies(entry, provider, model, at)]
        if not named:
            return None
        key = named[0].name
        price = max((entry for entry in named if entry.name == key), key=lambda entry: entry.since or date.min)
        amount = price.rates_for(counts).amount(counts)
        since = None if price.since is None else price.since.isoformat()
        return Cost(amount, price.currency, "prices", price.name, self.source, since)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _applies(entry: _Price, provider: str | None, model: str, at: datetime) -> bool:
    if entry.since is not None and at.date() < entry.since:
        return False
    return fnmatchcase(model, entry.name) or fnmatchcase(f"{provider}/{model}", entry.name)


def _read(path: Path) -> Mapping[str, Any]:
    from streamcore.files.yaml_file import is_mapping, load_yaml  # imports yaml

    found: Any = load_yaml(path, ConfigError).data
    if not is_mapping(found):
        raise ConfigError(f"{path}: a file of prices is a mapping of models to prices")
    return found


def _entries(given: Mapping[str, Any]) -> tuple[_Price, ...]:
    """Return the entries, those with a provider first."""
    found: list[_Price] = []
    for name in sorted(given, key=lambda name: "/" not in name):
        value: object = given[name]
        rows = value if _is_list(value) else [value]
        found += [_entry(name, row) for row in rows]
    return tuple(found)


def _entry(name: str, given: Any) -> _Price:
    if not isinstance(given, Mapping):
        raise ConfigError(f"the prices of {name!r} are a mapping with 'input' and 'output', not {given!r}")
    row = dict(cast("Mapping[str, Any]", given))
    tiers = row.pop("tiers", ())
    currency = row.pop("currency", "USD")
    since = _day(name, row.pop("since", None))
    rates = _rates(name, row, None)
    found: list[tuple[int, _Rates]] = []
    for tier in cast("Sequence[Any]", tiers):
        values = dict(cast("Mapping[str, Any]", tier)) if isinstance(tier, Mapping) else {}
        above = values.pop("above", None)
        if isinstance(above, bool) or not isinstance(above, int):
            raise ConfigError(f"the prices of {name!r}: a tier needs 'above', a number of tokens, not {above!r}")
        found.append((above, _rates(name, values, rates)))
    return _Price(name, rates, tuple(sorted(found, key=lambda tier: -tier[0])), str(currency), since)


def _rates(name: str, row: Mapping[str, Any], base: _Rates | None) -> _Rates:
    unknown = sorted(set(row) - set(_KINDS))
    if unknown:
        raise ConfigError(f"the prices of {name!r} have no key {unknown[0]!r}; known are {', '.join(_KINDS)}")
    if base is None and not {"input", "output"} <= row.keys():
        raise ConfigError(f"the prices of {name!r} need 'input' and 'output', the prices of a million tokens")
    values = {kind: _price(name, kind, row[kind]) for kind in row}
    prompt = values.get("input", None if base is None else base.input)
    output = values.get("output", None if base is None else base.output)
    assert prompt is not None  # noqa: S101  checked above
    assert output is not None  # noqa: S101
    own = base is None or "input" in values
    return _Rates(
        prompt,
        output,
        values.get("cache_read", prompt if own or base is None else base.cache_read),
        values.get("cache_write", prompt if own or base is None else base.cache_write),
        values.get("reasoning", output if base is None or "output" in values else base.reasoning),
    )


def _price(name: str, kind: str, value: Any) -> Decimal:
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        price = Decimal(-1)
    if isinstance(value, bool) or not price.is_finite() or price < 0:
        raise ConfigError(f"the prices of {name!r}: {kind!r} is an amount for a million tokens, not {value!r}")
    return price


def _day(name: str, value: Any) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise ConfigError(f"the prices of {name!r}: 'since' is a day as 2026-11-29, not {value!r}") from error


_used: dict[str, Prices] = {}


def use_prices(prices: Prices | Mapping[str, Any] | str | Path | None) -> None:
    """Set the prices that `Completion.cost` and limits use before those of `genai-prices`, for the whole process.

    They override the file that `STREAMCORE_PRICES` names; None goes back to that file.

    Raises:
        ConfigError: see `Prices.of`.
    """
    _used.clear()
    if prices is not None:
        _used["set"] = Prices.of(prices)


def own_prices() -> Prices:
    """Return the prices that are set, or those of the file that the environment names; none if there are none."""
    if "set" in _used:
        return _used["set"]
    path = os.environ.get(VARIABLE, "")
    if path not in _used:
        _used[path] = Prices.of(path) if path else Prices()
    return _used[path]
