"""Write the arguments of a function call that are streamed by path as fragments of one JSON object.

With `streamFunctionCallArguments`, each event has values with the path they belong to; the strings of one path
concatenate. A value at the top of the object is written at once. A deeper one, or one that arrives while a string is
open, is written when the call ends, since its object may still grow. Source: the reference of `PartialArg`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from streamcore.wire.lenient import is_array, is_object, text

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_MAX_ITEMS = 10_000
_VALUES = ("stringValue", "numberValue", "boolValue")


class PartialArguments:
    """Collect the arguments of one call; `add` and `end` return the next fragment of their JSON."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        """The arguments so far."""
        self._written: set[str] = set()
        self._later: list[str] = []  # keys that are written at the end
        self._open: str | None = None  # the key whose string continues

    def add(self, given: Mapping[str, Any]) -> str:
        """Add a value and return the fragment that it makes, often "".

        Raises:
            ValueError: the path is not valid, or its value has ended.
        """
        path = _path(text(given.get("jsonPath")) or "")
        value = next((given[key] for key in _VALUES if key in given), None)
        more = given.get("willContinue") is True
        key = str(path[0])
        if key in self._written and (len(path) > 1 or key != self._open):
            raise ValueError(f"the argument {key!r} continues after its end")
        _put(self.value, path, value)
        if len(path) > 1 or key in self._later or self._open not in (None, key):
            if key not in self._later:
                self._later.append(key)
            return ""
        if key == self._open:
            return self._string(key, value, more)
        start = self._key(key)
        return start + (f'"{self._string(key, value, more)}' if isinstance(value, str) else json.dumps(value))

    def _key(self, key: str) -> str:
        start = "," if self._written else "{"
        self._written.add(key)
        return f"{start}{json.dumps(key, ensure_ascii=False)}:"

    def _string(self, key: str, value: object, more: bool) -> str:
        """Return a piece of a string, with its closing quote if it is the last."""
        self._open = key if more else None
        piece = json.dumps(value, ensure_ascii=False)[1:-1] if isinstance(value, str) else ""
        return piece if more else f'{piece}"'

    def end(self) -> str:
        """Return the last fragment; all fragments together are the JSON, or "" for a call without arguments."""
        last = '"' if self._open is not None else ""
        self._open = None
        for key in self._later:
            last += self._key(key) + json.dumps(self.value[key], ensure_ascii=False)
        return f"{last}}}" if self._written else ""


def _path(given: str) -> list[str | int]:
    """Return the keys and indexes of a path such as `$.places[0].name`."""
    if not given.startswith("$"):
        raise ValueError(f"{given!r} is not a path of an argument")
    steps: list[str | int] = []
    at = 1
    while at < len(given):
        step = _STEP.match(given, at)
        if step is None:
            raise ValueError(f"{given!r} is not a path of an argument")
        name = next((found for found in (step[1], step[3], step[4]) if found is not None), None)
        steps.append(int(step[2]) if name is None else name)
        at = step.end()
    if not steps or isinstance(steps[0], int):
        raise ValueError(f"{given!r} is not a path of an argument")
    return steps


def _put(root: dict[str, Any], path: list[str | int], value: object) -> None:
    """Set the value of a path, and create the objects and arrays that lead to it; a string continues a string."""
    node: Any = root
    for step, following in zip(path, [*path[1:], None], strict=True):
        container, key = _slot(node, step)
        known = container[key]
        if following is None:
            container[key] = known + value if isinstance(known, str) and isinstance(value, str) else value
            return
        if known is None:
            known = container[key] = _empty(following)
        node = known


def _empty(step: str | int) -> Any:
    """Return the container that a step fits."""
    return list[Any]() if isinstance(step, int) else dict[str, Any]()


def _slot(node: object, step: str | int) -> tuple[Any, str | int]:
    """Return the container of a step, with a place for its value."""
    if is_object(node) and isinstance(step, str):
        node.setdefault(step, None)
        return node, step
    if is_array(node) and isinstance(step, int) and step <= _MAX_ITEMS:
        node += cast("list[object]", [None] * (step + 1 - len(node)))
        return node, step
    raise ValueError(f"the step {step!r} of a path does not fit the arguments so far")
