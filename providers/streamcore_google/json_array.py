"""Split a JSON array of responses into Server-Sent Events: the form in which a server without `alt=sse` answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SIGN = re.compile(rb'[{}"\\]')


class ArrayEvents:
    """Return the objects of an array, whose bytes come in pieces, as events; what is between them is ignored."""

    def __init__(self) -> None:
        self._rest = b""
        self._at: int = 0  # up to where `_rest` was read
        self._start = 0
        self._depth = 0
        self._in_string = False

    @property
    def pending(self) -> int:
        """The number of bytes of an object that is not complete."""
        return len(self._rest)

    def feed(self, data: bytes) -> bytes:
        """Return the events that these bytes completed."""
        self._rest += data
        return b"".join(_event(found) for found in self._objects())

    def _objects(self) -> Iterator[bytes]:
        while sign := _SIGN.search(self._rest, self._at):
            self._at = sign.end()
            match sign.group():
                case b"\\" if self._in_string:
                    self._at += 1
                case b'"':
                    self._in_string = not self._in_string
                case b"{" if not self._in_string:
                    self._start = sign.start() if self._depth == 0 else self._start
                    self._depth += 1
                case b"}" if not self._in_string and self._depth:
                    self._depth -= 1
                    if self._depth == 0:
                        yield self._rest[self._start : self._at]
                        self._rest = self._rest[self._at :]
                        self._at = 0
                case _:
                    pass
        self._at = max(self._at, len(self._rest))


def _event(data: bytes) -> bytes:
    return b"data: " + data.replace(b"\r", b"").replace(b"\n", b"\ndata: ") + b"\n\n"
