"""Decode Server-Sent Events from bytes, for reads of any size.

Source: WHATWG HTML, "Interpreting an event stream" (https://html.spec.whatwg.org/multipage/server-sent-events.html),
with three exceptions that real bodies require. They often lack the last blank line, so `flush` returns what is pending
and the caller checks whether it is complete. llama.cpp reports failures in a field `error`, and some gateways write an
error's JSON between the events without any field name: both become events named `error`. Data stay bytes: the code
that parses them checks their UTF-8.
"""

from __future__ import annotations

import re

import msgspec

BOM = b"\xef\xbb\xbf"
_RETRY_DIGITS = 15  # no server waits longer, and Python refuses to read a number of thousands of digits
_CR, _LF = 13, 10
_DATA, _EVENT, _END = b"data: ", b"event: ", b"\n\n"
_BEGIN = re.compile(rb"(?:event: ([^\n]*)\n)?data: ")
_DATA_FIELD, _DATA_VALUE = slice(len(_DATA)), slice(len(_DATA), None)  # made once: every event is cut with them
_EVENT_FIELD, _EVENT_VALUE = slice(len(_EVENT)), slice(len(_EVENT), None)
_LAST_TWO, _WITHOUT_END = slice(-len(_END), None), slice(-len(_END))


class Event(msgspec.Struct, frozen=True, gc=False):
    """Represent one dispatched event. `name` is b"" if the stream gives none; browsers call that "message"."""

    data: bytes
    name: bytes = b""


class SSEDecoder:
    """Split a byte stream into events.

    Guarantees: the events do not depend on how the bytes are divided into reads. The work is linear in the number of
    bytes, also for reads of one byte.
    """

    __slots__ = ("_after_cr", "_begun", "_bom_done", "_clean", "_parts", "last_event_id", "pending", "retry")

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        """The reconnection time that the stream asks for, in milliseconds."""
        self._parts: list[bytes] = []
        self.pending = 0
        """The number of bytes of the unfinished event."""
        self._after_cr = False
        self._bom_done = False
        self._begun = False  # an event was seen, so these bytes are an event stream
        self._clean = False  # the next byte begins an event

    def only(self, data: bytes) -> Event | None:
        """Return the event if these bytes are exactly one, as most reads are; else return None and consume nothing.

        It recognizes the two forms of nearly all events: a `data` line, or an `event` line and then a `data` line.
        """
        if self._clean and data[_LAST_TWO] == _END and _CR not in data:
            block = data[_WITHOUT_END]
            if block[_DATA_FIELD] == _DATA:
                return None if _LF in block else Event(block[_DATA_VALUE])
            return _named(block)
        return None

    def feed(self, data: bytes) -> list[Event]:
        """Consume the bytes of one read and return the events that they completed."""
        return self.events(self.whole(data))

    def whole(self, data: bytes) -> bytes:
        """Consume the bytes of one read and return those of the events that they completed, with the last blank line.

        Give them to `events`, or to `run` and the rest to `events`, before the next read.
        """
        if self._after_cr or _CR in data:
            data = self._normalized(data)
        if not self._bom_done:
            data = self._without_bom(data)
        parts = self._parts
        if parts:
            if _END not in data and not (data[:1] == b"\n" and parts[-1][-1:] == b"\n"):
                if data:
                    parts.append(data)
                    self.pending += len(data)
                return b""
            parts.append(data)
            data = b"".join(parts)
            parts.clear()
        end = data.rfind(_END) + len(_END) if _END in data else 0
        if end > len(_END) and data[end - 3 : end - 2] == b"\n":  # blank lines are pairs of LF from the left
            end -= (end - len(data[:end].rstrip(b"\n"))) % 2
        if end < len(data):
            parts.append(data[end:])
        self.pending = len(data) - end
        self._clean = not self.pending and self._bom_done and not self._after_cr
        return data[:end]

    def run(self, whole: bytes) -> tuple[bytes, list[bytes], bytes]:
        """Return the name and the data of the first events, as long as all have one name, and the bytes after them.

        This makes no `Event`: a read of a burst has hundreds of events that differ in their data only.
        """
        begin = _BEGIN.match(whole)
        if begin is None:
            return b"", [], whole
        self._begun = True
        name, prefix = begin[1] or b"", begin[0]
        separator = _END + prefix
        run = whole[len(prefix) : -len(_END)].split(separator)
        if whole.count(b"\n") == len(run) * separator.count(b"\n"):  # the data of each event are one line
            return name, run, b""
        end = next(number for number, data in enumerate(run) if _LF in data)
        rest = separator.join(run[end:])
        last, _, after = rest.partition(_END)
        if _LF in last:
            return name, run[:end], prefix + rest + _END
        return name, [*run[:end], last], after and after + _END

    def events(self, whole: bytes) -> list[Event]:
        """Return the events of bytes that `whole` returned."""
        events: list[Event] = []
        for block in whole.split(_END)[:-1] if whole else ():  # most are a `data` line, which needs no call
            plain = block[_DATA_FIELD] == _DATA and _LF not in block
            event = Event(block[_DATA_VALUE]) if plain else _named(block) or self._parse_fields(block)
            if event is not None:
                self._begun = True
                events.append(event)
        return events

    def flush(self) -> Event | None:
        """Return the event that is pending when the bytes have ended; WHATWG would discard it."""
        block = b"".join(self._parts)
        self._parts.clear()
        self.pending = 0
        return _named(block) or self._parse_fields(block)

    def _normalized(self, data: bytes) -> bytes:
        """Replace every line ending by LF; a CR at the end of a read may be half of a CRLF."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
            self._after_cr = False
            if not data:
                return data
        if data:
            self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _without_bom(self, data: bytes) -> bytes:
        """Strip one leading byte order mark, which may be divided among the first reads."""
        head = b"".join(self._parts) + data
        if len(head) < len(BOM) and BOM.startswith(head):
            return data
        self._bom_done = True
        self._parts.clear()
        self.pending = 0
        return head.removeprefix(BOM)

    def _parse_fields(self, block: bytes) -> Event | None:
        name = b""
        data: list[bytes] = []
        failure: bytes | None = None
        for line in block.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
            elif field == b"id":
                if b"\0" not in value:
                    self.last_event_id = value.decode("utf-8", "replace")
            elif field == b"retry" and value.isdigit() and len(value) <= _RETRY_DIGITS:
                self.retry = int(value)
            elif field == b"error" and value.strip():
                failure = value
            elif self._begun and line[:1] == b"{" and b'"error' in line:
                failure = line
        if data:
            return Event(b"\n".join(data), name)
        return None if failure is None else Event(failure, b"error")


def _named(block: bytes) -> Event | None:
    """Return the event of a block that is an `event` line and then a `data` line; None for any other."""
    if block[_EVENT_FIELD] == _EVENT:
        first, _, second = block.partition(b"\n")
        if second[_DATA_FIELD] == _DATA and _LF not in second:
            return Event(second[_DATA_VALUE], first[_EVENT_VALUE])
    return None
