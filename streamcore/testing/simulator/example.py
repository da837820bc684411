"""Make a value that is valid for a JSON Schema, for the answers of the demo provider and the simulator."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, cast

from streamcore.errors import ConfigError
from streamcore.structured.json_schema import referenced

_DEEP = 3
"""Below this level optional parts are left out, so that recursive schemas end."""
_FORMATS: Mapping[str, str] = {
    "date": "2026-03-01",
    "date-time": "2026-03-01T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}
_MOST_STEPS = 20_000
"""How many values are tried before a schema counts as one without a finite value."""
_LONGEST_TEXT = 1_000_000
Schema = Mapping[str, Any]


class _EndlessError(ValueError):
    """A value of the schema would contain itself."""


def example(schema: Schema, name: str = "value") -> Any:
    """Return a valid value, with nesting, references, unions, limits, formats and most patterns.

    Raises:
        ConfigError: the schema is not valid, is nested too deeply, or needs a text above a million characters; or every
            value would contain itself.
    """
    try:
        return _Maker(schema).value(schema, name, 0)
    except (_EndlessError, RecursionError) as error:
        raise ConfigError(
            "no example can be made for this schema: every value would contain another one of its kind, or it is "
            "nested too deeply; make the recursive part optional"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re.error) as error:
        raise ConfigError(
            f"no example can be made for this schema; check it: {type(error).__name__}: {error}"
        ) from error


class _Maker:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._steps = 0
        self._open: list[str] = []
        """The references whose value is being made below the level where optional parts are left out."""

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """Return a value; below `_DEEP`, one that contains no value of the same reference again.

        Raises:
            _EndlessError: there is no such value.
        """
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise _EndlessError(name)
        found: Schema = cast("Schema", schema) if isinstance(schema, Mapping) else {}
        if depth < _DEEP or "$ref" not in found:
            return self._value(found, name, depth)
        reference = str(found["$ref"])
        if reference in self._open:
            raise _EndlessError(reference)
        self._open.append(reference)
        try:
            return self._value(found, name, depth)
        finally:
            self._open.pop()

    def _value(self, schema: Schema, name: str, depth: int) -> Any:
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        if schema.get("default") is not None:
            return schema["default"]
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._first_possible(schema[key], name, depth)
        return self._of_type(schema, name, depth)

    def _first_possible(self, options: list[Any], name: str, depth: int) -> Any:
        """Return a value for the first option that has one; below `_DEEP`, for a plain option if there is one."""
        if depth >= _DEEP:
            plain = [one for one in options if self._resolved(one).get("type") not in ("object", "array", None)]
            options = plain[-1:] or options
        for option in options:
            try:
                return self.value(option, name, depth)
            except _EndlessError:
                continue
        raise _EndlessError(name)

    def _resolved(self, schema: Any) -> Schema:
        """Follow references, and merge the schemas of `allOf` into one."""
        found = dict(cast("Schema", schema)) if isinstance(schema, Mapping) else {}
        for _ in range(100):
            if "$ref" in found:
                target = referenced(found.pop("$ref"), self._root)
                found = {**(cast("Schema", target) if isinstance(target, Mapping) else {}), **found}
            elif "allOf" in found:
                for part in found.pop("allOf"):
                    found = {**found, **self._resolved(part)}
            else:
                break
        return found

    def _of_type(self, schema: Schema, name: str, depth: int) -> Any:
        kind: Any = schema.get("type", "object" if "properties" in schema else "string")
        match str(next(iter(kind), "string")) if isinstance(kind, list) else str(kind):  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
            case "object":
                return self._object(schema, name, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return int(_number(schema, 1, step=1))
            case "number":
                return _number(schema, 0.5, step=0.5)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema, name)

    def _object(self, schema: Schema, name: str, depth: int) -> dict[str, Any]:
        needed = schema.get("required", ())
        made = {
            key: self.value(inner, key, depth + 1)
            for key, inner in schema.get("properties", {}).items()
            if depth < _DEEP or key in needed
        }
        more = schema.get("additionalProperties", "properties" not in schema)
        least = int(schema.get("minProperties", 1 if isinstance(more, Mapping) and not made and depth < _DEEP else 0))
        for number in range(len(made), least):
            made[f"{name}_{number + 1}"] = self.value(more, name, depth + 1)
        return made

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        first = [self.value(inner, name, depth + 1) for inner in schema.get("prefixItems", ())]
        least = int(schema.get("minItems", 0 if depth >= _DEEP or "prefixItems" in schema else 1))
        made = first[: int(schema.get("maxItems", len(first)))]
        while len(made) < min(least, int(schema.get("maxItems", least))):
            item = self.value(schema.get("items", {}), name, depth + 1)
            made.append(_another(item, len(made)) if schema.get("uniqueItems") else item)
        return made


def _another(item: Any, number: int) -> Any:
    if isinstance(item, str):
        return f"{item} {number + 1}" if number else item
    return item + number if isinstance(item, int | float) else item


def _number(schema: Schema, wanted: float, step: float) -> float:
    step = float(schema.get("multipleOf", step))
    low = max(float(schema.get("minimum", -math.inf)), float(schema.get("exclusiveMinimum", -math.inf)))
    high = min(float(schema.get("maximum", math.inf)), float(schema.get("exclusiveMaximum", math.inf)))
    value = min(max(wanted, low), high)
    if "multipleOf" in schema or schema.get("type") == "integer":
        value = math.ceil(value / step) * step if low > -math.inf else math.floor(value / step) * step
    if value == schema.get("exclusiveMinimum"):
        value = value + step if value + step < high or high == math.inf else (low + high) / 2
    if value == schema.get("exclusiveMaximum"):
        value = value - step if value - step > low or low == -math.inf else (low + high) / 2
    return value


def _text(schema: Schema, name: str) -> str:
    least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", 10_000))
    if least > _LONGEST_TEXT:
        raise ValueError(f"minLength is {least:,}")
    if "pattern" in schema:
        for more in (1, 0, *range(2, 64)):
            made = _matching(schema["pattern"], more)
            if not schema["pattern"].endswith("$"):
                made = made.ljust(least, "a")
            if least <= len(made) <= most and re.search(schema["pattern"], made):
                return made
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    return f"a {name.replace('_', ' ')}".ljust(least, ".")[:most]


def _matching(pattern: str, more: int) -> str:
    """Return a text that matches, except for lookaround, references and some negated classes.

    Each repetition has `more` items beyond its minimum.
    """
    parser = cast("Any", import_module("re._parser"))  # the parser of `re`, which has no public name
    return _pieces(parser.parse(pattern), more)


def _pieces(parsed: Iterable[Any], more: int) -> str:
    return "".join(_piece(operation, argument, more) for operation, argument in parsed)


def _piece(operation: Any, argument: Any, more: int) -> str:
    match str(operation):
        case "LITERAL":
            return chr(argument)
        case "ANY":
            return "a"
        case "NOT_LITERAL":
            return "a" if argument != ord("a") else "b"
        case "IN":
            return _one_of(argument)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, inner = argument
            times: int = min(low + more, int(high))  # without a limit `high` is a large number
            return _pieces(inner, more) * times
        case "SUBPATTERN":
            return _pieces(argument[-1], more)
        case "BRANCH":
            return _pieces(argument[1][0], more)
        case _:
            return ""


_CATEGORIES = {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}


def _one_of(members: list[Any]) -> str:
    operation, argument = members[0]
    match str(operation):
        case "NEGATE":
            barred = "".join(chr(one) for op, one in members if str(op) == "LITERAL")
            kinds = "".join(_CATEGORIES.get(str(one), "") for op, one in members if str(op) == "CATEGORY")
            spans = [one for op, one in members if str(op) == "RANGE"]
            return next(
                letter
                for letter in "a1 -Z~é"
                if letter not in barred + kinds and not any(low <= ord(letter) <= high for low, high in spans)
            )
        case "RANGE":
            return chr(argument[0])
        case "LITERAL":
            return chr(argument)
        case _:
            return _CATEGORIES.get(str(argument), "-")
