"""Collect the facts about an answer that are not content: its service tier, the vendor that served it, its cost.

`start`, `usage`, `finish` and `other` chunks have them in `data`; `Fold` copies them to fields of `Completion`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import is_array, is_object


class Facts:
    """Return each fact once, although vendors repeat it in every event."""

    __slots__ = ("_known", "_new")

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}
        self._new: dict[str, Any] = {}

    def note(self, name: str, value: object) -> None:
        """Set a fact; None and "" are ignored."""
        if value is not None and value != "" and self._known.get(name) != value:
            self._known[name] = self._new[name] = value

    def take(self) -> Mapping[str, Any] | None:
        """Return the facts that are new or changed since the last call; None if there are none."""
        if not self._new:
            return None
        new, self._new = self._new, {}
        return new


def token_logprobs(logprobs: object) -> list[Any]:
    """Return the entries of a `logprobs` object, one for each token; an object without entries is one entry itself."""
    if is_array(logprobs):
        return logprobs
    if not is_object(logprobs):
        return []
    content = logprobs.get("content")
    if is_array(content):
        return content
    return [logprobs] if any(logprobs.values()) and not logprobs.get("refusal") else []
