"""Decode and encode the binary event stream of AWS, `application/vnd.amazon.eventstream`.

A frame has a prelude (total length, length of the headers, CRC-32 of these eight bytes), headers, a payload, and the
CRC-32 of everything before it. Numbers are big-endian. Source: "Event stream encoding" in the developer guide of Amazon
Transcribe, and `botocore.eventstream`.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from typing import ClassVar
from zlib import crc32

import msgspec

from streamcore.chunk import Chunk
from streamcore.errors import MalformedStream
from streamcore.wire.decoder import MAX_EVENT_BYTES, StreamDecoder, Vocabulary
from streamcore.wire.lenient import is_object, text
from streamcore.wire.sse import BOM, Event

log = logging.getLogger("streamcore")

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_FRAMING = 16  # bytes of a frame that are neither headers nor payload
_LENGTHS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # bytes of a header's value, by its type
_BYTES, _TEXT = 6, 7  # the types of header whose values begin with their length
_KNOWN_HEADERS = 64
_SHOWN = 200  # characters of a body that is not an event stream


class Frame(msgspec.Struct, frozen=True, gc=False):
    """Represent one frame, whose checksums are right."""

    name: bytes
    """The type of the event, or the name of the exception."""
    payload: bytes
    failed: bool = False
    """True for an exception or an error of the server."""
    message: str = ""
    """The error's message, for frames that have it in their headers."""


class FrameReader:
    """Split a byte stream into frames.

    Guarantees: the frames do not depend on how the bytes are divided into reads. The work is linear in the number of
    bytes, also for reads of one byte.
    """

    __slots__ = ("_known", "_most", "_names", "_needed", "_parts", "error", "pending", "rest")

    def __init__(self, max_frame_bytes: int = 2 * MAX_EVENT_BYTES) -> None:
        self.error: str | None = None
        """What is wrong with the bytes; nothing is read after it."""
        self.pending = 0
        """The number of bytes of the unfinished frame."""
        self.rest = b""
        """The first bytes that are not valid, if there is an error."""
        self._parts: list[bytes] = []
        self._needed = _PRELUDE.size
        self._most = max_frame_bytes
        self._known: dict[bytes, Frame] = {}  # by the bytes of the headers, which are the same in most frames
        self._names: dict[bytes, bytes] = {}  # the types of events, in the same way

    def only(self, data: bytes) -> Event | None:
        """Return the event if these bytes are exactly one frame of a known type, as most reads are.

        Otherwise return None and consume nothing.
        """
        if self._parts or len(data) < _FRAMING:
            return None
        total, headers, checksum = _PRELUDE.unpack_from(data)
        start = 12 + headers
        name = self._names.get(data[12:start])
        if (
            name is None
            or total != len(data)
            or crc32(data[:8]) != checksum
            or crc32(data[:-4]) != int.from_bytes(data[-4:], "big")
        ):
            return None
        return Event(data[start:-4], name)

    def feed(self, data: bytes) -> list[Frame]:
        """Consume the bytes of one read and return the frames that they completed; see `error`."""
        frames: list[Frame] = []
        if self.error is not None:
            return frames
        parts = self._parts
        self.pending += len(data)
        if parts or self.pending < self._needed:
            parts.append(data)
            if self.pending < self._needed:
                return frames
            data = b"".join(parts)
            parts.clear()
        at = 0
        total = _PRELUDE.size
        try:
            while self.pending >= _PRELUDE.size:
                total = self._total(data, at)
                if self.pending < total:
                    break
                frames.append(self._frame(data[at : at + total]))
                at += total
                self.pending -= total
        except (ValueError, LookupError, struct.error) as error:
            self.error = str(error)
            self.rest = data[at : at + 4 * _SHOWN]
            return frames
        self._needed = total if self.pending >= _PRELUDE.size else _PRELUDE.size
        if self.pending:
            parts.append(data[at:])
        return frames

    def _total(self, data: bytes, at: int) -> int:
        """Return the length of the frame that begins at `at`."""
        total, headers, checksum = _PRELUDE.unpack_from(data, at)
        if crc32(data[at : at + 8]) != checksum or total < _FRAMING + headers:
            raise ValueError("the checksum of a frame's prelude is wrong")
        if total > self._most:
            raise ValueError(f"it is longer than {self._most // 2} bytes")
        found: int = total
        return found

    def _frame(self, data: bytes) -> Frame:
        if crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
            raise ValueError("the checksum of a frame is wrong")
        start = 12 + int.from_bytes(data[4:8], "big")
        heads = data[12:start]
        known = self._known.get(heads)
        if known is None:
            known = _described(_headers(heads))
            if len(self._known) < _KNOWN_HEADERS:
                self._known[heads] = known
                if not known.failed:
                    self._names[heads] = known.name
        return Frame(known.name, data[start:-4], known.failed, known.message)


def _described(headers: Mapping[str, str]) -> Frame:
    """Return a frame without a payload that has what the headers say."""
    failure = headers.get(":exception-type") or headers.get(":error-code")
    if failure is None and headers.get(":message-type") in ("exception", "error"):
        failure = "error"
    if failure is None:
        return Frame(headers.get(":event-type", "").encode(), b"")
    return Frame(failure.encode(), b"", True, headers.get(":error-message", ""))


def _headers(data: bytes) -> dict[str, str]:
    """Return the headers whose values are text."""
    found: dict[str, str] = {}
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]].decode()
        at += 1 + data[at]
        kind, at = data[at], at + 1
        if kind in (_BYTES, _TEXT):
            length, at = int.from_bytes(data[at : at + 2], "big"), at + 2
        elif kind in _LENGTHS:
            length = _LENGTHS[kind]
        else:
            raise ValueError(f"the header {name!r} has the unknown type {kind}")
        if kind == _TEXT:
            found[name] = data[at : at + length].decode()
        at += length
    return found


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Return the bytes of a frame with these headers, all of them text."""
    heads = b"".join(
        b"%c%b\x07%b%b" % (len(name.encode()), name.encode(), struct.pack(">H", len(value.encode())), value.encode())
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", _FRAMING + len(heads) + len(payload), len(heads))
    frame = b"".join((prelude, struct.pack(">I", crc32(prelude)), heads, payload))
    return frame + struct.pack(">I", crc32(frame))


def split_frames(data: bytes) -> list[bytes]:
    """Return the single frames of some bytes that were encoded here."""
    frames: list[bytes] = []
    while data:
        total = int.from_bytes(data[:4], "big")
        frames.append(data[:total])
        data = data[total:]
    return frames


def encode_event(name: str, payload: bytes) -> bytes:
    """Return the frame of an event with a JSON payload."""
    return encode_frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def encode_exception(name: str, payload: bytes) -> bytes:
    """Return the frame of an exception with a JSON payload."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return encode_frame(headers, payload)


class EventStreamDecoder(StreamDecoder):
    """Decode the frames of one response into chunks; the contract is that of `StreamDecoder`.

    A frame becomes an event with the frame's type as its name; an exception becomes an event named `error`, with an
    object `error` that has `type` and `message`.
    """

    unwrapped: ClassVar[bool] = True
    """True if the payload of a frame is the event, so that `event` need not be called."""

    def __init__(
        self, vocabulary: Vocabulary, *, include_raw: bool = False, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        super().__init__(vocabulary, include_raw=include_raw, max_event_bytes=max_event_bytes)
        self._frames = FrameReader(2 * max_event_bytes)  # a payload may be JSON with an event in Base64

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that these bytes completed; see `StreamDecoder.feed`."""
        out: list[Chunk] = []
        self._bytes += len(data)
        event = self._frames.only(data) if self._use_fast_path else None
        if event is None:
            self._feed_frames(data, out)
        else:
            self.take(event, out)
        return out

    def _feed_frames(self, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks that these bytes completed, for reads of any size."""
        late = self.done
        self._use_fast_path = False
        for frame in self._frames.feed(data):
            late = late or self.done
            try:
                event = _failure(frame) if frame.failed else self.event(frame)
            except ValueError as error:
                if not self.done:
                    self.fail(MalformedStream(f"the payload of a frame is not valid: {error}"), error)
                continue
            self.read((event,), out)
        if late:
            log.debug("ignored data after the end of the answer on %s", self.vocabulary.wire)
        if self._frames.error is not None and not self.done:
            self._fail_frame(self._frames.error)
        self._use_fast_path = self.unwrapped and self.plain_chunks and self._events > 0 and not self.done

    def event(self, frame: Frame) -> Event:
        """Return the event in a frame.

        Raises:
            ValueError: the payload has a wrong form.
        """
        return Event(frame.payload, frame.name)

    def _fail_frame(self, reason: str) -> None:
        if self._events:
            self._events += 1
            self.fail(MalformedStream(reason))
            return
        shown = self._frames.rest.removeprefix(BOM).strip().decode("utf-8", "replace")[:_SHOWN]
        self._failure = MalformedStream(f"the response is not an AWS event stream ({reason}); it begins with {shown!r}")
        self.end()


def _failure(frame: Frame) -> Event:
    """Return the event for an exception of the server."""
    try:
        body: object = msgspec.json.decode(frame.payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        body = frame.payload.decode("utf-8", "replace").strip()
    fields = body if is_object(body) else {}
    message = text(fields.get("message")) or text(fields.get("Message")) or frame.message or text(body)
    name = frame.name.decode("utf-8", "replace")
    error = {**fields, "type": name, "message": message or name}
    return Event(json.dumps({"type": "error", "error": error}).encode(), b"error")
