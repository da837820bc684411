"""Test that the arguments of calls are valid JSON for AG-UI clients, whatever the model writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.sse.agui.arguments import BROKEN, ArgumentText

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


def sent(text: str, size: int) -> tuple[list[str], ArgumentText]:
    """Return what is sent of a text that arrives in pieces."""
    arguments = ArgumentText()
    pieces = [arguments.add(text[at : at + size]) for at in range(0, len(text), size)]
    return [*pieces, arguments.close()], arguments


@given(OBJECTS, st.integers(1, 9), st.booleans(), st.sampled_from([None, 2]))
def test_valid_arguments_are_sent_as_they_are(value: Any, size: int, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    pieces, arguments = sent(text, size)
    assert "".join(pieces) == text
    assert pieces[-1] == ""  # all before the end of the call
    assert arguments.complete
    assert not arguments.broken


@given(OBJECTS, st.integers(0, 200), st.integers(1, 9))
def test_cut_arguments_become_valid_and_keep_the_text(value: Any, cut: int, size: int) -> None:
    text = json.dumps(value)[:cut]
    pieces, arguments = sent(text, size)
    if not text.strip():
        assert pieces[-1] == ""
        return
    found = json.loads("".join(pieces))
    if arguments.complete:
        assert found == value
    else:
        assert found[BROKEN] == text


@given(st.text(st.sampled_from('{}[]":, \\nu0aé1.-eE\x00tfNaN'), max_size=20), st.integers(1, 4))
def test_any_text_becomes_valid(text: str, size: int) -> None:
    pieces, arguments = sent(text, size)
    whole = "".join(pieces)
    try:
        json.loads(text, parse_constant=lambda constant: pytest.fail(constant))
    except (ValueError, pytest.fail.Exception):
        assert not arguments.complete or not text.strip()
    else:
        assert arguments.complete
        assert whole == text
    if text.strip():
        json.loads(whole)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        (" ", ""),
        ("[1, 2]", "[1, 2]"),
        ("null", "null"),
        ("Paris", '{"INVALID_JSON": "Paris"}'),
        ("{", '{"INVALID_JSON":"{"}'),
        ("{'a': 1}", '{"INVALID_JSON":"{\'a\': 1}"}'),
        ('{"a": 1', '{"a": 1,"INVALID_JSON":"{\\"a\\": 1"}'.replace(" 1,", "null,", 1)),
        ('{"a": NaN}', '{"a":null,"INVALID_JSON":"{\\"a\\": NaN}"}'),
        ('{"a": 1, b}', '{"a": 1,"INVALID_JSON":"{\\"a\\": 1, b}"}'),
        ('{"a": 1}}', '{"a": 1}'),
        ('{"a": 1} ', '{"a": 1} '),
        ('{"a": "x\ny"}', '{"a": "x","INVALID_JSON":"{\\"a\\": \\"x\\ny\\"}"}'),
        ('{"a": [{"b": "x', '{"a": [{"b": "x"}],"INVALID_JSON":"{\\"a\\": [{\\"b\\": \\"x"}'),
        ('{"a": [1, ', '{"a": [1,null],"INVALID_JSON":"{\\"a\\": [1, "}'),
        ('{"ke', '{"ke":null,"INVALID_JSON":"{\\"ke"}'),
    ],
)
def test_what_is_sent(text: str, whole: str) -> None:
    for size in (1, 3, 100):
        assert "".join(sent(text, size)[0]) == whole


def test_arguments_are_sent_as_they_arrive() -> None:
    arguments = ArgumentText()
    pieces = ['{"city": "Pa', "ris\\u00", 'e9", "days": 1', "2, ", '"x": tr', "ue}"]
    assert [arguments.add(piece) for piece in pieces] == [
        '{"city": "Pa',
        "ris",
        '\\u00e9", "days":',
        " 12,",
        ' "x":',
        " true}",
    ]


def test_deep_arguments_are_broken_and_cost_little() -> None:
    pieces, arguments = sent('{"a":' * 100_000, 10_000)
    assert arguments.broken
    json.loads("".join(pieces))
