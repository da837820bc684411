"""Decode the events of an SSE byte stream with a vocabulary, and check that the stream ends as its format requires."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import length_hint
from typing import Any, Protocol

import msgspec

from streamcore.chunk import Chunk
from streamcore.errors import MalformedStream, ProviderError, StreamcoreError, StreamInterrupted, provider_error
from streamcore.wire.lenient import mapping, text
from streamcore.wire.sse import BOM, Event, SSEDecoder
from streamcore.wire.surrogates import LoneSurrogatesError, SplitCharacters, check_surrogates, well_formed

log = logging.getLogger("streamcore")

MAX_EVENT_BYTES = 8 * 1024 * 1024
DONE = b"[DONE]"
_RUNS = range(8)  # most runs in a read: each looks at all bytes that are left
_SHOWN = 200  # characters of a body that is not an event stream
_HEAD_BYTES = 4 * _SHOWN
_SHOWN_ERROR = 2000  # characters of an error that is plain text


class Vocabulary(Protocol):
    """Convert the events of one wire format to chunks: a small state machine, one for each stream."""

    wire: str
    """The format's name, as in `openai-chat`."""
    marked: bool
    """True if the bytes may end here: the vendor has marked the end of the answer. Usage may still follow."""
    done: bool
    """True once an event ended reading; nothing after it belongs to the answer. Implies `marked`."""
    failed: StreamcoreError | None
    """The error that the answer ended with, although its end was marked: a finish reason that means failure."""
    suspect: Any
    """The last event of unknown shape that looked like an error, else None."""

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event.

        Raises:
            ProviderError: the event reports an error; chunks appended before it stay.
            StreamInterrupted: the event begins another answer before this one has ended.
            MalformedStream: the data are not JSON.
        """
        ...

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True if the event is part of an answer, and so has no meaning after the end; `kind` is the event's name."""
        ...


Tokens = Callable[[bytes, Iterator[bytes], list[Chunk]], bytes | None]
"""The optional method `tokens` of a vocabulary: append the chunks of events as long as they are plain text.

It gets the name and the data of events that came with one read, appends what `event` would, and returns the data of the
first event that may be another, for `event`; None at the end. The data are UTF-8. It raises nothing.
"""


class StreamDecoder:
    """Decode the bytes of one response into chunks.

    Call `feed` for every read, `flush` once when the bytes have ended or `done` is True, then `close`, which raises if
    the stream did not end properly. No other method raises: the chunks before an error are returned first.

    `ending` is True once the vendor has marked the end. As long as `done` is False, late events such as usage may
    follow, or the connection may stay open without any.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, include_raw: bool = False, max_event_bytes: int = MAX_EVENT_BYTES
    ) -> None:
        self.vocabulary = vocabulary
        self.done = False
        self.ending = False
        self._include_raw = include_raw
        self._split: SplitCharacters | None = None  # set once an event had half a character
        self.plain_chunks = not include_raw  # the chunks of an event need no further work: no `raw`, no `_split`
        self._use_fast_path = False  # for reads of one event: an event was seen, and its chunks are plain
        self._max = max_event_bytes
        self._tokens: Tokens | None = getattr(vocabulary, "tokens", None)
        self._sse = SSEDecoder()
        self._events = 0
        self._bytes = 0
        self._head = b""
        self._failure: StreamcoreError | None = None
        self._cause: Exception | None = None

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks that these bytes completed, in order; often none, often one."""
        out: list[Chunk] = []
        event = self._sse.only(data) if self._use_fast_path else None
        if event is None:
            self._feed_any(data, out)
        else:
            self._bytes += len(data)
            self.take(event, out)
        return out

    def _feed_any(self, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks that these bytes completed, for reads of any size."""
        if self.done:
            self._feed_late(data, out)
            return
        self._bytes += len(data)
        self._use_fast_path = False
        events, before = self._read_runs(self._sse.whole(data), out), self._events
        self.read(events, out)
        self._head = b"" if self._events else (self._head + data)[:_HEAD_BYTES]
        if self.done:
            if self._sse.pending or self._events - before < len(events):
                log.debug("ignored data after the end of a %s stream in the same read", self.vocabulary.wire)
        elif self._sse.pending > self._max:
            self._events += 1
            self.fail(MalformedStream(f"it is longer than {self._max} bytes"))
        self._use_fast_path = self.plain_chunks and self._events > 0 and not self.done

    def _feed_late(self, data: bytes, out: list[Chunk]) -> None:
        """Append the events after the end: they are not part of the answer, but nothing is dropped silently."""
        if data.strip():
            log.debug("ignored %d bytes after the end of the answer on %s", len(data), self.vocabulary.wire)
        if self._failure is None and self._sse.pending <= self._max:
            for event in self._sse.feed(data):
                self._late(event, out)

    def _late(self, event: Event, out: list[Chunk]) -> None:
        """Append an event after the end as `other`, unless it is part of an answer, which has ended."""
        data = event.data
        if self._failure is not None or data.lstrip()[:1] != b"{" or not _is_whole(data):
            return
        value = json.loads(data)
        name = event.name.decode("utf-8", "replace") or text(mapping(value).get("type"))
        if not self.vocabulary.knows(name or "", value):
            out.append(Chunk("other", event=name, raw=data))

    def _read_runs(self, whole: bytes, out: list[Chunk]) -> list[Event]:
        """Append the chunks of events that the vocabulary decodes many at once; return the events that are left."""
        name, left, tokens = b"", iter(list[bytes]()), self._tokens
        # A character U+FFFD may stand for bytes that are not UTF-8; `take` then checks each event.
        if len(whole) <= self._max and (whole.isascii() or "\ufffd" not in whole.decode("utf-8", "replace")):
            for _ in _RUNS:
                name, run, whole = self._sse.run(whole)
                left, last = iter(run), self._events + len(run)
                while run and tokens is not None and self.plain_chunks and not self.done:
                    data = tokens(name, left, out)
                    self._events = last - length_hint(left)
                    if data is None:
                        break
                    self._events -= 1
                    self.take(Event(data, name), out)
                else:
                    break
        return [*(Event(data, name) for data in left), *self._sse.events(whole)]

    def read(self, events: Sequence[Event], out: list[Chunk]) -> None:
        """Append the chunks of events; those after the end of the answer as `other`."""
        for event in events:
            if self.done:
                self._late(event, out)
            elif self.plain_chunks:
                self.take(event, out)
            else:
                before = len(out)
                self.take(event, out)
                if self._split is not None:
                    out[before:] = self._split.mend(out[before:])
                if self._include_raw:
                    out[before:] = [replace(chunk, raw=event.data) for chunk in out[before:]]

    def take(self, event: Event, out: list[Chunk]) -> None:
        """Append the chunks of one event."""
        self._events += 1
        data = event.data
        vocabulary = self.vocabulary
        try:
            if len(data) > self._max:
                raise MalformedStream(f"it is longer than {self._max} bytes")
            if not data.isascii():
                data.decode()
            try:
                vocabulary.event(event.name, data, out)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                self._take_odd(event, error, out)
            if vocabulary.marked:
                self.ending = True
                if vocabulary.done:
                    self.end()
        except StreamcoreError as error:
            self._fail_event(event, error, out)
        except UnicodeDecodeError as error:
            self.fail(MalformedStream(f"the data are not valid UTF-8: {error}"), error)
        except RecursionError as error:
            self.fail(MalformedStream("the JSON is nested too deeply"), error)

    def _take_odd(self, event: Event, error: Exception, out: list[Chunk]) -> None:
        """Append the chunks of an event that the vocabulary could not decode."""
        data = event.data
        if isinstance(error, LoneSurrogatesError):
            split = self._split = self._split or SplitCharacters()
            before = len(out)
            try:
                self.vocabulary.event(event.name, error.rewritten(), out)
            finally:
                new = [replace(chunk, raw=data) if chunk.raw else chunk for chunk in out[before:]]
                # Plain chunks are not mended elsewhere; from now on, `read` mends those of every event.
                out[before:] = split.mend(new) if self.plain_chunks else new
                self.plain_chunks = self._use_fast_path = False
            return
        # A vendor may send JSON of a new shape at any time; the other events must still be decoded.
        log.debug("event %d of a %s stream has an unknown shape", self._events, self.vocabulary.wire)
        out.append(Chunk("other", event=event.name.decode("utf-8", "replace") or None, raw=data))

    def _fail_event(self, event: Event, error: StreamcoreError, out: list[Chunk]) -> None:
        """End the stream with the error of an event, unless the event is empty."""
        if isinstance(error, MalformedStream):
            if event.name == b"error":  # an error whose data are plain text
                message = event.data.decode("utf-8", "replace").strip()[:_SHOWN_ERROR]
                self.fail(provider_error(message or None), error)
                return
            if not event.data.strip():  # some gateways send an empty `data:` to keep the connection open
                out.append(Chunk("ping"))
                return
        if self._split is not None:
            error.args = tuple(well_formed(part) for part in error.args)
            if isinstance(error, ProviderError):
                error.message, error.code = well_formed(error.message), well_formed(error.code)
                error.body = well_formed(error.body)
        self.fail(error, error.__cause__)

    def flush(self) -> list[Chunk]:
        """Return the chunks of a complete event that lacks only its last blank line, and text that was delayed."""
        out: list[Chunk] = []
        event = None if self._failure is not None else self._sse.flush()
        if event is not None and (event.name == b"error" or _is_whole(event.data)):
            self.read([event], out)
        last = [] if self.done else self.at_end(self._include_raw)
        if self._split is not None:
            last = [*self._split.end(), *self._split.mend(last)]
        return out + last

    def at_end(self, include_raw: bool) -> list[Chunk]:
        """Return the chunks that only the end of the bytes shows, for a format that does not mark it."""
        return []

    def close(self) -> None:
        """Raise unless the vendor marked the end of the answer.

        Raises:
            ProviderError: an event reported an error.
            MalformedStream: the bytes are not a stream of this format.
            StreamInterrupted: the bytes ended before the end was marked.
        """
        if self._failure is not None:
            raise self._failure from self._cause
        vocabulary = self.vocabulary
        if vocabulary.failed is not None:
            raise vocabulary.failed
        if vocabulary.marked:
            return
        if not self._events:
            head = self._head.removeprefix(BOM).strip()
            if not BOM.startswith(head) and not _could_be_sse(head):
                shown = head.decode("utf-8", "replace")[:_SHOWN]
                raise MalformedStream(f"the response is not an event stream; it begins with {shown!r}")
        suspect = vocabulary.suspect
        hint = "" if suspect is None else f"; one event looks like an error: {str(suspect)[:_SHOWN]}"
        raise StreamInterrupted(
            f"the {vocabulary.wire} stream ended without its terminal mark "
            f"after {self._events} events and {self._bytes} bytes{hint}; what arrived is in .partial"
        )

    def fail(self, failure: StreamcoreError, cause: BaseException | None = None) -> None:
        """End the stream with an error, which `close` raises; for decoders of frames around the events."""
        if isinstance(failure, MalformedStream):
            failure = MalformedStream(f"event {self._events} of the {self.vocabulary.wire} stream: {failure}")
        self._failure = failure
        self._cause = cause if isinstance(cause, Exception) else None
        self.end()

    def end(self) -> None:
        """End the answer: what follows is not part of it."""
        self.done = self.ending = True
        self._use_fast_path = False


def parse_json(data: bytes) -> Any:
    """Parse an event's JSON, including values that msgspec refuses: `NaN`, `1e400`.

    Raises:
        MalformedStream: the data are not JSON.
        LoneSurrogatesError: a string has half of a surrogate pair; `StreamDecoder` rewrites the event and retries.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError):
        try:
            value = json.loads(data)
        except ValueError as error:
            shown = data[:80].decode("utf-8", "replace")
            raise MalformedStream(f"the data are not JSON ({error}): {shown!r}") from error
    check_surrogates(value, data)
    return value


def _is_whole(data: bytes) -> bool:
    if data.strip() == DONE:
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _could_be_sse(head: bytes) -> bool:
    """True if the bytes may be a stream that was cut early or sent only comments, not a page or a JSON body."""
    line = head.replace(b"\r", b"\n").partition(b"\n")[0]
    field, colon, _ = line.partition(b":")
    fields = (b"", b"data", b"event", b"id", b"retry", b"error")
    return field in fields or (not colon and any(known.startswith(field) for known in fields))
