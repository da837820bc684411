"""Test how a prompt's text is filled in: placeholders, Jinja2, and the error for a missing variable."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from streamcore.files.template import MAX_TEXT, TemplateError, check, fill


class Mood(Enum):
    GOOD = "good"


class Order(BaseModel):
    title: str = "Tea"
    items: list[str] = ["cup", "pot"]
    _secret: str = "hidden"

    def total(self) -> int:
        return 3


@dataclass
class Guest:
    name: str = "Ada"
    orders: list[Order] = field(default_factory=lambda: [Order()])
    _secret: str = "hidden"


VARIABLES: dict[str, Any] = {
    "name": "Ada",
    "größe": 3,
    "list": ["a", 1, ["b", None]],
    "empty": [],
    "user": {"name": "Bob", "deep": {"x": 1}, "items": [1, 2]},
    "order": Order(),
    "guest": Guest(),
    "mood": Mood.GOOD,
    "none": None,
}
STATE: dict[str, Any] = {"turn": 4, "name": "of the state", "result": {"score": 0.5}}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Hi {name}!", "Hi Ada!"),
        ("{name}{name}", "AdaAda"),
        ("{größe}", "3"),
        ("{list}", "a, 1, b, None"),
        ("[{empty}]", "[]"),
        ("{user.name} {user.deep.x}", "Bob 1"),
        ("{order.title}: {order.items}", "Tea: cup, pot"),
        ("{guest.name}", "Ada"),
        ("{mood}", "good"),
        ("{none}", "None"),
        # The state: by its own name, and for names that are no variables.
        ("{state.turn} {turn} {result.score}", "4 4 0.5"),
        ("{state.name} {name}", "of the state Ada"),
        # Anything else in braces stays.
        ('{"a": 1, "b": {}, "c": {"d": [1]}}', '{"a": 1, "b": {}, "c": {"d": [1]}}'),
        ("{} {0} {1.5} {a b} {a-b} { name } {name!r} {name:>9} {a[0]} {.a} {a.} {a..b} {a.0}",) * 2,
        ("{\nname\n}", "{\nname\n}"),
        ("f({x: {name}})", "f({x: Ada})"),
        ("", ""),
        ("no braces % $name", "no braces % $name"),
        # Jinja2.
        ("{{ name }} {name}", "Ada {name}"),
        ("{% if turn > 3 %}late{% endif %}", "late"),
        ("{{ state.turn }} {{ turn }} {{ state.name }} {{ name }}", "4 4 of the state Ada"),
        ("{{ user.name }} {{ user['name'] }} {{ user.deep.x }}", "Bob Bob 1"),
        ("{{ guest.orders[0].title }}", "Tea"),
        ("{{ mood }} {{ none }}", "good None"),
        ("{{ style | default('friendly') }} {{ user.x is defined }}", "friendly False"),
        ("{{ list | join('; ') }}", "a; 1; ['b', None]"),
        ("{# no comment #}{{ name }}\n", "Ada\n"),
        ("{% raw %}{{ name }}{% endraw %}", "{{ name }}"),
        # A field that is named like a method, of a model as of a mapping; the call is the method.
        ("{{ order.items | join(' ') }} {{ user.items | length }}", "cup pot 2"),
        ("{% for key, value in user.items() %}{{ key }} {% endfor %}", "name deep items "),
        ("{{ guest }}", "{'name': 'Ada', 'orders': [{'title': 'Tea', 'items': ['cup', 'pot']}]}"),
    ],
)
def test_fill(text: str, filled: str) -> None:
    assert fill(text, VARIABLES, STATE) == filled


def test_a_variable_named_state_overrides_the_state() -> None:
    variables = {"state": {"x": "mine"}}
    assert fill("{state.x}", variables, {"x": "theirs"}) == "mine"
    assert fill("{{ state.x }}", variables, {"x": "theirs"}) == "mine"


@pytest.mark.parametrize(
    ("text", "reported", "at"),
    [
        ("a {nme} b", "the variable 'nme' is missing; did you mean 'name'?", "{nme}"),
        ("{user.nme}", "the variable 'user.nme' is missing: there is no 'nme' in it; did you mean 'name'?", "{user"),
        ("{user.name.x}", "there is no 'x' in it", "{user"),
        ("{order.total}", "there is no 'total' in it; did you mean 'title'? it has 'items', 'title'", "{order"),
        ("{order._secret}", "there is no '_secret' in it", "{order"),
        ("{guest._secret}", "there is no '_secret' in it", "{guest"),
        ("{guest.__class__}", "there is no '__class__' in it", "{guest"),
        ("{name.upper}", "there is no 'upper' in it", "{name"),
        ("{state.nowhere}", "the variable 'state.nowhere' is missing", "{state"),
        ("{name}\n{{ nme }}", "the variable 'nme' is missing; did you mean 'name'?", "nme }}"),
        ("nme\n\n{% if nme %}x{% endif %}", "the variable 'nme' is missing", "nme %}"),
        ("{{ user.nme }}", "the variable 'user.nme' is missing: there is no 'nme' in it", "user.nme"),
        (
            "{% for x in list %}\n{{ x.foo }}{% endfor %}",
            "the variable 'x.foo' is missing: 'str object' has no attribute 'foo'",
            "x.foo",
        ),
        ("{{ list[9] }}", "a variable is missing: list object has no element 9", "{{ list"),
        ("{{ order.total() }}", "the variable 'order.total' is missing", "order.total"),
        ("{{ guest._secret }}", "the variable 'guest._secret' is missing", "guest._secret"),
        ("{{ state.nowhere }}", "the variable 'state.nowhere' is missing", "state.nowhere"),
        ("a\n{{ 1 / 0 }}", "the Jinja2 text failed: division by zero", "{{ 1"),
        ("a\n{{ name + 1 }}", "the Jinja2 text failed: can only concatenate str", "{{ name"),
        ("{{ name", "this is not valid Jinja2: unexpected end of template", "{{ name"),
        ("a\nb {% if %}", "this is not valid Jinja2: Expected an expression", "b {% if"),
        ("a\n{{ name | uper }}", "No filter named 'uper'. Did you mean 'upper'?", "{{ name"),
        ("{{ name is strin }}", "No test named 'strin'. Did you mean 'string'?", "{{ name"),
        ("\n{% include 'other' %}", "include, import and extends are not available", "{% include"),
        ("{% extends 'other' %}", "include, import and extends are not available", "{% extends"),
        ("{% import 'other' as o %}", "include, import and extends are not available", "{% import"),
        ("{% from 'other' import o %}", "include, import and extends are not available", "{% from"),
    ],
)
def test_problems_are_reported_with_their_line(text: str, reported: str, at: str) -> None:
    with pytest.raises(TemplateError) as caught:
        fill(text, VARIABLES, STATE)
    assert reported in str(caught.value)
    assert text[caught.value.offset :].startswith(at)


def test_the_whole_message() -> None:
    with pytest.raises(TemplateError) as caught:
        fill("Hi {nme}", {"name": 1}, {})
    assert str(caught.value) == "the variable 'nme' is missing; did you mean 'name'? given were 'name'"
    assert caught.value.offset == 3


def test_values_of_other_types_become_plain_ones() -> None:
    class Number(int):
        def secret(self) -> str:
            return "secret"

    class Word(str):
        def secret(self) -> str:
            return "secret"

    class Share(float):
        pass

    values = {"n": Number(7), "w": Word("word"), "s": Share(0.5), "day": date(2026, 1, 31), "set": {1}}
    assert (
        fill("{{ n + 1 }} {{ w.upper() }} {{ s * 2 }} {{ day }} {{ set }}", values, {}) == "8 WORD 1.0 2026-01-31 [1]"
    )
    assert fill("{n} {w} {s} {day}", values, {}) == "7 word 0.5 2026-01-31"
    for name in ("n", "w"):
        with pytest.raises(TemplateError, match="secret"):
            fill(f"{{{{ {name}.secret() }}}}", values, {})


def test_a_deep_value_is_no_loop() -> None:
    value: Any = "bottom"
    for _ in range(60):
        value = [value]
    assert fill("{{ v }}", {"v": value}, {}) == "[" * 60 + "'bottom'" + "]" * 60


def test_a_missing_variable_says_what_was_given_but_no_values() -> None:
    with pytest.raises(TemplateError, match="given were 'key', 'turn'") as caught:
        fill("{name}", {"key": "sk-secret"}, {"turn": "secret"})
    assert "secret" not in str(caught.value)
    with pytest.raises(TemplateError, match="given were none"):
        fill("{{ name }}", {}, {})


@pytest.mark.parametrize("text", ["{{ name", "{% if x %}", "{{ x | nothing }}", "{% for %}", "{% include 'x' %}"])
def test_check_needs_no_variables(text: str) -> None:
    with pytest.raises(TemplateError, match="not valid Jinja2"):
        check(text)


@pytest.mark.parametrize("text", ["{{ name }}", "{name", "{% if x %}{% endif %}", ""])
def test_check_accepts_templates_that_may_work(text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", ["{v}", "{{ v }}"])
def test_a_value_that_contains_itself_is_refused(text: str) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(TemplateError, match="contains itself"):
        fill(text, {"v": loop}, {})


def test_placeholders_have_the_limit_of_jinja() -> None:
    half = "x" * (MAX_TEXT // 2)
    assert fill("{a}{a}", {"a": half}, {}) == half * 2
    with pytest.raises(TemplateError, match="more than 4194304 characters"):
        fill("{a}{a}{b}", {"a": half, "b": "y"}, {})


ANY_TEXT = st.text(st.characters(codec="utf-8"))


@given(ANY_TEXT)
def test_a_value_is_inserted_unchanged(value: str) -> None:
    assert fill("{v}", {"v": value}, {}) == value
    assert fill("{{ v }}", {"v": value}, {}) == value


@given(st.sampled_from(["{v}", "{{ v }}", "{% x %}", "{state}", "{", "}}"]), st.sampled_from(["<{v}>", "<{{ v }}>"]))
def test_a_value_is_never_read_again(value: str, text: str) -> None:
    assert fill(text, {"v": value}, {}) == f"<{value}>"


UNBRACED = st.text(st.characters(codec="utf-8", exclude_characters="{}"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | UNBRACED,
    lambda inner: st.lists(inner) | st.dictionaries(UNBRACED, inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from([None, 2]))
def test_json_stays(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert fill(text, {}, {}) == text


BITS = re.findall(
    r"\S+", "{{ }} {% %} { } if for in set endfor x y . [ ] ( ) | join 'a' 9 * ** ~ % = format __class__ items"
)


@given(st.lists(st.sampled_from([*BITS, " ", "\n"]), max_size=16).map("".join))
def test_any_template_gives_text_or_a_template_error(text: str) -> None:
    offset = 0
    try:
        fill(text, {"x": ["a"], "y": {"a": 1}}, {})
    except TemplateError as error:
        offset = error.offset
    assert 0 <= offset <= len(text)
