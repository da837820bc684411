"""Check what clients send beside a message: variables and answers, their names, depth, size and characters."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

MAX_DEPTH = 32
"""How many lists and objects may be nested in a client's variable or answer."""


def refuse_variables(given: Mapping[str, Any], allowed: Collection[str]) -> str | None:
    """Return why a client's variables are not valid, None if they are."""
    for name in given:
        if name.startswith("_"):
            return f"the variable {shown(name)} is reserved: names that begin with _ belong to the service."
        if name not in allowed:
            listed = ", ".join(sorted(allowed)) or "none"
            return f"clients may not set the variable {shown(name)}; allowed are: {listed}."
    return refuse_value(given)


def refuse_value(value: Any) -> str | None:
    """Return why JSON data of a client is not valid, None if it is: too deeply nested, or half a surrogate pair."""
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        one, depth = pending.pop()
        if isinstance(one, str):
            if not is_unicode(one):
                return "a text has half of a surrogate pair, which is no character."
        elif isinstance(one, Mapping | list):
            if depth > MAX_DEPTH:
                return f"lists and objects may be nested {MAX_DEPTH} deep at most."
            container = cast("Mapping[str, Any] | list[Any]", one)
            inner = [*container, *container.values()] if isinstance(container, Mapping) else container
            pending += [(item, depth + 1) for item in inner]
    return None


def size_of(value: Any) -> int:
    """Return how many characters a client's JSON data has; `refuse_value` has accepted it."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def is_unicode(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """Return a client's name for a message: short, and printable."""
    return ascii(name[:64])
