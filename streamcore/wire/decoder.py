"""Run a vocabulary over an SSE byte stream and hold it to its terminal contract."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from streamcore.chunk import Chunk
from streamcore.errors import MalformedStream, StreamcoreError, StreamInterrupted
from streamcore.wire.sse import BOM, Event, SSEDecoder

log = logging.getLogger("streamcore")

MAX_EVENT_BYTES = 8 * 1024 * 1024
DONE = b"[DONE]"
_SHOWN = 200  # characters of a body that is no event stream
_HEAD_BYTES = 4 * _SHOWN


class Vocabulary(Protocol):
    """What one wire format's events mean: a small state machine, one for each stream."""

    wire: str
    """The format's name, as in `openai-chat`."""
    done: bool
    """True once an event ended reading; nothing after it belongs to the answer."""

    @property
    def marked(self) -> bool:
        """True if the bytes may end here: the vendor has marked the end of the answer."""
        ...

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event.

        Raises:
            ProviderError: the event reports an error; chunks appended before it stand.
            MalformedStream: the data are no JSON.
        """
        ...


class StreamDecoder:
    """Turn the bytes of one response into chunks.

    Call `feed` for every read, `flush` once when the bytes have ended or `done` is True, then `close`, which says
    how the stream ended. Nothing raises before `close`: chunks that came before an error are handed out first.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, include_raw: bool = False, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self.vocabulary = vocabulary
        self.done = False
        self._include_raw = include_raw
        self._flows = False  # events have come, more may, and nothing but their chunks is wanted
        self._max = max_event_bytes
        self._sse = SSEDecoder()
        self._events = 0
        self._bytes = 0
        self._head = b""
        self._failure: StreamcoreError | None = None
        self._cause: Exception | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that these bytes completed, in order; often none, often one."""
        out: list[Chunk] = []
        event = self._sse.only(data) if self._flows else None
        if event is None:
            self._feed_any(data, out)
        else:
            self._bytes += len(data)
            self._take(event, out)
        return out

    def _feed_any(self, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks that these bytes completed, wherever they were cut."""
        if self.done:
            if data.strip():
                log.debug("ignored %d bytes after the end of a %s stream", len(data), self.vocabulary.wire)
            return
        if not self._events:
            self._head = (self._head + data)[:_HEAD_BYTES]
        self._bytes += len(data)
        events, before = self._sse.feed(data), self._events
        self._read(events, out)
        if self.done:
            if self._sse.pending or self._events - before < len(events):
                log.debug("ignored what followed the end of a %s stream in the same read", self.vocabulary.wire)
        elif self._sse.pending > self._max:
            self._events += 1
            self._fail(self._too_long())
        self._flows = self._events > 0 and not self.done and not self._include_raw

    def _read(self, events: Sequence[Event], out: list[Chunk]) -> None:
        """Append the chunks of events, up to the one that ends reading."""
        for event in events:
            if self.done:
                break
            before = len(out)
            self._take(event, out)
            if self._include_raw:
                out[before:] = [replace(chunk, raw=event.data) for chunk in out[before:]]

    def _take(self, event: Event, out: list[Chunk]) -> None:
        """Append the chunks of one event."""
        self._events += 1
        data = event.data
        vocabulary = self.vocabulary
        try:
            if len(data) > self._max:
                raise self._too_long()
            if not data.isascii():
                data.decode()
            try:
                vocabulary.event(event.name, data, out)
            except (AttributeError, LookupError, TypeError, ValueError):
                # JSON of a shape that nobody foresaw is a vendor's news: it must not cost the other events.
                log.debug("event %d of a %s stream has an unknown shape", self._events, vocabulary.wire)
                out.append(Chunk("other", event=event.name.decode("utf-8", "replace") or None, raw=data))
            if vocabulary.done:
                self._end()
        except StreamcoreError as error:
            self._fail(error, error.__cause__)
        except UnicodeDecodeError as error:
            self._fail(MalformedStream(f"the data are not valid UTF-8: {error}"), error)
        except RecursionError as error:
            self._fail(MalformedStream("the JSON is nested too deeply"), error)

    def flush(self) -> list[Chunk]:
        """Return the chunks of an event that lacks its last blank line, if its data are whole."""
        out: list[Chunk] = []
        event = None if self.done else self._sse.flush()
        if event is not None and _is_whole(event.data):
            self._read([event], out)
        return out

    def close(self) -> None:
        """Return if the vendor marked the end of the answer; else say what went wrong.

        Raises:
            ProviderError: an event reported an error.
            MalformedStream: the bytes were no such stream.
            StreamInterrupted: they ended too early.
        """
        if self._failure is not None:
            raise self._failure from self._cause
        if self.vocabulary.marked:
            return
        if not self._events:
            head = self._head.removeprefix(BOM).strip()
            if not BOM.startswith(head) and not _could_be_sse(head):
                shown = head.decode("utf-8", "replace")[:_SHOWN]
                raise MalformedStream(f"the response is no event stream; it begins with {shown!r}")
        raise StreamInterrupted(
            f"the {self.vocabulary.wire} stream ended without its terminal mark "
            f"after {self._events} events and {self._bytes} bytes; what arrived is in .partial"
        )

    def _fail(self, failure: StreamcoreError, cause: BaseException | None = None) -> None:
        if isinstance(failure, MalformedStream):
            failure = MalformedStream(f"event {self._events} of the {self.vocabulary.wire} stream: {failure}")
        self._failure = failure
        self._cause = cause if isinstance(cause, Exception) else None
        self._end()

    def _end(self) -> None:
        self.done = True
        self._flows = False

    def _too_long(self) -> MalformedStream:
        return MalformedStream(f"it is longer than {self._max} bytes")


def parse_json(data: bytes) -> Any:
    """Parse an event's JSON, also where msgspec would not: `NaN`, `1e400`, lone surrogates.

    Raises:
        MalformedStream: no parser takes it.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError):
        try:
            return json.loads(data)
        except ValueError as error:
            shown = data[:80].decode("utf-8", "replace")
            raise MalformedStream(f"the data are not JSON ({error}): {shown!r}") from error


def _is_whole(data: bytes) -> bool:
    if data.strip() == DONE:
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _could_be_sse(head: bytes) -> bool:
    """Tell a stream that was cut early, or sent comments only, from a page or a JSON body."""
    line = head.replace(b"\r", b"\n").partition(b"\n")[0]
    field, colon, _ = line.partition(b":")
    fields = (b"", b"data", b"event", b"id", b"retry")
    return field in fields or (not colon and any(known.startswith(field) for known in fields))
