"""Say in a message's id how far its client has come, and read that again from `Last-Event-ID`."""

from __future__ import annotations

import re
from dataclasses import dataclass

LAST = "end"
"""The id of the last message: a client that asks for what comes after it has had everything."""
_PLACE = re.compile(r"(?:(?P<run>[^.+\s]{1,200})\.)?(?:(?P<after>[0-9]{1,15})(?:\+(?P<held>(?:[0-9a-f]{2})+))?|end)")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the messages of a stream: `[run.]after[+held]` or `[run.]end`.

    Attributes:
        run: which stream, where ids say it.
        after: how many items were sent; None after the last message.
        held: the end of the text of these items that was not: a CR that a LF may follow, half a surrogate pair, the
            rest of an item that takes two messages.
    """

    run: str = ""
    after: int | None = 0
    held: str = ""


def read_place(last_event_id: str) -> Place | None:
    """Return the place that a client names, None for what is no id of ours."""
    found = _PLACE.fullmatch(last_event_id.strip())
    if found is None:
        return None
    try:
        held = bytes.fromhex(found["held"] or "").decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return Place(found["run"] or "", None if found["after"] is None else int(found["after"]), held)


def tail(held: str) -> bytes:
    """Return what a place says of the text that is held."""
    return b"+" + held.encode("utf-8", "surrogatepass").hex().encode() if held else b""
