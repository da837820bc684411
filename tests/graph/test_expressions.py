"""Test the expressions of graph files: values, texts, conditions, missing paths, and what the sandbox refuses."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.files.template import TemplateError
from streamcore.graph.expressions import check_condition, check_value, holds, names_in, resolve

STATE: dict[str, Any] = {
    "turn": 1,
    "name": "Ada",
    "critique": {"score": 0.5, "feedback": "hm", "items": [1]},
    "history": [1],
    "gone": None,
    "_loop_counts": {"critique": 2},
    "text": "<b>&amp;",
}

VALUES: list[tuple[Any, Any]] = [
    ("{state.turn + 1}", 2),
    ("{turn + 1}", 2),
    ("{ state.turn }", 1),
    ("{state.turn * 2 - 1 / 2}", 1.5),
    ("{state.critique.score}", 0.5),
    ("{critique['feedback']}", "hm"),
    ("{state.critique.items}", [1]),
    ("{state.history + [state.name]}", [1, "Ada"]),
    ("{state.history + [{'role': 'user', 'content': name}]}", [1, {"role": "user", "content": "Ada"}]),
    ("{history[0]}", 1),
    ("{'low' if critique.score < 0.8 else 'high'}", "low"),
    ("{turn > 0 and not gone}", True),
    ("{{'a': state.turn}}", {"a": 1}),
    ("{'a': state.turn}", {"a": 1}),
    ("{[gone, 1]}", [None, 1]),
    ("{_loop_counts.critique}", 2),
    ("{history | length}", 1),
    ("{state.text}", "<b>&amp;"),
    # What does not exist
    ("{nope}", None),
    ("{state.nope.deep[3].er}", None),
    ("{state.nope + 1}", None),
    ("{state.gone}", None),
    ("{state.gone + 1}", None),
    ("{nope or []}", []),
    ("{state.items}", None),
    # As in Jinja2
    ("{{ state.turn + 1 }}", 2),
    ("{{name}}", "Ada"),
    ("Hi {{ state.name }}, {{turn}}", "Hi Ada, 1"),
    # Texts
    ("plain", "plain"),
    ("", ""),
    ("Hi {state.name}!", "Hi Ada!"),
    ("{name} and {name}", "Ada and Ada"),
    ("{turn + 1}. {critique.score}", "2. 0.5"),
    ("[{nope}]", "[]"),
    ("{history} items", "1 items"),
    ('say {"a": 1} {not an expression} {', 'say {"a": 1} {not an expression} {'),
    # Other values
    (5, 5),
    (None, None),
    (True, True),
    ({"a": ["{turn}", {"b": "x{turn}"}]}, {"a": [1, {"b": "x1"}]}),
]


@pytest.mark.parametrize(("value", "result"), VALUES)
def test_values(value: Any, result: Any) -> None:
    check_value(value)
    found = resolve(value, STATE)
    assert found == result
    assert type(found) is type(result)


CONDITIONS = [
    ("critique.score < 0.8", True),
    ("critique.score >= 0.8", False),
    ("state.turn == 1 and name == 'Ada'", True),
    ("{turn == 1}", True),
    ("not (turn > 3 or gone)", True),
    ("'Ad' in name", True),
    ("name not in ['Ada']", False),
    ("critique", True),
    ("nope", False),
    ("not nope", True),
    ("nope.score < 0.8", False),
    ("nope.score >= 0.8", False),
    ("nope.score < 0.8 or turn == 1", True),
    ("gone < 1", False),
    ("gone == null", True),
    ("nope == null", True),
    ("nope != 'x'", True),
    ("nope is none", True),
    ("nope is defined", False),
    ("name < 3", False),
    ("_loop_counts.critique < 3", True),
    ("true", True),
]


@pytest.mark.parametrize(("text", "result"), CONDITIONS)
def test_conditions(text: str, result: bool) -> None:
    check_condition(text)
    assert holds(text, STATE) is result


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{a b}", "'a b' is not a valid expression: chunk after expression"),
        ("{state.}", "'state.' is not a valid expression"),
        ({"a": ["{x +}"]}, "'x +' is not a valid expression"),
        ("{x | nofilter}", "No filter named 'nofilter'"),
    ],
)
def test_invalid_expressions_are_found_without_a_state(value: Any, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check_value(value)
    assert says in str(caught.value)
    with pytest.raises(TemplateError):
        check_condition("x <")


@pytest.mark.parametrize(
    "value",
    [
        "{'a' * 10**9}",
        "{'x'.ljust(10**9)}",
        "{range(10**9) | list}",
        "{9 ** 9999}",
        "{history.append(1)}",
        "{critique.update(a=1)}",
        "{range}",
        "{''.format_map}",
        "{history | map('string')}",
        "{cycler('a')}",
        "{name + 1}",
        "{1 / 0}",
        "x {turn / 0} y",
    ],
)
def test_operations_that_the_sandbox_refuses(value: str) -> None:
    before = repr(STATE)
    with pytest.raises(TemplateError, match=r"the expression .* failed|not a value"):
        resolve(value, STATE)
    assert repr(STATE) == before


@pytest.mark.parametrize(
    "value",
    ["{''.__class__}", "{''.__class__.__mro__[1].__subclasses__()}", "{state.__class__}", "{(1).__add__}", "{joiner}"],
)
def test_attributes_that_the_sandbox_hides(value: str) -> None:
    with suppress(TemplateError):
        assert resolve(value, STATE) is None


@given(st.text())
def test_any_text_is_resolved_or_refused(text: str) -> None:
    with suppress(TemplateError):
        check_value(text)
        resolve(text, STATE)


@given(st.text(alphabet=st.characters(exclude_characters="{}")))
def test_a_text_without_braces_stays(text: str) -> None:
    assert resolve(text, STATE) == text


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{state.a + b.c}", {"a", "b"}),
        ('x {state.q.r} {s} {"json": 1} {no expression}', {"q", "s"}),
        ("{range(n) | list}", {"n"}),
        ("plain", set[str]()),
    ],
)
def test_names(text: str, names: set[str]) -> None:
    assert set(names_in(text)) == names


def test_names_of_a_condition() -> None:
    assert set(names_in("critique.score < state.limit", condition=True)) == {"critique", "limit"}


@pytest.mark.parametrize("count", [100, 500, 3000])
@pytest.mark.parametrize(
    ("opening", "closing"), [("(", ")"), ("[", "]"), ("not ", ""), ("-", ""), ("1+", ""), ("a[", "]"), ("{1: ", "}")]
)
def test_a_nested_expression_is_evaluated_or_refused(opening: str, closing: str, count: int) -> None:
    text = "{{ " + opening * count + "1" + closing * count + " }}"
    for call in (lambda: resolve(text, {"a": [0]}), lambda: check_value(text), lambda: [*names_in(text)]):
        try:
            call()
        except TemplateError as error:
            assert len(str(error)) < 1000  # noqa: PT017  an expression may also be valid


def test_a_long_expression_is_refused() -> None:
    with pytest.raises(TemplateError, match="at most 10000 characters"):
        resolve("{" + "a and " * 2000 + "a}", {})
