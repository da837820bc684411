"""Write dataclasses as JSON that can be kept for years, and read them back.

The format is versioned: `{"streamcore": "message", "version": 1, ...}`. Within a version, fields are only added; a
reader ignores those that it does not know. A field with its default value is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

from streamcore.chunk import Opaque, ToolCall, ToolResult, Usage
from streamcore.cost import read_cost, write_cost

VERSION = 1

Json = dict[str, Any]
T = TypeVar("T")


def dump(kind: str, written: Json) -> str:
    """Return a document of this kind.

    Raises:
        ValueError: the data are nested too deeply.
    """
    # ASCII, so that a lone surrogate of a vendor's survives in every database
    document = {"streamcore": kind, "version": VERSION, **written}
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":"))
    except RecursionError as error:
        raise _too_deep(kind) from error


def load(kind: str, data: str | bytes, read: Callable[[Json], T]) -> T:
    """Return what `read` makes of a document of this kind.

    Raises:
        ValueError: the data are not such a document, or one of a later version.
    """
    try:
        found: Any = json.loads(data)
    except RecursionError as error:
        raise _too_deep(kind) from error
    if not isinstance(found, dict) or cast("Json", found).get("streamcore") != kind:
        raise ValueError(f"this JSON is not a {kind} of streamcore's: it has no {{'streamcore': {kind!r}}}")
    given = cast("Json", found)
    version: object = given.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ValueError(f"this {kind} has version {version!r}; this streamcore reads 1 to {VERSION}: update it")
    try:
        return read(given)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"this {kind} is damaged: {type(error).__name__}: {error}") from error


def write_fields(thing: Any, **replaced: Any) -> Json:
    """Return the fields of a dataclass that differ from their defaults; `replaced` are written already."""
    written: Json = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if value != field.default and (value or field.default_factory is not dict):
            try:
                written[field.name] = _plain(replaced.get(field.name, value))
            except RecursionError as error:
                raise _too_deep(field.name) from error
    return written


def _too_deep(what: str) -> ValueError:
    return ValueError(f"the JSON of this {what} is nested too deeply to be stored or read")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: opaque data may contain tuples, and numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_opaque(opaque: Opaque | None) -> Json | None:
    """Return opaque data as JSON."""
    return None if opaque is None else write_fields(opaque)


def read_opaque(given: Json | None) -> Opaque | None:
    """Return the opaque data in JSON."""
    if given is None:
        return None
    known: Json = {**known_fields(Opaque, given), "items": tuple(given["items"])}
    return Opaque(**known)


def known_fields(kind: type, given: Json) -> Json:
    """Return those of the given fields that the dataclass has."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in given.items() if name in names}


def read_calls(given: Json, key: str = "tool_calls") -> tuple[ToolCall, ...]:
    """Return the tool calls of a message or an answer."""
    return tuple(ToolCall(**known_fields(ToolCall, call)) for call in given.get(key, ()))


def write_call(call: ToolCall) -> Json:
    """Return a tool call as JSON."""
    return {"id": call.id, "name": call.name, **write_fields(call)}


def write_usage(usage: Usage | None) -> Json | None:
    """Return token counts as JSON."""
    return None if usage is None else write_fields(usage)


def read_usage(given: Json | None) -> Usage | None:
    """Return the token counts in JSON."""
    return None if given is None else Usage(**known_fields(Usage, given))


def write_completion(completion: Any, write_part: Callable[[Any], Json]) -> Json:
    """Return a `Completion` as JSON; `write_part` is that of `parts.py`."""
    parsed = completion.parsed
    dump = getattr(parsed, "model_dump", None)
    return write_fields(
        completion,
        tool_calls=[write_call(call) for call in completion.tool_calls],
        usage=write_usage(completion.usage),
        attempts=[
            write_fields(attempt, usage=write_usage(attempt.usage), reported_cost=write_cost(attempt.reported_cost))
            for attempt in completion.attempts
        ],
        alternatives=[write_completion(other, write_part) for other in completion.alternatives],
        opaque=write_opaque(completion.opaque),
        reported_cost=write_cost(completion.reported_cost),
        tool_results=[
            write_fields(result, parts=[write_part(part) for part in result.parts])
            for result in completion.tool_results
        ],
        pending=[write_call(call) for call in completion.pending],
        steps=[write_completion(step, write_part) for step in completion.steps],
        parsed=dump(mode="json") if callable(dump) else parsed,
    )


def read_completion(given: Json, completion: type[T], attempt: type, read_part: Callable[[Json], Any]) -> T:
    """Return the `Completion` in JSON; the classes are those of `completion.py`, which imports this module."""

    def inner(key: str) -> tuple[T, ...]:
        return tuple(read_completion(one, completion, attempt, read_part) for one in given.get(key, ()))

    results: Iterable[Json] = (
        {**known_fields(ToolResult, one), "parts": tuple(read_part(part) for part in one.get("parts", ()))}
        for one in given.get("tool_results", ())
    )
    attempts = (
        {
            **known_fields(attempt, one),
            "usage": read_usage(one.get("usage")),
            "reported_cost": read_cost(one.get("reported_cost")),
        }
        for one in given.get("attempts", ())
    )
    read: Json = {
        **known_fields(completion, given),
        "tool_calls": read_calls(given),
        "usage": read_usage(given.get("usage")),
        "attempts": tuple(attempt(**one) for one in attempts),
        "alternatives": inner("alternatives"),
        "opaque": read_opaque(given.get("opaque")),
        **{name: tuple(given.get(name, ())) for name in ("citations", "reasoning_parts", "logprobs")},
        "reported_cost": read_cost(given.get("reported_cost") or given.get("cost")),
        "tool_results": tuple(ToolResult(**one) for one in results),
        "pending": read_calls(given, "pending"),
        "steps": inner("steps"),
    }
    return completion(**read)
