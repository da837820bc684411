"""Write and read the ids of messages whose source numbers its items, so that any worker can go on behind any of them.

An item may be no message, or several, and the end of a text may wait for what follows. So an id says which item the
message belongs to, which of that item's messages it is, and what was held back before it: `17`, `17.2`, `17~d`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(r"(\d{1,15})(?:\.(\d{1,6}))?(?:~(d|d[89ab][0-9a-f]{2}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Tell where to go on: read the items after number `after`; the first `part` messages of the next were seen."""

    after: int
    part: int = 0
    held: str = ""


def place_of(last_id: str) -> Place | None:
    """Return the place behind the message with this id; None if a numbered source's messages have no such id.

    The id of the last message, `end`, is none of them: whoever has it has everything.
    """
    found = _ID.fullmatch(last_id)
    if found is None:
        return None
    item, part, held = int(found[1]), int(found[2] or 1), found[3]
    return Place(item - 1, part, chr(int(held, 16)) if held else "") if item else Place(0)


def id_of(item: int, part: int, held: str) -> bytes:
    """Return the id of an item's message."""
    known = b"%d" % item
    if part > 1:
        known += b".%d" % part
    return known + b"~%x" % ord(held) if held else known
