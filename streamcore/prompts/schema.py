"""Convert a prompt file's `schema:` (fields with types and constraints) to JSON Schema and to a pydantic model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from types import GenericAlias
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator, model_validator

from streamcore.files.yaml_model import FileModel, did_you_mean, wrong
from streamcore.structured.output import Output

MAX_DEPTH = 32

_SCALARS: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "Any": {},
    "any": {},
    "list": {"type": "array"},
    "dict": {"type": "object"},
}
_OTHER_NAMES: Mapping[str, str] = {
    "string": "str",
    "text": "str",
    "integer": "int",
    "number": "float",
    "double": "float",
    "boolean": "bool",
    "array": "list[...]",
    "List": "list[...]",
    "tuple": "list[...]",
    "set": "list[...]",
    "object": "dict[str, ...]",
    "Dict": "dict[str, ...]",
    "Optional": "the type alone and 'optional: true'",
}
_GENERIC = re.compile(r"\s*(list|dict)\s*\[(.*)\]\s*", re.DOTALL)

# For each constraint, its name in JSON Schema by the JSON type that it applies to.
_CONSTRAINTS: Mapping[str, Mapping[str, str]] = {
    "ge": {"integer": "minimum", "number": "minimum"},
    "le": {"integer": "maximum", "number": "maximum"},
    "gt": {"integer": "exclusiveMinimum", "number": "exclusiveMinimum"},
    "lt": {"integer": "exclusiveMaximum", "number": "exclusiveMaximum"},
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
    "pattern": {"string": "pattern"},
}
_PYTHON: Mapping[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list,
    "object": dict,
}


def type_schema(text: str) -> dict[str, Any]:
    """Return the JSON Schema of a type such as `str`, `list[int]` or `dict[str, list[float]]`.

    Raises:
        ValueError: the text is not a known type.
    """
    return _type_schema(text, text, 0)


def _type_schema(text: str, whole: str, depth: int) -> dict[str, Any]:
    name = text.strip()
    if name in _SCALARS:
        return dict(_SCALARS[name])
    generic = _GENERIC.fullmatch(name)
    if generic is None:
        raise ValueError(_unknown_type(name, whole))
    if depth == MAX_DEPTH:
        raise ValueError(f"the type is nested more than {MAX_DEPTH} levels deep")
    kind, inside = generic.groups()
    if kind == "list":
        return {"type": "array", "items": _type_schema(inside, whole, depth + 1)}
    key, comma, value = inside.partition(",")
    if not comma or key.strip() != "str":
        raise ValueError(
            f"unknown type {name!r}{_within(name, whole)}: the keys of a dict are str, as in dict[str, int]"
        )
    return {"type": "object", "additionalProperties": _type_schema(value, whole, depth + 1)}


def _unknown_type(name: str, whole: str) -> str:
    stem = re.split(r"\W", name, maxsplit=1)[0]
    if "|" in name or stem == "Union":
        hint = "; use 'optional: true' for a value that may be null, and Any for other alternatives"
    elif stem in _OTHER_NAMES:
        hint = f"; write {_OTHER_NAMES[stem]}"
    else:
        hint = did_you_mean(name, [*_SCALARS])
    expected = "expected str, int, float, bool, Any, list, dict, list[...] or dict[str, ...]"
    return f"unknown type {name!r}{_within(name, whole)}{hint or ': ' + expected}"


def _within(name: str, whole: str) -> str:
    return "" if name == whole.strip() else f" in {whole.strip()!r}"


class Constraints(FileModel):
    """`constraints:` of a field. Only keys that the file sets are read; the defaults are never used."""

    ge: int | float = 0
    le: int | float = 0
    gt: int | float = 0
    lt: int | float = 0
    min_length: int = Field(default=0, ge=0)
    max_length: int = Field(default=0, ge=0)
    pattern: str = ""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a valid pattern: {error}") from error
        return pattern


class SchemaField(FileModel):
    """One field of `schema.fields`."""

    type: str
    description: str | None = None
    default: Any = None
    optional: bool = False
    constraints: Constraints = Field(default_factory=Constraints)

    @field_validator("type")
    @classmethod
    def _known(cls, text: str) -> str:
        type_schema(text)
        return text

    @model_validator(mode="after")
    def _fitting(self) -> SchemaField:
        kind = type_schema(self.type).get("type", "")
        for name in self.constraints.model_fields_set:
            if kind not in _CONSTRAINTS[name]:
                fits = ", ".join(_PYTHON[one].__name__ for one in _CONSTRAINTS[name])
                raise wrong(f"this does not apply to the type {self.type}, only to {fits}", "constraints", name)
        if self.default is not None and kind and not _is(self.default, kind):
            raise wrong(f"{self.default!r} is not of the type {self.type}", "default")
        return self

    @property
    def required(self) -> bool:
        """True if the answer must have the field."""
        return not self.optional and self.default is None

    def json_schema(self) -> dict[str, Any]:
        """Return the field's JSON Schema."""
        schema: dict[str, Any] = type_schema(self.type)
        kind: str = schema.get("type", "")
        for name, value in self.constraints.model_dump(exclude_unset=True).items():
            schema[_CONSTRAINTS[name][kind]] = value
        if self.optional and schema:
            schema = dict[str, Any](anyOf=[schema, {"type": "null"}])
        if self.description:
            schema["description"] = self.description
        if self.default is not None:
            schema["default"] = self.default
        return schema

    def python(self) -> tuple[Any, Any]:
        """Return the field's type and default, as `pydantic.create_model` takes them."""
        kind: Any = _python(type_schema(self.type))
        constraints = self.constraints.model_dump(exclude_unset=True)
        if constraints:
            kind = Annotated[kind, Field(**constraints)]
        if self.optional:
            kind = kind | None
        return kind, Field(... if self.required else self.default, description=self.description)


def _python(schema: Mapping[str, Any]) -> Any:
    """Return the Python type of a schema from `type_schema`."""
    kind = schema.get("type")
    if kind is None:
        return Any
    if kind == "array" and "items" in schema:
        return GenericAlias(list, (_python(schema["items"]),))
    if kind == "object":
        return GenericAlias(dict, (str, _python(schema.get("additionalProperties", {}))))
    return _PYTHON[kind]


def _is(value: object, kind: str) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is _PYTHON[kind]


class SchemaBlock(FileModel):
    """`schema:`, the short form of the answer's schema."""

    name: str
    fields: dict[str, SchemaField]

    @field_validator("fields")
    @classmethod
    def _usable(cls, fields: dict[str, SchemaField]) -> dict[str, SchemaField]:
        for name in fields:
            if name.startswith("_") or (name.startswith("model_") and hasattr(BaseModel, name)):
                raise wrong("a field cannot have this name, which pydantic reserves", name)
        return fields

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the answer."""
        return {
            "title": self.name,
            "type": "object",
            "properties": {name: field.json_schema() for name, field in self.fields.items()},
            "required": [name for name, field in self.fields.items() if field.required],
            "additionalProperties": False,
        }

    @cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model of an answer; it ignores keys that the block does not name."""
        with warnings.catch_warnings():
            # A field may have the name of a method, such as `copy` or `json`.
            warnings.filterwarnings("ignore", "Field name .* shadows an attribute", UserWarning)
            fields: dict[str, Any] = {name: field.python() for name, field in self.fields.items()}
            config = ConfigDict(regex_engine="python-re", protected_namespaces=(), allow_inf_nan=False)
            return create_model(self.name, __config__=config, **fields)

    @cached_property
    def output(self) -> Output:
        """How the pipeline validates the answer."""
        return replace(Output.of(self.model), name=self.name, schema=self.json_schema())
