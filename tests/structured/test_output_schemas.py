"""Test the forms of a schema: closed for vendors, a model for a prompt's `schema:`, an example for the demo."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, cast

import jsonschema
import pytest
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from streamcore import stream_request
from streamcore.errors import BadRequestError, ConfigError
from streamcore.prompts.schema import SchemaBlock
from streamcore.request import Tool
from streamcore.structured.output import Output
from streamcore.testing.simulator.example import example
from streamcore.wire.closed_schema import closed_schema
from streamcore_anthropic.request import SCHEMAS as ANTHROPIC
from tests.support import ask


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = Field(ge=1, lt=10)


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool = True


class Tree(BaseModel):
    """A tree."""

    name: str = Field(min_length=2, max_length=20, pattern=r"^[a-z]+\d{2,}$", examples=["oak12"])
    children: list[Tree] = Field(default=[], max_length=3)
    parent: Tree | None = Field(None, description="Above it.")


class Order(BaseModel):
    colour: Colour
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    other: Cat | Dog | None = None
    tree: Tree = Field(description="Which one.")
    price: float = Field(gt=0, le=100, multiple_of=0.5)
    count: int = Field(gt=3, lt=6)
    when: datetime.date
    at: datetime.datetime
    id: uuid.UUID
    tags: list[Annotated[str, Field(min_length=3)]] = Field(min_length=2, max_length=4)
    code: str = Field(pattern=r"^(AB|CD)-\d{3}[x-z]?$")


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of an object in a schema."""
    if isinstance(schema, dict):
        mapping = cast("dict[str, Any]", schema)
        if mapping.get("type") == "object":
            yield mapping
        for value in mapping.values():
            yield from objects(value)
    elif isinstance(schema, list):
        items = cast("list[object]", schema)
        for item in items:
            yield from objects(item)


# Closed forms

MODELS: list[Any] = [Order, Tree, Cat]


@pytest.mark.parametrize("model", MODELS)
def test_the_strict_form_forbids_other_keys_and_requires_all_keys(model: type[BaseModel]) -> None:
    closed = closed_schema(model.model_json_schema())
    assert closed is not None
    found = list(objects(closed))
    assert found
    for one in found:
        assert one["additionalProperties"] is False
        assert one["required"] == list(one["properties"])
    text = json.dumps(closed)
    for word in ('"default"', '"oneOf"', '"discriminator"', '"allOf"', '"minLength"', '"maxLength"', '"examples"'):
        assert word not in text
    jsonschema.Draft202012Validator.check_schema(closed)


@pytest.mark.parametrize("model", MODELS)
def test_the_strict_form_has_the_objects_of_the_sdks_helper(model: type[BaseModel]) -> None:
    """The objects have the same properties; the SDK's helper leaves in keywords that its API refuses."""
    closed = closed_schema(model.model_json_schema())
    theirs = to_strict_json_schema(model)
    mine = {(one.get("title"), tuple(one["properties"]), tuple(one["required"])) for one in objects(closed)}
    assert mine == {(one.get("title"), tuple(one["properties"]), tuple(one["required"])) for one in objects(theirs)}
    for name in theirs.get("$defs", {}):
        assert name in closed["$defs"]  # type: ignore[index]


@pytest.mark.parametrize("model", MODELS)
def test_the_other_closed_form_has_the_objects_of_the_sdks_helper(model: type[BaseModel]) -> None:
    closed = closed_schema(model.model_json_schema(), ANTHROPIC)
    theirs = transform_schema(model)
    mine = {(one.get("title"), tuple(one["properties"]), tuple(one.get("required", ()))) for one in objects(closed)}
    assert mine == {
        (one.get("title"), tuple(one["properties"]), tuple(one.get("required", ()))) for one in objects(theirs)
    }


@pytest.mark.parametrize("model", MODELS)
def test_the_example_of_a_closed_form_fits_the_schema(model: type[BaseModel]) -> None:
    """The example also satisfies the constraints that the closed form has only in descriptions."""
    closed = closed_schema(model.model_json_schema())
    assert closed is not None
    value = example(closed)
    jsonschema.validate(value, closed)
    jsonschema.validate(value, model.model_json_schema())
    model.model_validate(value)


def test_constraints_that_a_vendor_does_not_support_move_to_the_description() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "minLength": 2, "description": "A name."},
            "b": {"type": "string", "format": "binary"},
            "c": {"type": "string", "pattern": "(?!x)y"},
            "d": {"type": "integer", "minimum": 1},
        },
    }
    assert (closed_schema(schema) or {})["properties"] == {
        "a": {"type": "string", "description": "A name. (minLength: 2)"},
        "b": {"type": "string", "description": "format: binary"},
        "c": {"type": "string", "description": "pattern: (?!x)y"},
        "d": {"type": "integer", "minimum": 1},
    }
    assert (closed_schema(schema, ANTHROPIC) or {})["properties"]["d"] == {
        "type": "integer",
        "description": "minimum: 1",
    }


def with_property(**schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}}


def nested(levels: int) -> dict[str, Any]:
    """Return a schema of objects inside each other."""
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


DEEP = nested(5_000)


OPEN_SCHEMAS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "array", "items": {"type": "string"}},
    {"anyOf": [{"type": "object", "properties": {}}]},
    {"type": "object"},
    {"$ref": "#/$defs/A"},
    {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
    {"type": "object", "properties": {}, "additionalProperties": True},
    {"type": "object", "properties": {"a": True}},
    with_property(),
    with_property(type="object"),
    with_property(type="object", additionalProperties={"type": "string"}),
    with_property(type="array"),
    with_property(type="array", prefixItems=[{"type": "string"}]),
    with_property(type="string", contentEncoding="base64"),
    with_property(**{"$ref": "https://example.com/a.json"}),
    with_property(**{"$ref": "#/$defs/none"}),
    with_property(**{"$ref": ["#"]}),
    {"$ref": "#"},
    {"$ref": ["#"]},
    {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
    with_property(**{"$ref": "#"}),
    with_property(**DEEP),
    with_property(allOf=[{"type": "string"}, {"minLength": 2}]),
    with_property(**{"not": {"type": "string"}}),
]


@pytest.mark.parametrize("schema", OPEN_SCHEMAS)
def test_a_schema_that_allows_any_keys_or_items_has_no_closed_form(schema: dict[str, Any]) -> None:
    assert closed_schema(schema) is None


def test_the_given_schema_is_not_changed() -> None:
    schema = Order.model_json_schema()
    before = json.dumps(schema)
    closed_schema(schema)
    assert json.dumps(schema) == before


# `schema:` of a prompt


def block(**fields: dict[str, Any]) -> SchemaBlock:
    return SchemaBlock.model_validate({"name": "Answer", "fields": fields})


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ({"type": "str"}, "a", 1),
        ({"type": "int"}, 3, "x"),
        ({"type": "float"}, 0.5, "x"),
        ({"type": "bool"}, True, "x"),
        ({"type": "Any"}, {"a": [1]}, None),
        ({"type": "list"}, [1, "a"], 1),
        ({"type": "list[int]"}, [1], ["x"]),
        ({"type": "dict[str, list[int]]"}, {"a": [1]}, {"a": ["x"]}),
        ({"type": "dict"}, {"a": 1}, [1]),
        ({"type": "int", "constraints": {"ge": 1, "lt": 5}}, 4, 5),
        ({"type": "str", "constraints": {"pattern": "b+(?=c)", "max_length": 9}}, "abbc", "abb"),
        ({"type": "list[str]", "constraints": {"min_length": 2}}, ["a", "b"], ["a"]),
        ({"type": "dict[str, int]", "constraints": {"max_length": 1}}, {"a": 1}, {"a": 1, "b": 2}),
        ({"type": "float", "optional": True, "constraints": {"le": 1}}, 1.0, 2.0),
    ],
)
def test_a_field_accepts_what_its_json_schema_accepts(field: dict[str, Any], good: Any, bad: Any) -> None:
    made = block(x=field)
    model = made.model
    assert model.model_validate_json(json.dumps({"x": good})).model_dump() == {"x": good}
    jsonschema.validate({"x": good}, made.json_schema())
    if field["type"] == "Any":
        return
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps({"x": bad}))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"x": bad}, made.json_schema())


def test_defaults_and_optional_fields() -> None:
    made = block(
        a={"type": "int", "default": 3}, b={"type": "str", "optional": True}, c={"type": "list[int]", "default": [1]}
    )
    first, second = made.model(), made.model()
    assert first.model_dump() == {"a": 3, "b": None, "c": [1]}
    assert first.c is not second.c  # type: ignore[attr-defined]
    assert made.model(b=None, z=1).model_dump() == first.model_dump(), "an unknown key is ignored"


@pytest.mark.parametrize("name", ["copy", "json", "schema", "model_name", "first name", "class", "naïve"])
def test_a_field_may_have_the_name_of_a_method_or_a_keyword(name: str) -> None:
    made = block(**{name: {"type": "int"}})
    assert getattr(made.model.model_validate({name: 3}), name) == 3


@pytest.mark.parametrize("name", ["_private", "__dunder__", "model_dump", "model_config", "model_fields"])
def test_a_field_may_not_have_a_reserved_name(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        block(**{name: {"type": "int"}})


def test_the_output_of_a_block_has_its_name_and_schema() -> None:
    made = block(a={"type": "int"})
    assert made.output is made.output
    assert made.output.schema == made.json_schema()
    assert made.output.name == "Answer"


def test_outputs_are_cached_by_type() -> None:
    assert Output.of(Tree) is Output.of(Tree)
    assert Output.of({"type": "object"}) is Output.of({"type": "object"})
    assert Output.of(Annotated[list[int], Field(json_schema_extra={"x": []})]).schema["x"] == []
    with pytest.raises(ConfigError):
        Output.of(object())


# Examples

TYPES: list[Any] = [
    Order,
    Tree,
    dict[str, Cat],
    list[Dog],
    tuple[int, str],
    set[Annotated[int, Field(ge=4)]],
    Union[None, int],  # noqa: UP007
    Annotated[dict[str, int], Field(min_length=3)],
    Annotated[list[str], Field(min_length=3)],
    Annotated[int, Field(multiple_of=7, gt=7)],
    Annotated[float, Field(gt=0, lt=0.001)],
    Annotated[float, Field(lt=-3)],
    Annotated[int, Field(le=-3)],
    Annotated[str, Field(max_length=1)],
    Annotated[str, Field(min_length=30, pattern="^[A-Z]")],
    Annotated[str, Field(pattern=r"^\+\d{2} \d{3,4}-[^0-9a]{2}\w$")],
    Annotated[str, Field(pattern=r"^(?:red|green)+$", min_length=9)],
    decimal.Decimal,
    datetime.timedelta,
    datetime.time,
    Literal[3, "x"],
]


@pytest.mark.parametrize("wanted", TYPES, ids=str)
def test_the_example_of_a_type_fits(wanted: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    value = example(adapter.json_schema())
    adapter.validate_json(json.dumps(value))
    jsonschema.validate(value, adapter.json_schema())


Schema = dict[str, Any]
Schemas = st.SearchStrategy[Schema]


def integers(low: int, more: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": low + more}


def numbers(low: int, more: int) -> Schema:
    return {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + more}


def strings(low: int, more: int) -> Schema:
    return {"type": "string", "minLength": low, "maxLength": low + more}


def arrays(item: Schema, least: int) -> Schema:
    return {"type": "array", "items": item, "minItems": least}


def objects_of(fields: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": fields, "required": sorted(fields)[:1]}


def mappings(value: Schema) -> Schema:
    return {"type": "object", "additionalProperties": value, "minProperties": 2}


def unions(options: list[Schema]) -> Schema:
    return {"anyOf": options}


def described(schema: Schema) -> Schema:
    return {"allOf": [schema, {"description": "too"}]}


OTHER_SCALARS: list[Schema] = [{"type": "boolean"}, {"type": "null"}, {"enum": ["x", 1]}, {"const": [1]}, {}]
SCALARS: Schemas = (
    st.builds(integers, st.integers(-9, 9), st.integers(0, 9))
    | st.builds(numbers, st.integers(-9, 9), st.integers(1, 9))
    | st.builds(strings, st.integers(0, 20), st.integers(0, 9))
    | st.sampled_from(OTHER_SCALARS)
)


def containers(inner: Schemas) -> Schemas:
    """Return schemas that have the inner ones in each way that JSON Schema has."""
    return (
        st.builds(arrays, inner, st.integers(0, 3))
        | st.builds(objects_of, st.dictionaries(st.sampled_from("abcd"), inner, max_size=3))
        | st.builds(mappings, inner)
        | st.builds(unions, st.lists(inner, min_size=1, max_size=3))
        | st.builds(described, inner)
    )


SCHEMAS: Schemas = st.recursive(SCALARS, containers, max_leaves=8)


@given(SCHEMAS)
def test_the_example_of_any_schema_fits(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema), schema)


@given(SCHEMAS)
def test_the_example_of_a_closed_form_without_descriptions_fits_any_schema(schema: dict[str, Any]) -> None:
    wanted = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    closed = closed_schema(wanted)
    if closed is not None and '"description"' not in json.dumps(closed):
        jsonschema.validate(example(closed), wanted)


END = {"type": "object", "properties": {"end": {"type": "integer"}}, "required": ["end"]}
NODE = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, END]}}, "required": ["next"]}
JSON = {
    "anyOf": [
        {"type": "array", "items": {"$ref": "#/$defs/Json"}, "minItems": 2},
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/Json"}, "minProperties": 1},
        {"type": "string"},
    ]
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
        {"$ref": "#/$defs/Json", "$defs": {"Json": JSON}},
        {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}, "required": ["kids"]},
        {"type": "array", "items": {"$ref": "#/prefixItems/0"}, "prefixItems": [{"type": "integer"}]},
    ],
)
def test_an_example_of_a_recursive_schema_ends(schema: dict[str, Any]) -> None:
    jsonschema.validate(example(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#"}]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        DEEP,
    ],
)
def test_a_schema_without_a_finite_value_has_no_example(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no example can be made"):
        example(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": None},
        {"type": "object", "properties": {"a": {"enum": 1}}},
        {"type": "number", "multipleOf": 0},
        {"type": "string", "pattern": "("},
        {"type": "string", "minLength": 10**12},
        {"anyOf": 5},
    ],
)
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_demo_refuses_a_schema_that_is_not_valid_as_a_vendor_does(
    schema: dict[str, Any], anyio_backend: str
) -> None:
    asked = ask(tools=[Tool("f", "", schema)])
    with pytest.raises(BadRequestError, match="no example can be made"):
        await stream_request(asked, provider="demo").collect()
