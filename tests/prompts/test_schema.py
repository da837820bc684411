"""Test `schema:`: every type, constraint, default and optional field, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streamcore.prompts.schema import SchemaBlock, type_schema


def block(**fields: dict[str, Any]) -> SchemaBlock:
    return SchemaBlock.model_validate({"name": "Answer", "fields": fields})


def field_schema(**field: Any) -> dict[str, Any]:
    found: dict[str, Any] = block(x=field).json_schema()["properties"]["x"]
    return found


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", {"type": "string"}),
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("Any", {}),
        ("any", {}),
        ("list", {"type": "array"}),
        ("dict", {"type": "object"}),
        ("list[str]", {"type": "array", "items": {"type": "string"}}),
        (" list [ int ] ", {"type": "array", "items": {"type": "integer"}}),
        ("dict[str, Any]", {"type": "object", "additionalProperties": {}}),
        (
            "dict[str,list[dict[str, float]]]",
            {
                "type": "object",
                "additionalProperties": {
                    "type": "array",
                    "items": {"type": "object", "additionalProperties": {"type": "number"}},
                },
            },
        ),
    ],
)
def test_types(text: str, schema: dict[str, Any]) -> None:
    assert type_schema(text) == schema


@given(
    st.recursive(
        st.sampled_from([("str", {"type": "string"}), ("int", {"type": "integer"}), ("Any", {})]),
        lambda inner: (
            inner.map(lambda one: (f"list[{one[0]}]", {"type": "array", "items": one[1]}))
            | inner.map(lambda one: (f"dict[str, {one[0]}]", {"type": "object", "additionalProperties": one[1]}))
        ),
        max_leaves=20,
    )
)
def test_types_nest_freely(one: tuple[str, dict[str, Any]]) -> None:
    text, schema = one
    assert type_schema(text) == schema


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("strng", "unknown type 'strng'; did you mean 'str'?"),
        ("string", "unknown type 'string'; write str"),
        ("integer", "write int"),
        ("boolean", "write bool"),
        ("List[str]", "write list[...]"),
        ("Optional[int]", "the type alone and 'optional: true'"),
        ("str | None", "use 'optional: true' for a value that may be null"),
        ("list[str | int]", "unknown type 'str | int' in 'list[str | int]'"),
        ("list[flot]", "unknown type 'flot' in 'list[flot]'; did you mean 'float'?"),
        ("dict[int, str]", "the keys of a dict are str, as in dict[str, int]"),
        ("dict[str]", "the keys of a dict are str"),
        ("list[]", "unknown type '' in 'list[]': expected str, int"),
        ("list[str", "unknown type 'list[str'"),
        ("str]", "unknown type 'str]'"),
        ("date", "expected str, int, float, bool, Any, list, dict, list[...] or dict[str, ...]"),
        ("", "unknown type ''"),
        ("list[" * 40 + "str" + "]" * 40, "nested more than 32 levels"),
        ("list[" * 100_000 + "]" * 100_000, "nested more than 32 levels"),
    ],
)
def test_unknown_types(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        type_schema(text)
    assert said in str(caught.value)


@given(st.text("strliditfoanyA[], |\n", max_size=20))
def test_any_text_is_a_type_or_a_value_error(text: str) -> None:
    try:
        found: object = type_schema(text)
    except ValueError:
        found = {}
    assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("kind", "constraints", "schema"),
    [
        ("int", {"ge": 1, "le": 5}, {"type": "integer", "minimum": 1, "maximum": 5}),
        ("float", {"gt": 0, "lt": 0.5}, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}),
        ("str", {"min_length": 1, "max_length": 9}, {"type": "string", "minLength": 1, "maxLength": 9}),
        ("str", {"pattern": "^a+$"}, {"type": "string", "pattern": "^a+$"}),
        ("list", {"min_length": 1}, {"type": "array", "minItems": 1}),
        ("list[int]", {"max_length": 2}, {"type": "array", "items": {"type": "integer"}, "maxItems": 2}),
        ("dict", {"min_length": 0, "max_length": 2}, {"type": "object", "minProperties": 0, "maxProperties": 2}),
        ("str", {}, {"type": "string"}),
    ],
)
def test_constraints(kind: str, constraints: dict[str, Any], schema: dict[str, Any]) -> None:
    assert field_schema(type=kind, constraints=constraints) == schema


def test_numbers_of_constraints_keep_their_kind() -> None:
    found = field_schema(type="float", constraints={"ge": 1, "le": 2.0})
    assert (repr(found["minimum"]), repr(found["maximum"])) == ("1", "2.0")


@pytest.mark.parametrize(
    ("field", "at"),
    [
        ({"type": "int", "constraints": {"lle": 1}}, ("constraints", "lle")),
        ({"type": "int", "constraints": {"ge": "1"}}, ("constraints", "ge")),
        ({"type": "int", "constraints": {"ge": True}}, ("constraints", "ge")),
        ({"type": "int", "constraints": {"ge": None}}, ("constraints", "ge")),
        ({"type": "str", "constraints": {"min_length": -1}}, ("constraints", "min_length")),
        ({"type": "str", "constraints": {"min_length": 1.5}}, ("constraints", "min_length")),
        ({"type": "str", "constraints": {"pattern": "("}}, ("constraints", "pattern")),
        ({"type": "nothing"}, ("type",)),
        ({"type": 1}, ("type",)),
        ({"typ": "str"}, ("type",)),
        ({"type": "str", "optional": "yes"}, ("optional",)),
    ],
)
def test_refused_fields(field: dict[str, Any], at: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        block(x=field)
    assert ("fields", "x", *at) in [problem["loc"][: 2 + len(at)] for problem in caught.value.errors()]


@pytest.mark.parametrize(
    ("field", "at", "said"),
    [
        ({"type": "str", "constraints": {"ge": 1}}, ("constraints", "ge"), "only to int, float"),
        ({"type": "int", "constraints": {"pattern": "a"}}, ("constraints", "pattern"), "only to str"),
        (
            {"type": "bool", "constraints": {"max_length": 1}},
            ("constraints", "max_length"),
            "only to str, list, dict",
        ),
        ({"type": "Any", "constraints": {"le": 1}}, ("constraints", "le"), "does not apply to the type Any"),
        ({"type": "int", "default": "x"}, ("default",), "'x' is not of the type int"),
        ({"type": "int", "default": True}, ("default",), "True is not of the type int"),
        ({"type": "str", "default": 1}, ("default",), "1 is not of the type str"),
        ({"type": "list[str]", "default": {}}, ("default",), "{} is not of the type list[str]"),
        ({"type": "float", "default": False}, ("default",), "False is not of the type float"),
    ],
)
def test_keys_that_contradict_each_other(field: dict[str, Any], at: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        block(x=field)
    (problem,) = caught.value.errors()
    assert problem["ctx"]["at"] == at
    assert said in problem["msg"]


def test_the_whole_schema() -> None:
    found = block(
        mood={"type": "str", "description": "one word"},
        note={"type": "str", "optional": True, "constraints": {"max_length": 9}, "description": "if any"},
        anything={"type": "Any", "optional": True},
        tags={"type": "list[str]", "default": []},
        score={"type": "float", "default": 1},
        zero={"type": "int", "default": 0},
        flag={"type": "bool", "default": False, "optional": True},
    ).json_schema()
    assert found == {
        "title": "Answer",
        "type": "object",
        "properties": {
            "mood": {"type": "string", "description": "one word"},
            "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "description": "if any"},
            "anything": {},
            "tags": {"type": "array", "items": {"type": "string"}, "default": []},
            "score": {"type": "number", "default": 1},
            "zero": {"type": "integer", "default": 0},
            "flag": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": False},
        },
        "required": ["mood"],
        "additionalProperties": False,
    }


def test_schemas_share_nothing() -> None:
    one = type_schema("str")
    one["x"] = 1
    assert type_schema("str") == {"type": "string"}
