"""Add up the token counts of several answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from streamcore.chunk import Usage

_COUNTS = tuple(field.name for field in fields(Usage) if field.name != "raw")


def added_usage(usages: Iterable[Usage | None]) -> Usage | None:
    """Return the sum of all counts; None if there are none, and of one answer its own usage."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < 2:
        return known[0] if known else None
    counts: dict[str, Any] = {}
    for name in _COUNTS:
        column = [count for usage in known if (count := getattr(usage, name)) is not None]
        counts[name] = sum(column) if column else None
    return Usage(**counts)
