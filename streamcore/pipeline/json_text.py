"""Find the JSON in an answer: complete at the end, partial while it grows, in a code fence or with prose around it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_FENCED = re.compile(r"(```+|~~~+)[^\n`]*\n(.*?)\1", re.DOTALL)
_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"?|[{}\[\]]')  # a string that is not closed ends with its line
_OPENING = re.compile(r"[{\[]")
_LIKE_JSON = re.compile(r'\{\s*["}]|\[\s*(?:["{\[\]\-\d]|true\b|false\b|null\b)')
_NUMBER = re.compile(r"(?<=[\s:,\[])-?\d[\d.eE+-]*\Z")
_NUMBER_LENGTH = 64
_decode = json.JSONDecoder().raw_decode

NOTHING: Any = object()
"""Stands for no value, since null is a value."""


def documents(text: str) -> Iterator[str]:
    """Yield every separate JSON text in an answer, in order; never one that is part of another.

    The parts of a cut or broken document are not yielded: they are not the answer.
    """
    text = unfenced(text)
    if text[:1] not in ("{", "["):
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            pass
        else:
            yield text
            return
    at, ends = 0, None
    while (opening := _OPENING.search(text, at)) is not None:
        start = opening.start()
        if _LIKE_JSON.match(text, start):
            try:
                _, at = _decode(text, start)
            except (ValueError, RecursionError):
                pass
            else:
                yield text[start:at]
                continue
        ends = _ends(text) if ends is None else ends
        after = _after_broken(text, start, ends)
        if after is None:
            return
        at = after


def unfenced(text: str) -> str:
    """Return the text without surrounding whitespace, and without a code fence around all of it."""
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    return text if fenced is None else fenced.group(2).strip()


def _ends(text: str) -> dict[int, int]:
    """Return the end of each closed bracket by its start; brackets in strings do not count."""
    ends: dict[int, int] = {}
    open_at: list[int] = []
    for token in _TOKEN.finditer(text):
        if token.group() in "{[":
            open_at.append(token.start())
        elif token.group() in "}]" and open_at:
            ends[open_at.pop()] = token.end()
    return ends


def _after_broken(text: str, start: int, ends: dict[int, int]) -> int | None:
    """Return where to continue after a bracket that opens no JSON; None if it opens JSON that is not closed."""
    if start in ends:
        return ends[start]
    return None if _LIKE_JSON.match(text, start) else start + 1


class GrowingJson:
    """Parse JSON that is still being received: plain data that only grows until it is complete."""

    def __init__(self) -> None:
        from pydantic_core import from_json

        self._from_json = from_json
        self._text = ""
        self._start = 0
        self._last: Any = NOTHING
        self._idle_until = 0  # up to this length, searching for the end of broken JSON costs more than it finds

    def add(self, text: str) -> Any:
        """Add text; return the data so far if they have changed, else `NOTHING`.

        Strings grow letter by letter; a number, true, false or null appears when it is complete.
        """
        self._text += text
        if len(self._text) < self._idle_until:
            return NOTHING
        while (opening := _OPENING.search(self._text, self._start)) is not None:
            self._start = opening.start()
            rest = self._text[self._start :]
            if not rest[1:].lstrip():
                return NOTHING  # what follows tells whether `{` opens JSON
            number = _NUMBER.search(rest, max(0, len(rest) - _NUMBER_LENGTH))
            try:
                data = self._from_json(rest[: number.start()] if number else rest, allow_partial="trailing-strings")
            except ValueError:
                after = _after_broken(rest, 0, _ends(rest))
                if after is None:
                    self._idle_until = len(self._text) * 3 // 2
                    return NOTHING
                self._start += after
            else:
                return self._changed(data)
        return NOTHING

    def end(self, document: str) -> Any:
        """Return the data of the document that fits the schema ("": of the first), if they differ from the last."""
        document = document or next(documents(self._text), "")
        return self._changed(json.loads(document)) if document else NOTHING

    def _changed(self, data: Any) -> Any:
        if self._last is not NOTHING and data == self._last:
            return NOTHING
        self._last = data
        return data
