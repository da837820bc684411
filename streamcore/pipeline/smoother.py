"""Gather text into larger or evenly timed emissions: a pure state machine with the time as an argument.

Guarantees: the emitted texts concatenate to those that were fed; order is kept; text of one kind, index and choice
is never merged with another's; nothing waits longer than `max(emit_interval, 100 ms)` once the source is quiet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from streamcore.chunk import Chunk, content
from streamcore.files.settings import check_fields, from_mapping
from streamcore.storage.sizes import utf8_size

QUIET_SECONDS = 0.1
"""The source counts as quiet after at least this many seconds without text."""
LONGEST = 4096
"""So many characters are emitted even if they have no boundary."""
_TAIL = 64  # the last boundary is searched in so many characters first, then in the whole text

_GATHERED = frozenset({"text", "reasoning", "refusal"})


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Choose how text is gathered before it is emitted; the defaults gather nothing.

    A mapping with the same keys is accepted too, in calls and as `stream_options:` in YAML.

    Raises:
        ConfigError: a value is not valid.
    """

    buffer_size: int = field(default=0, metadata={"expected": "characters, 0 or more", "ge": 0})
    """Characters to gather before they are emitted."""
    emit_interval: float = field(default=0.0, metadata={"expected": "milliseconds, 0 or more", "ge": 0, "lt": math.inf})
    """The minimum time between two emissions, in milliseconds."""
    boundary: Literal["none", "word", "line"] = field(default="none", metadata={"expected": "'none', 'word' or 'line'"})
    """Where an emission may end. Words are those of Unicode (UAX 29), so Chinese and Japanese text streams as well."""
    first: Literal["immediate", "buffered"] = field(
        default="immediate", metadata={"expected": "'immediate' or 'buffered'"}
    )
    """Whether the first text is emitted at once or gathered like the rest."""
    include_metadata: bool = field(default=False, metadata={"expected": "true or false"})
    """Give every gathered chunk `data`: how many pieces it was made of, and how long the first one waited."""

    def __post_init__(self) -> None:
        check_fields(self, "stream_options")

    @classmethod
    def of(cls, value: StreamOptions | Mapping[str, Any]) -> StreamOptions:
        """Return options from an object or a mapping; missing keys have their defaults.

        Raises:
            ConfigError: a key is unknown, or a value is not valid.
        """
        return from_mapping(cls, "stream_options", value)

    @property
    def quiet(self) -> float:
        """Seconds without new text after which all gathered text is emitted."""
        return max(self.emit_interval / 1000, QUIET_SECONDS)


class Smoother:
    """Buffer text until it may be emitted; other chunks pass at once, after the buffered text."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._interval = options.emit_interval / 1000
        self.size = max(1, options.buffer_size)
        """How many characters are gathered before they are emitted."""
        self.waiting_bytes = 0
        """The bytes of the buffered text, in UTF-8."""
        self._quiet = options.quiet
        self._buffer: list[str] = []
        self._length = 0
        self._like: Chunk | None = None  # a chunk with the kind, index and choice of the buffered text
        self._pieces = 0
        self._since = 0.0  # when the first buffered piece was fed
        self._arrived = 0.0  # when the last one was fed
        self._emitted = -math.inf
        self._at_once = options.first == "immediate"
        self._stuck = 0  # the length at which no boundary was found

    @property
    def deadline(self) -> float:
        """When `tick` must be called if nothing is fed before; infinity if nothing is buffered."""
        if not self._length:
            return math.inf
        quiet = self._arrived + self._quiet
        if self._length >= self.size and self._length != self._stuck:
            return min(quiet, max(self._emitted + self._interval, self._arrived))
        return quiet

    def feed(self, chunks: Iterable[Chunk], now: float) -> list[Chunk]:
        """Add the chunks that were read at `now`; return what is emitted at once."""
        out: list[Chunk] = []
        for chunk in chunks:
            if chunk.text and chunk.kind in _GATHERED and not chunk.path:
                like = self._like
                if like is not None and (
                    chunk.kind != like.kind or chunk.index != like.index or chunk.choice != like.choice
                ):
                    self._emit(self._length, now, out)
                if not self._length:
                    self._like = chunk
                    self._since = now
                self._buffer.append(chunk.text)
                self._length += len(chunk.text)
                self.waiting_bytes += utf8_size(chunk.text)
                self._pieces += 1
                self._arrived = now
                if self._at_once:
                    self._at_once = False
                    self._emit(self._length, now, out)
            else:
                self._emit(self._length, now, out)
                out.append(chunk)
        if self._length >= self.size:
            self._emit_if_due(now, out)
        return out

    def tick(self, now: float) -> list[Chunk]:
        """Return what is emitted because time has passed."""
        out: list[Chunk] = []
        if self._length and now >= self._arrived + self._quiet:
            self._emit(self._length, now, out)
        else:
            self._emit_if_due(now, out)
        return out

    def flush(self, now: float) -> list[Chunk]:
        """Return all that is buffered: the source has ended, or failed."""
        out: list[Chunk] = []
        self._emit(self._length, now, out)
        return out

    def _emit_if_due(self, now: float, out: list[Chunk]) -> None:
        if self._length >= self.size and now >= self._emitted + self._interval:
            end = self._length if self._length >= LONGEST else self._last_boundary()
            # The rest must be able to wait for another interval before the source counts as quiet; if it cannot, all
            # of the text waits until then.
            early = end < self._length and self._arrived + self._quiet < now + self._interval
            if end and not early:
                self._emit(end, now, out)
            else:
                self._stuck = self._length

    def _last_boundary(self) -> int:
        """Return how many characters may be emitted: up to the last boundary, without cutting a grapheme cluster."""
        if len(self._buffer) > 1:
            self._buffer = ["".join(self._buffer)]
        text = self._buffer[0]
        match self._options.boundary:
            case "line":
                return text.rfind("\n") + 1
            case "word":
                return _last_word_boundary(text)
            case _:
                return _without_unfinished(text)

    def _emit(self, end: int, now: float, out: list[Chunk]) -> None:
        like = self._like
        if not end or like is None:
            return
        text = "".join(self._buffer)
        chunk = content(like.kind, text[:end], like.index, like.choice)
        if self._options.include_metadata:
            held_ms = round((now - self._since) * 1000, 3)
            chunk = replace(chunk, data={"pieces": self._pieces, "held_ms": held_ms})
        out.append(chunk)
        rest = text[end:]
        self._buffer = [rest] if rest else []
        self._length = len(rest)
        self.waiting_bytes = utf8_size(rest)
        self._pieces = 1 if rest else 0
        self._since = now
        self._stuck = 0
        self._emitted = now
        if not rest:
            self._like = None


_JOINERS = "\u200d"  # zero width joiner: the cluster continues
_REGIONAL = range(0x1F1E6, 0x1F200)


def _without_unfinished(text: str) -> int:
    """Return the length without a last cluster that is certainly unfinished: after a joiner, or half a flag."""
    flags = 0
    while flags < len(text) and ord(text[-1 - flags]) in _REGIONAL:
        flags += 1
    half_flag = flags % 2 == 1
    if not half_flag and text[-1] not in _JOINERS:
        return len(text)
    return _last_cluster_start(text)


def _last_cluster_start(text: str) -> int:
    start = 0
    for match in _cluster().finditer(text, max(0, len(text) - _TAIL)):
        start = match.start()
    return start


def _last_word_boundary(text: str) -> int:
    """Return where the last word begins; the next token may continue it."""
    for begin in (max(0, len(text) - _TAIL), 0):
        last = 0
        for match in _word_boundary().finditer(text, begin):
            if begin < match.start() < len(text):
                last = match.start()
        if last:
            # Whitespace after a word ends it.
            return len(text) if text[last:].isspace() else last
        if not begin:
            break
    return 0


@cache
def _cluster() -> Any:
    import regex

    return regex.compile(r"\X", regex.V1)


@cache
def _word_boundary() -> Any:
    import regex

    return regex.compile(r"\b", regex.V1 | regex.WORD)
