"""Estimate how many bytes chunks, texts and events take, so that buffers are limited by bytes, not by items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import cast

from streamcore.chunk import Chunk, Opaque, ToolCall, Usage
from streamcore.errors import AnswerTooLarge

MAX_ANSWER_BYTES = 64 * 2**20
"""The default limit of one answer, in bytes of UTF-8."""

MEASURE_EVERY = 2**20
"""After so many characters an answer is measured."""

_other_fields = attrgetter("opaque", "data", "usage", "finish_detail", "raw")
_NOTHING = (None, None, None, None, None)
PIECE_BYTES = 64
"""About how many bytes Python needs for a short text, besides its characters."""
_CHUNK = 200
_DATA = (Opaque, ToolCall, Usage)


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
        if isinstance(one, str):
            size += utf8_size(one) + 8
        elif isinstance(one, bytes | bytearray):
            size += len(one) + 8
        elif one is None or isinstance(one, int | float):
            size += 8
        elif id(one) not in seen:
            seen.add(id(one))
            size += 16
            if isinstance(one, Chunk):
                size += chunk_size(one)
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
    size = utf8_size(chunk.text) if chunk.text else 0
    if chunk.raw is not None:
        size += len(chunk.raw)
    call = chunk.tool_call
    if call is not None:
        size += utf8_size(call.arguments) + utf8_size(call.id or "") + utf8_size(call.name or "")
    opaque = None if chunk.kind == "finish" else chunk.opaque  # there it repeats what came before
    for value in (opaque, chunk.data, chunk.finish_detail, chunk.usage):
        if value is not None:
            size += data_size(value)
    return size


class AnswerSize:
    """Measure one answer while it arrives, and raise if it is above its limit.

    The run loop appends plain texts itself and subtracts their characters from `room()`. Everything else passes
    through `add`.
    """

    __slots__ = ("_breaks", "_bytes", "_limit", "_measured", "_texts")

    def __init__(self, limit: int, texts: list[str], breaks: Sequence[int]) -> None:
        """Note the list of plain texts, and `Fold.breaks`: where in it the texts must not be joined."""
        self._limit = limit
        self._texts = texts
        self._breaks = breaks
        self._measured = 0  # how many of the texts `_bytes` includes
        self._bytes = 0

    def add(self, chunks: Iterable[Chunk]) -> int:
        """Count the chunks of a read; return their size: the characters of plain texts, the bytes of all else."""
        characters = size = 0
        for chunk in chunks:
            if chunk.kind == "text" and not chunk.choice:
                characters += len(chunk.text)
                size += len(chunk.raw or b"")
            elif _other_fields(chunk) == _NOTHING:
                size += utf8_size(chunk.text)
                if chunk.tool_call is not None:
                    size += utf8_size(chunk.tool_call.arguments)
            else:
                size += content_size(chunk)
        self._bytes += size
        return characters + size

    def room(self) -> int:
        """Return how many characters may come before this must be called again: one has at most four bytes.

        The pieces of the text are joined, since a piece takes many times the memory of its characters.

        Raises:
            AnswerTooLarge: the answer is above its limit.
        """
        texts, start = self._texts, self._measured
        new = "".join(texts[start:])
        self._bytes += utf8_size(new)
        if new and not (self._breaks and self._breaks[-1] > start):
            texts[start:] = [new]
        self._measured = len(texts)
        left = self._limit - self._bytes
        if left < 0:
            raise AnswerTooLarge(
                f"the answer has more than {self._limit:,} bytes and was ended; what arrived is in .partial; "
                "ask for a shorter answer, or set a higher max_bytes",
                limit=self._limit,
            )
        return min(left // 4, MEASURE_EVERY)


def chunk_size(chunk: Chunk) -> int:
    """Return the bytes that a chunk takes in memory."""
    return _CHUNK + content_size(chunk)


def item_size(item: object) -> int:
    """Return the bytes that an item of a stream takes in memory: a chunk, a token, an event."""
    if isinstance(item, Chunk):
        return chunk_size(item)
    return PIECE_BYTES + (utf8_size(item) if isinstance(item, str) else data_size(item))


def items_size(items: Iterable[object]) -> int:
    """Return the bytes that some items take in memory."""
    return sum([item_size(item) for item in items])
