"""Turn a prompt file's `schema:` (fields with types and constraints) into JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
_CONSTRAINTS: Mapping[str, str] = {
    "ge": "minimum",
    "le": "maximum",
    "gt": "exclusiveMinimum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
}
_GENERIC = re.compile(r"^\s*(list|dict)\s*\[(.*)\]\s*$", re.DOTALL)


def type_schema(text: str) -> dict[str, Any]:
    """Return the JSON Schema of a type such as `str`, `list[int]` or `dict[str, list[float]]`.

    Raises:
        ValueError: the text is none of the known types.
    """
    name = text.strip()
    if name in _SCALARS:
        return dict(_SCALARS[name])
    generic = _GENERIC.match(name)
    if generic is None:
        raise ValueError(f"unknown type {text!r}: expected str, int, float, bool, Any, list[...] or dict[str, ...]")
    kind, inside = generic.groups()
    if kind == "list":
        return {"type": "array", "items": type_schema(inside)}
    key, comma, value = inside.partition(",")
    if not comma or key.strip() != "str":
        raise ValueError(f"unknown type {text!r}: the keys of a dict are text, as in dict[str, int]")
    return {"type": "object", "additionalProperties": type_schema(value)}


def field_schema(
    type_name: str, description: str | None, constraints: Mapping[str, Any], *, optional: bool, default: Any
) -> dict[str, Any]:
    """Return the JSON Schema of one field.

    Raises:
        ValueError: the type or a constraint is unknown.
    """
    schema = type_schema(type_name)
    lengths = ("minItems", "maxItems") if schema.get("type") == "array" else ("minLength", "maxLength")
    names = {**_CONSTRAINTS, "min_length": lengths[0], "max_length": lengths[1]}
    for name, value in constraints.items():
        if name not in names:
            raise ValueError(f"unknown constraint {name!r}: expected one of {', '.join(sorted(names))}")
        schema[names[name]] = value
    if optional and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if description:
        schema["description"] = description
    if default is not None:
        schema["default"] = default
    return schema


def object_schema(name: str, fields: Mapping[str, tuple[dict[str, Any], bool]]) -> dict[str, Any]:
    """Return the JSON Schema of the whole object; each field comes with whether it is required."""
    return {
        "title": name,
        "type": "object",
        "properties": {key: schema for key, (schema, _) in fields.items()},
        "required": [key for key, (_, required) in fields.items() if required],
        "additionalProperties": False,
    }
