"""Write a client's position into the id of an event, and read it from `Last-Event-ID`."""

from __future__ import annotations

import re
from dataclasses import dataclass

LAST = "end"
"""The id of the last event: a client that names it has received everything."""
RUN_ID = r"[A-Za-z0-9_~-]{1,64}"
"""The one grammar of ids that clients send: of runs, and in `streamcore.web` of conversations, too."""
_EVENT_ID = re.compile(
    rf"(?:(?P<run>{RUN_ID})\.)?(?:(?P<after>[0-9]{{1,15}})(?:\+(?P<withheld>(?:[0-9a-f]{{2}})+))?|end)"
)


@dataclass(frozen=True, slots=True)
class EventId:
    """The id of an event: `[run.]after[+withheld]` or `[run.]end`.

    Attributes:
        run: the stream's name, where its ids have one.
        after: how many items were sent; None after the last event.
        withheld: the end of these items' text that was not sent, as hexadecimal UTF-8: a CR that a LF may follow, half
            a surrogate pair, or the rest of an item that takes two events.
    """

    run: str = ""
    after: int | None = 0
    withheld: str = ""


def parse_event_id(last_event_id: str) -> EventId | None:
    """Return the event id that a client sends, None if it is not one of ours."""
    match = _EVENT_ID.fullmatch(last_event_id.strip())
    if match is None:
        return None
    try:
        withheld = bytes.fromhex(match["withheld"] or "").decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return EventId(match["run"] or "", None if match["after"] is None else int(match["after"]), withheld)


def is_run_id(name: str) -> bool:
    """Return whether a name is 1 to 64 characters of A-Z a-z 0-9 _ ~ -, as the name of a run must be."""
    return re.fullmatch(RUN_ID, name) is not None


def suffix(withheld: str) -> bytes:
    """Return the part of an event id that carries withheld text."""
    return b"+" + withheld.encode("utf-8", "surrogatepass").hex().encode() if withheld else b""
