"""Find where a growing JSON text ends, in time that is linear in its length."""

from __future__ import annotations

import json
import re

_OUTSIDE = re.compile(r'["{}\[\]]')
_INSIDE = re.compile(r'["\\]')
MAX_MARKS = 500_000  # brackets, quotes and escapes
_SHORT = 1024  # characters of a number, which has no end of its own


class JSONEnd:
    """Determine if a text that arrives in pieces is one whole JSON value.

    A text with more than `MAX_MARKS` brackets, quotes and escapes is never whole, nor is a number of more than 1,024
    characters.
    """

    __slots__ = ("_depth", "_length", "_marks", "_pieces", "_quoted", "_skip", "_whole")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._depth = 0
        self._quoted = False
        self._skip = False  # the next piece begins with an escaped character
        self._marks = 0
        self._whole: bool | None = None  # None until an object, array or string has ended

    def add(self, piece: str) -> None:
        """Add the next piece of the text."""
        if self._whole is not None:
            self._whole = self._whole and not piece.strip()
            return
        self._pieces.append(piece)
        self._length += len(piece)
        at = int(self._skip)
        self._skip = False
        while at < len(piece):
            mark = (_INSIDE if self._quoted else _OUTSIDE).search(piece, at)
            if mark is None:
                return
            at = mark.end()
            self._marks += 1
            what = mark.group()
            if what == "\\":
                at += 1
                self._skip = at > len(piece)
            elif what == '"':
                self._quoted = not self._quoted
            else:
                self._depth += 1 if what in "{[" else -1
            if what != "\\" and not self._quoted and self._depth <= 0:
                self._whole = self._parses()
                return
            if self._marks > MAX_MARKS:
                self._whole = False
                return

    def whole(self) -> bool:
        """Return whether the text so far is a JSON value."""
        if self._whole is not None:
            return self._whole
        if self._depth or self._quoted or self._length > _SHORT:
            return False
        return self._parses()

    def _parses(self) -> bool:
        try:
            json.loads("".join(self._pieces))
        except (ValueError, RecursionError):
            return False
        return True
