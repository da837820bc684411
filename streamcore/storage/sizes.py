"""Estimate how many bytes chunks, texts and events take, so that buffers are limited by bytes, not by items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain, compress
from operator import attrgetter
from typing import cast

from streamcore.chunk import Chunk, Opaque, ToolCall, Usage

MAX_ANSWER_BYTES = 64 * 2**20
"""The default limit of one answer, in bytes of UTF-8."""

MEASURE_AFTER = 32
"""After so many reads an answer is measured, and its texts are joined, at the latest."""
_READ_BYTES = 64 * 1024

_other_fields = attrgetter("opaque", "data", "usage", "finish_detail", "raw")
_NOTHING = (None, None, None, None, None)
_kind_and_choice, _text, _tool_call = attrgetter("kind", "choice"), attrgetter("text"), attrgetter("tool_call")
_arguments, _name, _id = attrgetter("arguments"), attrgetter("name"), attrgetter("id")
_PLAIN = ("text", 0)
PIECE_BYTES = 64
"""About how many bytes Python needs for a short text, besides its characters."""
_CHUNK = 200
_DATA = (Opaque, ToolCall)
_COUNTS = len(fields(Usage)) - 1  # all fields of `Usage` but `raw` are counts
_NUMBERS = frozenset({int, float, bool, type(None)})


def utf8_size(text: str) -> int:
    """Return the bytes of a text in UTF-8; half a surrogate pair counts as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def data_size(value: object) -> int:
    """Return the bytes of the texts in nested data, and a little for each value; never recurses."""
    size = 0
    seen: set[int] = set()
    pending = [value]
    while pending:
        one = pending.pop()
        if one.__class__ in _NUMBERS:  # these types first, which are nearly all: every answer has usage
            size += 8
        elif isinstance(one, str):
            size += utf8_size(one) + 8
        elif one.__class__ is dict and id(one) not in seen:  # before the slow check of `Mapping`
            seen.add(id(one))
            size += 16
            pending += cast("dict[object, object]", one)
            values = cast("dict[object, object]", one).values()
            if _NUMBERS.issuperset(map(type, values)):  # as in the usage of most answers
                size += 8 * len(values)
            else:
                pending += values
        elif isinstance(one, bytes | bytearray):
            size += len(one) + 8
        elif one is None or isinstance(one, int | float):
            size += 8
        elif id(one) not in seen:
            seen.add(id(one))
            size += 16
            if isinstance(one, Chunk):
                size += chunk_size(one)
            elif isinstance(one, Usage):
                size += 8 * _COUNTS
                pending.append(one.raw)
            elif isinstance(one, _DATA):
                pending += [getattr(one, name) for name in one.__slots__]
            elif isinstance(one, Mapping):
                mapping = cast("Mapping[object, object]", one)
                pending += mapping.keys()
                pending += mapping.values()
            elif isinstance(one, list | tuple | set | frozenset):
                pending += cast("Iterable[object]", one)
            else:  # a model or another object of the caller's
                pending += getattr(one, "__dict__", {}).values()
    return size


def content_size(chunk: Chunk) -> int:
    """Return the bytes of what a chunk has: text, arguments, opaque data, facts, `raw`."""
    size = _size_beside_content(chunk) + (utf8_size(chunk.text) if chunk.text else 0)
    call = chunk.tool_call
    if call is not None:
        size += utf8_size(call.arguments) + utf8_size(call.id or "") + utf8_size(call.name or "")
    return size


def _size_beside_content(chunk: Chunk) -> int:
    """Return the bytes of everything in a chunk but its text and its call."""
    size = 0 if chunk.raw is None else len(chunk.raw)
    opaque = None if chunk.kind == "finish" else chunk.opaque  # there it repeats earlier chunks
    for value in (opaque, chunk.data, chunk.finish_detail, chunk.usage, chunk.tool_result):
        if value is not None:
            size += data_size(value)
    return size


class AnswerSize:
    """Measure one answer while it arrives, and tell when it is above its limit.

    The run loop appends plain texts to the fold itself, gives all other reads to `note`, and calls `exceeds_limit`
    after `reads`. A network read has at most about 64 KiB, so an answer is at most twice its limit, and at most 16 MiB
    above it, when it ends. `exceeds_limit` works with iterators of C, since every token passes through it.
    """

    __slots__ = ("_breaks", "_bytes", "_limit", "_measured", "_noted", "_pieces", "_texts", "note", "reads")

    def __init__(self, limit: int, texts: list[str], breaks: Sequence[int]) -> None:
        """Take the list of plain texts, and `Fold.breaks`: where in it the texts must not be joined."""
        self._limit = limit
        self._texts = texts
        self._breaks = breaks
        self._measured = 0  # how many of the texts `_bytes` includes
        self._noted: list[Sequence[Chunk]] = []
        self._bytes = 0
        self._pieces = 0  # that were measured
        self.reads = range(min(MEASURE_AFTER, max(1, limit // _READ_BYTES)))
        """One item for each read until the next call of `exceeds_limit`."""
        self.note = self._noted.append
        """Note the chunks of a read that the run loop does not append itself."""

    @property
    def pieces(self) -> int:
        """How many chunks of text, reasoning, refusals and calls the answer has."""
        self.exceeds_limit()
        return self._pieces

    def exceeds_limit(self) -> bool:
        """Measure what arrived since the last call, and return True if the answer is above its limit.

        Texts, arguments, opaque data, facts and `raw` count. The pieces of the text are joined, since a piece takes
        many times the memory of its characters.
        """
        texts, start = self._texts, self._measured
        self._pieces += len(texts) - start
        new = "".join(texts[start:])
        if new and not (self._breaks and self._breaks[-1] > start):
            texts[start:] = [new]
        self._measured = len(texts)
        self._bytes += utf8_size(new)
        if self._noted:
            self._bytes += self._size_of_noted()
        return self._bytes > self._limit

    def _size_of_noted(self) -> int:
        chunks = list(chain.from_iterable(self._noted))
        self._noted.clear()
        not_plain = map(_PLAIN.__ne__, map(_kind_and_choice, chunks))  # the plain texts are in the fold's list
        texts = [*filter(None, compress(map(_text, chunks), not_plain))]
        size = utf8_size("".join(texts))
        calls = cast("list[ToolCall]", [*filter(None, map(_tool_call, chunks))])
        self._pieces += len(texts) + len(calls)
        for part in (_arguments, _name, _id):
            size += utf8_size("".join(filter(None, map(part, calls))))
        for chunk in compress(chunks, map(_NOTHING.__ne__, map(_other_fields, chunks))):
            size += _size_beside_content(chunk)
        return size


def chunk_size(chunk: Chunk) -> int:
    """Return the bytes that a chunk takes in memory."""
    return _CHUNK + content_size(chunk)


def item_size(item: object) -> int:
    """Return the bytes that an item of a stream takes in memory: a chunk, a list of chunks, a token, an event."""
    if isinstance(item, Chunk):
        return chunk_size(item)
    if isinstance(item, list):
        return items_size(cast("list[object]", item))
    return PIECE_BYTES + (utf8_size(item) if isinstance(item, str) else data_size(item))


def items_size(items: Iterable[object]) -> int:
    """Return the bytes that some items take in memory."""
    return sum([item_size(item) for item in items])
