"""Count what a template reads as work, even if it writes nothing, and limit its time."""

from __future__ import annotations

import pytest

from streamcore.files import sandbox
from streamcore.files.template import TemplateError, fill

LOOP = "{% for i in range(100000) %}{% if CONDITION %}{% endif %}{% endfor %}"
BIG = {"big": "a" * 1_000_000, "other": "a" * 999_999 + "b", "items": ["a"] * 20_000}


@pytest.mark.long
@pytest.mark.parametrize(
    "condition",
    [
        "big == other",
        "big < other",
        "'zz' in big",
        "'b' in items",
        "big.find('zz')",
        "items.index('a')",
        "big is eq(other)",
        "'b' is in(items)",
        "big[1:]",
        "(big | upper) == 'a'",
    ],
)
def test_reading_counts(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 600.0)  # a busy machine must not reach it first
    with pytest.raises(TemplateError, match="too much work"):
        fill(LOOP.replace("CONDITION", condition), BIG, {})


def test_small_comparisons_are_cheap() -> None:
    assert fill("{% for i in range(20000) %}{% if i == 'x' %}{% endif %}{% endfor %}done", {}, {}) == "done"


def test_a_template_has_a_limit_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", -1.0)
    with pytest.raises(TemplateError, match="too long"):
        fill("{% for i in range(10) %}{{ i }}{% endfor %}", {}, {})
