"""Test that a state is refused if saving it would change its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel

from streamcore import ConfigError
from streamcore.graph.thread import as_json_data


class Counts(BaseModel):
    by_number: dict[int, str] = {1: "one"}


@dataclass
class Plain:
    by_number: dict[Any, str] = field(default_factory=lambda: {None: "none"})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: "a", "1": "b"}, "got has the key 1"),
        ({"a": [{True: 1}]}, r"got.a\[0\] has the key True"),
        ({None: 1}, "the key None"),
        ({(1, 2): 1}, r"the key \(1, 2\)"),
        ({1.5: 1}, "the key 1.5"),
        (({2: 1},), r"got\[0\] has the key 2"),
        (Counts(), "got.by_number has the key 1"),
        (Plain(), "got.by_number has the key None"),
    ],
)
def test_a_key_that_is_not_text_is_refused(value: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        as_json_data({"got": value}, "the output of node 'work'")


def test_a_key_that_is_not_text_is_refused_at_the_top() -> None:
    values: Any = {1: "a"}
    with pytest.raises(ConfigError, match="the key 1"):
        as_json_data(values, "state")


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(ConfigError, match="must be JSON data"):
        as_json_data(value, "state")


def test_models_and_tuples_become_json() -> None:
    assert as_json_data({"a": (1, 2), "b": {"c": None}}, "state") == {"a": [1, 2], "b": {"c": None}}
