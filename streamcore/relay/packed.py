"""Keep older items of a run in few bytes: adjacent pieces of one text become one text and the lengths of its pieces."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from streamcore.chunk import Chunk, ChunkKind, content
from streamcore.relay.entries import is_only_text
from streamcore.sse import Item
from streamcore.storage.sizes import items_size

MOST_COMPRESSED = 2**20
"""Bytes above this are not compressed, since that would block the event loop."""


def compress(data: bytes) -> bytes:
    """Return the bytes compressed, if they are not too many; the first byte states whether they are."""
    return b"\1" + zlib.compress(data, 1) if len(data) <= MOST_COMPRESSED else b"\0" + data


def decompress(data: bytes) -> bytes:
    """Return the bytes that were given to `compress`."""
    return zlib.decompress(data[1:]) if data[:1] == b"\1" else data[1:]


@dataclass(frozen=True, slots=True)
class PackedText:
    """Store adjacent pieces of one text."""

    key: tuple[ChunkKind, int, int] | None
    """The kind, index and choice of the chunks; None for plain `str`."""
    data: bytes
    lengths: array[int]

    def items(self) -> Iterator[Item]:
        """Yield the items as they were."""
        text, start = decompress(self.data).decode("utf-8", "surrogatepass"), 0
        for length in self.lengths:
            piece = text[start : start + length]
            start += length
            yield piece if self.key is None else content(self.key[0], piece, self.key[1], self.key[2])


@dataclass(frozen=True, slots=True)
class Block:
    """Store some items of a run, packed."""

    count: int
    size: int
    """The bytes that it takes."""
    parts: Sequence[PackedText | Sequence[Item]]

    def items(self) -> list[Item]:
        """Return the items as they were."""
        return [item for part in self.parts for item in (part.items() if isinstance(part, PackedText) else part)]


def pack(items: Sequence[Item]) -> Block:
    """Return a block with these items; those that are more than text are kept as they are."""
    parts: list[PackedText | Sequence[Item]] = []
    size = 200
    for key, group in groupby(items, _key):
        if isinstance(key, str):
            kept = list(group)
            parts.append(kept)
            size += items_size(kept)
        else:
            packed = _packed(key, group)
            parts.append(packed)
            size += 200 + len(packed.data) + len(packed.lengths) * packed.lengths.itemsize
    return Block(len(items), size, parts)


def _packed(key: tuple[ChunkKind, int, int] | None, group: Iterable[Item]) -> PackedText:
    texts = [item.text if isinstance(item, Chunk) else str(item) for item in group]
    lengths = [len(text) for text in texts]
    data = compress("".join(texts).encode("utf-8", "surrogatepass"))
    return PackedText(key, data, array("B" if max(lengths) < 256 else "Q", lengths))


def _key(item: Item) -> tuple[ChunkKind, int, int] | str | None:
    """Return what adjacent pieces of one text have in common, `"kept"` for an item that is more than text."""
    if type(item) is str:
        return None
    if is_only_text(item):
        return item.kind, item.index, item.choice
    return "kept"
