"""Check JSON Schemas, and data against them. The packages that do it are loaded with the first schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard
from urllib.parse import unquote

from streamcore.errors import ConfigError

_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")


def schema_validator(schema: Mapping[str, Any]) -> Any:
    """Return a validator for a JSON Schema; references to anything outside the schema are not followed.

    Raises:
        ConfigError: the schema is not valid, is nested too deeply, or has a reference that leads back to itself
            without entering the data, so that no check would end.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(
            f"the output schema is not a JSON Schema: {f'{where}: ' if where else ''}{error.message}"
        ) from error
    except RecursionError as error:
        raise ConfigError("the output schema is nested too deeply; use fewer levels") from error
    reference = endless_reference(schema)
    if reference is not None:
        raise ConfigError(
            f"the output schema refers to itself without an end: the reference {reference!r} leads back to its own "
            "schema; place it below 'properties' or 'items'"
        )
    return kind(schema, registry=Registry())  # pyright: ignore[reportUnknownArgumentType]  empty: fetches nothing


def referenced(reference: object, root: Mapping[str, Any]) -> Any:
    """Return the part of a schema that a `$ref` such as `#/$defs/Node` names; None if the schema has no such part."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if _is_object(found):
            found = found.get(key)
        elif _is_array(found) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def endless_reference(schema: Mapping[str, Any]) -> str | None:
    """Return a reference of the schema that leads back to its own place without entering the data, or None."""
    seen: set[int] = set()
    for start in _parts(schema):
        if id(start) in seen:
            continue
        path = {id(start)}
        open_parts = [(start, _beside(start, schema))]
        while open_parts:
            part, following = open_parts[-1]
            reference, inner = next(following, (None, None))
            if inner is None:
                open_parts.pop()
                path.discard(id(part))
                seen.add(id(part))
            elif id(inner) in path:
                return reference or "#"
            elif id(inner) not in seen:
                path.add(id(inner))
                open_parts.append((inner, _beside(inner, schema)))
    return None


def _parts(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every object of a schema."""
    found: list[Any] = [schema]
    while found:
        part = found.pop()
        if _is_object(part):
            yield part
            found.extend(part.values())
        elif _is_array(part):
            found.extend(part)


def _beside(part: dict[str, Any], root: Mapping[str, Any]) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Yield the schemas that apply to the same data as a schema, each with the reference that leads to it."""
    lists = (part.get(key) for key in _IN_PLACE_LISTS)
    candidates = [part.get(key) for key in _IN_PLACE] + [one for some in lists if _is_array(some) for one in some]
    yield from ((None, candidate) for candidate in candidates if _is_object(candidate))
    for key in ("$ref", "$dynamicRef"):
        target = referenced(part.get(key), root)
        if _is_object(target):
            yield str(part[key]), target


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
