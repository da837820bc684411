"""Read custom prices, find the one that applies, and refuse what is not a price."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamcore import Completion, ConfigError, Usage
from streamcore.pricing import Prices, cost_of
from streamcore.pricing.counts import Counts

DAY = datetime(2026, 11, 29, tzinfo=UTC)
MILLION = 1_000_000


def amount(prices: Any, counts: Counts, model: str = "m", provider: str | None = "own") -> Decimal | None:
    cost = Prices.of(prices).cost(provider, model, counts, DAY)
    return None if cost is None else cost.amount


def test_cached_and_reasoning_tokens_have_their_own_prices() -> None:
    counts = Counts(10 * MILLION, 4 * MILLION, 2 * MILLION, MILLION, 3 * MILLION)
    plain = {"input": 1, "output": "0.5"}
    assert amount({"m": plain}, counts) == Decimal(12)
    dearer = {**plain, "cache_read": "0.1", "cache_write": 2, "reasoning": 1.5}
    assert amount({"m": dearer}, counts) == 7 + Decimal("0.2") + 2 + Decimal("0.5") + Decimal("4.5")


def test_a_provider_comes_before_a_model_and_a_pattern_matches() -> None:
    prices = {
        "m": {"input": 1, "output": 0},
        "own/*": {"input": 2, "output": 0},
        "tiny-*": {"input": 3, "output": 0},
    }
    counts = Counts(MILLION, 0)
    assert amount(prices, counts) == 2
    assert amount(prices, counts, provider="other") == 1
    assert amount(prices, counts, "tiny-4b", None) == 3
    assert amount(prices, counts, "unknown", None) is None


def test_a_tier_applies_to_all_tokens() -> None:
    row = {"input": 1, "output": 2, "tiers": [{"above": 100, "input": 10}, {"above": 1000, "input": 20, "output": 30}]}
    assert amount({"m": row}, Counts(100, 100)) == Decimal(300) / MILLION
    assert amount({"m": row}, Counts(101, 100)) == Decimal(1010 + 200) / MILLION
    assert amount({"m": row}, Counts(1001, 100)) == Decimal(20020 + 3000) / MILLION


def test_a_price_applies_from_its_day() -> None:
    rows = [
        {"input": 1, "output": 1},
        {"input": 2, "output": 2, "since": "2026-11-29"},
        {"input": 3, "output": 3, "since": "2026-11-30"},
    ]
    prices = Prices.of({"m": rows})
    for day, expected, since in ((28, 1, None), (29, 2, "2026-11-29"), (30, 3, "2026-11-30")):
        cost = prices.cost("own", "m", Counts(MILLION, 0), datetime(2026, 11, day, tzinfo=UTC))
        assert cost is not None
        assert (cost.amount, cost.since) == (Decimal(expected), since)


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"m": {"input": 0.25, "output": 1, "since": "2026-01-01"}}'
    path = tmp_path / f"prices{suffix}"
    path.write_text(text if suffix == ".json" else "m:\n  input: 0.25\n  output: 1\n  since: 2026-01-01\n", "utf-8")
    answer = Completion(usage=Usage(MILLION, 0), model="m", provider="own")
    cost = cost_of(answer, prices=path)
    assert cost is not None
    assert (cost.amount, cost.price_list, cost.since) == (Decimal("0.25"), path.name, "2026-01-01")
    monkeypatch.setenv("STREAMCORE_PRICES", str(path))
    assert answer.cost == cost


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"m": 3}, "are a mapping"),
        ({"m": "3"}, "are a mapping"),
        ({"m": [3]}, "are a mapping"),
        ({"m": {"input": 1}}, "need 'input' and 'output'"),
        ({"m": {"input": 1, "output": -1}}, "'output' is an amount"),
        ({"m": {"input": "much", "output": 1}}, "'input' is an amount"),
        ({"m": {"input": True, "output": 1}}, "'input' is an amount"),
        ({"m": {"input": "nan", "output": 1}}, "'input' is an amount"),
        ({"m": {"input": 1, "output": 1, "cached": 1}}, "no key 'cached'"),
        ({"m": {"input": 1, "output": 1, "since": "soon"}}, "'since' is a day"),
        ({"m": {"input": 1, "output": 1, "tiers": [{"input": 2}]}}, "needs 'above'"),
    ],
)
def test_what_is_not_a_price(prices: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prices.of(prices)


def test_a_file_that_is_not_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("- 1\n", "utf-8")
    with pytest.raises(ConfigError, match="mapping of models"):
        Prices.of(path)
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        Prices.of(str(tmp_path / "none.yaml"))
