"""Describe the difference between two JSON values as a JSON Patch (RFC 6902)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

REFUSED_KEYS = frozenset({"__proto__", "constructor", "prototype"})
"""The keys that appliers of patches in JavaScript refuse."""


def difference(before: Any, after: Any) -> list[dict[str, Any]] | None:
    """Return the operations that turn `before` into `after`; None if only a new snapshot can.

    Objects are compared by key. Of lists only added items are distinguished from a new list.
    """
    operations = list(_changes(before, after, ""))
    if any(REFUSED_KEYS & set(one["path"].split("/")) for one in operations):
        return None
    return operations


def _changes(before: Any, after: Any, path: str) -> Iterator[dict[str, Any]]:
    if _same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _changes_of_object(cast("Mapping[str, Any]", before), cast("Mapping[str, Any]", after), path)
    elif isinstance(before, list) and isinstance(after, list) and _begins_with(after, before):  # pyright: ignore[reportUnknownArgumentType]
        items: list[Any] = after  # pyright: ignore[reportUnknownVariableType]
        old: list[Any] = before  # pyright: ignore[reportUnknownVariableType]
        for item in items[len(old) :]:
            yield {"op": "add", "path": f"{path}/-", "value": item}
    else:
        yield {"op": "replace", "path": path, "value": after}


def _changes_of_object(before: Mapping[str, Any], after: Mapping[str, Any], path: str) -> Iterator[dict[str, Any]]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": f"{path}/{_token(key)}"}
    for key, value in after.items():
        inner = f"{path}/{_token(key)}"
        if key in before:
            yield from _changes(before[key], value, inner)
        else:
            yield {"op": "add", "path": inner, "value": value}


def _begins_with(items: list[Any], head: list[Any]) -> bool:
    return len(items) >= len(head) and _same(items[: len(head)], head)


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON does: True is not 1, and 1 is not 1.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        left, right = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    if isinstance(one, list):
        items: list[Any] = one  # pyright: ignore[reportUnknownVariableType]
        others: list[Any] = other
        return len(items) == len(others) and all(map(_same, items, others))
    return bool(one == other)


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
