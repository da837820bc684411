"""Turn what is stored of a run in NATS into the bytes of messages and back; no message is larger than NATS allows."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from streamcore.errors import AnswerTooLarge
from streamcore.relay.entries import decode_end, encode_end, encode_items
from streamcore.relay.nats_store import Stored
from streamcore.relay.packed import compress
from streamcore.sse import Item

HEAD = struct.Struct(">QQQdI")  # epoch, number before, number after, lease, bytes of items


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of a run."""

    epoch: int
    before: int
    seq: int
    lease: float
    items: bytes = b""
    end: bytes = b""
    number: int = 0
    """Its number in the stream."""
    time: float = 0.0

    def encoded(self) -> bytes:
        """Return its bytes."""
        return HEAD.pack(self.epoch, self.before, self.seq, self.lease, len(self.items)) + self.items + self.end


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run from its start."""

    owner: str = ""
    trace: str = ""
    hold: float = 0.0
    counted: str = ""
    """The subject that counts the runs of its owner or client; "" if it is not counted."""
    cut: int = 0
    """How many items the snapshot replaces."""


def pieces_of(items: Sequence[Item], most: int, run_id: str) -> list[tuple[int, bytes]]:
    """Return items in pieces that fit into a message, each with their number.

    Raises:
        AnswerTooLarge: one item does not fit.
    """
    if not items:
        return []
    data = encode_items(items)
    if len(data) <= most:
        return [(len(items), data)]
    if len(items) == 1:
        raise AnswerTooLarge(
            f"run {run_id!r}: an item has {len(data):,} bytes, and a message of NATS {most:,} at most; raise "
            "max_payload in the server's configuration",
            limit=most,
        )
    middle = len(items) // 2
    return [*pieces_of(items[:middle], most, run_id), *pieces_of(items[middle:], most, run_id)]


def small_end(end: bytes, most: int) -> bytes:
    """Return the bytes of an end that fit into a message: an answer that is too long for it is left out."""
    data = compress(end)
    return data if len(data) <= most else compress(encode_end(decode_end(end)[0], None))


def decoded(stored: Stored) -> Entry:
    epoch, before, seq, lease, size = HEAD.unpack_from(stored.data)
    items = stored.data[HEAD.size : HEAD.size + size]
    return Entry(epoch, before, seq, lease, items, stored.data[HEAD.size + size :], stored.number, stored.time)


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
