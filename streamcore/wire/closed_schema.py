"""Write a JSON Schema in the narrower form that vendors enforce: closed objects, few keywords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.wire.lenient import is_array, is_object, items, mapping

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SchemaDialect:
    """Describe which schemas a vendor accepts."""

    require_all: bool
    """Every property must be required."""
    keywords: frozenset[str]
    """The constraints that it enforces, beside types, enums, references and unions; others go into a description."""
    formats: frozenset[str]
    """The values of `format` that it enforces."""


FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})

# OpenAI's strict mode, which others imitate: "Supported schemas" in its guide to structured outputs.
STRICT = SchemaDialect(True, _NUMBERS | {"pattern", "minItems", "maxItems"}, FORMATS)


class _OpenError(ValueError):
    """The schema has no closed form: it leaves something open."""


def closed_schema(schema: Json, dialect: SchemaDialect = STRICT) -> dict[str, Any] | None:
    """Return the closed form of a schema; None if its root is not an object, or if it leaves something open.

    A mapping with any keys, a value of any type and a tuple are open. Default values are left out, since every
    property is required, optional ones included.
    """
    root = schema
    seen: set[str] = set()
    try:
        while "$ref" in root and str(root["$ref"]) not in seen:
            seen.add(str(root["$ref"]))
            root = _resolve(root["$ref"], schema)
        if root.get("type") != "object" or "properties" not in root:
            return None
        closed = _close(root, schema, dialect, ())
        if "$defs" in schema:
            closed["$defs"] = {
                name: _close(inner, schema, dialect, (f"#/$defs/{name}",)) for name, inner in schema["$defs"].items()
            }
    except (_OpenError, RecursionError):
        return None
    return closed


_AS_IT_IS = frozenset({"type", "title", "description", "enum", "const"})
_LEFT_OUT = frozenset({"default", "examples", "discriminator", "$defs", "$schema", "$id"})
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties"})
_CONSTRAINTS = _NUMBERS | {"minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "pattern", "format"}


def _close(schema: Any, root: Json, dialect: SchemaDialect, within: tuple[str, ...]) -> dict[str, Any]:
    if not is_object(schema):
        raise _OpenError(schema)
    if "$ref" in schema:
        ref = schema["$ref"]
        beside = {key: value for key, value in schema.items() if key not in _LEFT_OUT and key != "$ref"}
        target = _resolve(ref, root)
        if not beside or ref in within:  # a reference has no other keys
            return {"$ref": ref}
        return _close({**target, **beside}, root, dialect, (*within, ref))
    kept: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _AS_IT_IS:
            kept[key] = value
        elif key in _CONSTRAINTS:
            (kept if _enforces(dialect, key, value) else described)[key] = value
        elif key == "items":
            kept["items"] = _close(value, root, dialect, within)
        elif key in ("anyOf", "oneOf"):
            kept["anyOf"] = [_close(one, root, dialect, within) for one in items(value)]
        elif key == "allOf" and len(items(value)) == 1:
            kept = {**_close(items(value)[0], root, dialect, within), **kept}
        elif key not in _LEFT_OUT | _OF_OBJECTS:
            raise _OpenError(key)
    if not {"type", "enum", "const", "anyOf", "$ref"} & kept.keys():
        raise _OpenError("a value of any type")
    return _with_properties(schema, _with_description(kept, described), root, dialect, within)


def _enforces(dialect: SchemaDialect, key: str, value: Any) -> bool:
    if key == "format":
        return value in dialect.formats
    return key in dialect.keywords and not (key == "pattern" and "(?" in value)  # no pattern may look around


def _with_properties(
    schema: Json, kept: dict[str, Any], root: Json, dialect: SchemaDialect, within: tuple[str, ...]
) -> dict[str, Any]:
    types = schema.get("type")
    if "array" in (types if is_array(types) else [types]) and "items" not in kept:
        raise _OpenError("items of any type")
    if "object" not in (types if is_array(types) else [types]):
        return kept
    if schema.get("additionalProperties", False) is not False or "properties" not in schema:
        raise _OpenError("a mapping with any keys")
    properties = mapping(schema["properties"])
    kept["properties"] = {name: _close(inner, root, dialect, within) for name, inner in properties.items()}
    kept["required"] = list(properties) if dialect.require_all else items(schema.get("required"))
    kept["additionalProperties"] = False
    return kept


def _with_description(kept: dict[str, Any], constraints: Json) -> dict[str, Any]:
    """Add constraints that the vendor does not enforce to the description: the model may keep to them."""
    if constraints:
        words = ", ".join(f"{key}: {value}" for key, value in constraints.items())
        kept["description"] = f"{kept['description']} ({words})" if "description" in kept else words
    return kept


def _resolve(ref: object, root: Json) -> Json:
    if not isinstance(ref, str):
        raise _OpenError(ref)
    found: Any = root
    for key in ref.removeprefix("#/").split("/"):
        found = found.get(key) if is_object(found) else None
    if not ref.startswith("#/$defs/") or not is_object(found):
        raise _OpenError(ref)
    return found
