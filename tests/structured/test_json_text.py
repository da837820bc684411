"""Test how JSON is found in an answer, whole and growing, with fences and prose around it and cut anywhere."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.structured.json_text import NOTHING, GrowingJson, documents, unfenced

SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
# Texts that look like what surrounds JSON, or like JSON.
TRICKY = st.text(st.sampled_from('abé{}[]":,\\`~\n 12.-\U0001f600'), max_size=12) | st.sampled_from(
    ["```json\n{}\n```", "```", '{"a": 1}', "\\u00e9", 'say "hi"']
)
DATA = st.recursive(
    SCALARS | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TRICKY, DATA, min_size=1, max_size=4) | st.lists(
    st.dictionaries(TRICKY, DATA, max_size=2), min_size=1, max_size=3
)
PROSE = st.text(st.sampled_from("abc .,!?éß\n"), max_size=30)
INDENTS = st.sampled_from([None, 2])


def written(data: Any, indent: int | None, ascii_only: bool) -> str:
    return json.dumps(data, indent=indent, ensure_ascii=ascii_only)


def pieces(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def growth(parts: list[str]) -> list[Any]:
    growing = GrowingJson()
    seen = [growing.add(part) for part in parts if part]
    seen.append(growing.end(""))
    return [data for data in seen if data is not NOTHING]


# Whole documents


@given(OBJECTS, INDENTS, st.booleans(), PROSE, PROSE)
def test_json_with_prose_around_it_is_found(data: Any, indent: int, ascii_only: bool, before: str, after: str) -> None:
    text = written(data, indent, ascii_only)
    assert list(documents(f"{before}{text}{after}")) == [text]


@given(DATA, INDENTS, st.sampled_from(["```", "```json", "~~~", "````json"]), st.sampled_from(["\n", "\n\n", " \n"]))
def test_any_json_in_a_fence_is_found(data: Any, indent: int, fence: str, end: str) -> None:
    text = written(data, indent, ascii_only=False)
    answer = f"\n{fence}\n{text}{end}{fence[: len(fence.rstrip('json'))]}\n"
    if fence[:3] in text:  # a fence in a string ends a shorter fence
        return
    assert unfenced(answer) == text
    assert [json.loads(one) for one in documents(answer)] == [data]


@given(OBJECTS, PROSE, PROSE)
def test_json_in_a_fence_with_prose_around_it_is_found(data: Any, before: str, after: str) -> None:
    text = written(data, 2, ascii_only=False)
    assert list(documents(f"{before}\n```json\n{text}\n```\n{after}")) == [text]


@given(st.lists(OBJECTS, min_size=2, max_size=4), PROSE)
def test_several_documents_are_found_in_order(many: list[Any], between: str) -> None:
    texts = [written(one, None, ascii_only=False) for one in many]
    assert list(documents(f" {between} ".join(texts))) == texts


@given(OBJECTS, st.integers(1, 10**6))
def test_no_part_of_a_cut_document_is_found(data: Any, cut: int) -> None:
    text = written(data, None, ascii_only=False)
    assert list(documents(text[: cut % len(text)])) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("no", []),
        ("42", ["42"]),
        (' "hi" ', ['"hi"']),
        ("null", ["null"]),
        ("The answer is 42.", []),
        ('{name} is Ada: {"a": 1}', ['{"a": 1}']),
        ('see [1] and [x]: {"a": 1}', ["[1]", '{"a": 1}']),
        ('open { and then {"a": 1}', ['{"a": 1}']),
        ('a 5" pipe: {"a": 1}', ['{"a": 1}']),
        ("{'a': {\"b\": 1}}", []),
        ('{"a": \'x\', "b": {"c": 1}}', []),
        ('{"a": \'x\', "b": {"c": 1}} or {"d": 2}', ['{"d": 2}']),
        ('{"a": 1,} {"b": 2}', ['{"b": 2}']),
        ('{"items": [{"a": 1}, {"a"', []),
        ('```json\n{"code": "```py\\nx = {}\\n```"}\n```', ['{"code": "```py\\nx = {}\\n```"}']),
        ('````\n```json\n{"a": 1}\n```\n````', ['{"a": 1}']),
        ('<think>{maybe}</think>\n{"a": 1}', ['{"a": 1}']),
        ('\ufeff{"a": 1}', ['{"a": 1}']),
        ("[" * 100_000, []),
        ('{"a":' * 100_000, []),
        ("[" * 200 + "]" * 200, ["[" * 200 + "]" * 200]),
        ("[" * 201 + "]" * 201, []),
        ("[" * 900 + "]" * 900, []),
        ("[" * 100_000 + "]" * 100_000, []),
        ('"' + "[" * 300 + '"', ['"' + "[" * 300 + '"']),
        ('{"a": "one\ntwo\r\n\tthree"}', [r'{"a": "one\ntwo\r\n\tthree"}']),
        ('Here:\n{\n  "a\n": "say \\"x\n\\"\x00"\n}\nDone.', ['{\n  "a\\n": "say \\"x\\n\\"\\u0000"\n}']),
        ('"one\ntwo"', [r'"one\ntwo"']),
    ],
)
def test_unusual_answers(text: str, found: list[str]) -> None:
    assert list(documents(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "{ " * 50_000,
        "{a} " * 50_000,
        "[x " * 50_000,
        '{"a": "' + '\\"' * 100_000,
        '{"a":1,' * 50_000,
        "[1," * 50_000,
        "```\n" + " \n" * 50_000,
    ],
)
def test_the_time_for_hostile_answers_grows_linearly(text: str) -> None:
    """Text that is 16 times as long must not take 256 times as long; the bound is 100, in CPU time."""

    def cost(part: str) -> float:
        best = 60.0
        for _ in range(3):
            start = time.process_time()
            list(documents(part))
            best = min(best, time.process_time() - start)
        return best

    assert cost(text) < 100 * cost(text[: len(text) // 16]) + 0.1


# Growing ones


def is_part(less: Any, more: Any) -> bool:
    """Return whether a value can grow into another one."""
    if type(less) is not type(more):
        return False
    if isinstance(less, dict):
        keys: list[str] = [*less]
        return keys == [*more][: len(keys)] and all(is_part(less[key], more[key]) for key in keys)
    if isinstance(less, list):
        items = cast("list[object]", less)
        return len(items) <= len(more) and all(map(is_part, items, more))
    return bool(more.startswith(less) if isinstance(less, str) else less == more)


@given(OBJECTS, INDENTS, st.booleans(), PROSE, PROSE, st.lists(st.integers(0, 10**6), max_size=60))
def test_objects_only_grow_and_are_whole_at_the_end(
    data: Any, indent: int, ascii_only: bool, before: str, after: str, cuts: list[int]
) -> None:
    text = f"{before}\n```json\n{written(data, indent, ascii_only)}\n```\n{after}"
    seen = growth(pieces(text, cuts))
    assert seen[-1] == data
    for earlier, later in pairwise(seen):
        assert is_part(earlier, later)
        assert earlier != later


@given(OBJECTS)
def test_objects_grow_letter_by_letter(data: Any) -> None:
    seen = growth(list(written(data, None, ascii_only=False)))
    assert seen[-1] == data
    assert all(is_part(one, data) for one in seen)


def test_the_growth_of_an_object() -> None:
    assert growth(list('{"a": "hi", "n": 120, "ok": true, "l": [1, 2]}')) == [
        {},
        {"a": ""},
        {"a": "h"},
        {"a": "hi"},
        {"a": "hi", "n": 120},
        {"a": "hi", "n": 120, "ok": True},
        {"a": "hi", "n": 120, "ok": True, "l": []},
        {"a": "hi", "n": 120, "ok": True, "l": [1]},
        {"a": "hi", "n": 120, "ok": True, "l": [1, 2]},
    ]


def test_line_ends_in_strings_arrive_at_once() -> None:
    assert growth(['{\n"a": "one', "\n", "two", '\t"', ', "b": [1, 2]', "\n}\nBye."]) == [
        {"a": "one"},
        {"a": "one\n"},
        {"a": "one\ntwo"},
        {"a": "one\ntwo\t"},
        {"a": "one\ntwo\t", "b": [1, 2]},
    ]


@pytest.mark.parametrize("depth", [199, 201, 900, 50_000])
def test_deep_json_grows_without_an_error(depth: int) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    growing = GrowingJson()
    for start in range(0, len(text), 1 + len(text) // 50):
        growing.add(text[start : start + 1 + len(text) // 50])
    assert (growing.end("") is NOTHING) == (depth > 200 or growing.add("") is NOTHING)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ('{name}: {"a": 1}', {"a": 1}),
        ('use { so: {"a": 1}', {"a": 1}),
        ("42", 42),
        ('{"a": \'x\', "b": {"c": 1}} {"d": 2}', {"d": 2}),
    ],
)
def test_unusual_answers_grow_to_the_last_document(text: str, last: Any) -> None:
    assert growth(list(text))[-1] == last


@pytest.mark.parametrize("text", ["", "no", "{'a': 1}", "{\"a\": 'x'" + ' "b",' * 2000])
def test_answers_without_json_give_nothing(text: str) -> None:
    assert growth(list(text)) in ([], [{}])
