"""Turn chunks, tokens and graph events into Server-Sent Events: a pure state machine, bytes out."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, get_args

import msgspec

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.cost import write_cost
from streamcore.errors import ConfigError, OverloadedError, ProviderError, RateLimitError, StreamError, StreamTimeout
from streamcore.sse.event_id import LAST, EventId, is_run_id, suffix
from streamcore.sse.public import interrupted, public_message, without_texts

Format = Literal["text", "json", "html"]
"""`text`: tokens as they are; `json`: chunks and graph events, lossless; `html`: escaped fragments for HTMX."""

Item = Chunk | str | Mapping[str, Any]
"""One item of a stream: a chunk, a token, or a dict of `stream_graph_with_tokens`."""


class EventEncoder(Protocol):
    """Encode the events of one stream, its end included."""

    def start(self) -> bytes: ...
    def feed(self, items: Sequence[Any]) -> bytes: ...
    def heartbeat(self) -> bytes: ...
    def end(self, completion: Completion | None = None) -> bytes: ...
    def error(self, error: Exception) -> bytes: ...

    def refusal(self, error: Exception) -> Refusal:
        """Return the response for an error that came before the first event."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """The response to a request that has no stream."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Describe = Callable[[Exception], str]
"""A function that returns the message that clients get for an error."""

HEARTBEAT = b": heartbeat\n\n"
MARK = "[DONE]"

_CHUNK_FIELDS = tuple(one.name for one in fields(Chunk))[1:]
_WITH_TEXT = frozenset({"text", "reasoning", "refusal"})
_SUMMARY = (
    "complete",
    "finish_reason",
    "raw_finish_reason",
    "finish_detail",
    "usage",
    "model",
    "id",
    "request_id",
    "parsed",
    "attempts",
)


def unknown_format(format: object, *kinds: Any) -> ConfigError:  # noqa: A002  the word that users know
    """Return the error for a format that is in none of these literals."""
    known = [one for kind in kinds for one in get_args(kind)]
    return ConfigError(f"there is no SSE format {format!r}; use one of {', '.join(map(repr, known))}")


def encode(
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    ids: bool | str = False,
    after: int | EventId = 0,
    retry: float | None = None,
    describe: Describe | None = None,
    cost: bool = False,
) -> Encoder:
    """Return the encoder of one stream.

    Args:
        format: see `Format`.
        ids: add an `id:` line to each event, the number of items so far, so that a browser that reconnects names the
            last one it has; the last event's id is `end`. A str names the stream in its ids: `"r7"` makes `r7.1`.
        after: what the client already has: a number of items, or the id of its last event.
        retry: seconds that a browser waits before it reconnects; None: the browser's default (Chromium: 3).
        describe: returns the message that clients get for an error; None: `public_message`.
        cost: in `json`, the last event has the `cost` of the answer, if it is known; see `Completion.cost`.

    Raises:
        ConfigError: there is no such format, or `ids` has other characters than A-Z a-z 0-9 _ ~ -.
    """
    if format not in get_args(Format):
        raise unknown_format(format, Format)
    if isinstance(ids, str) and ids and not is_run_id(ids):
        raise ConfigError(f"ids= must be 1 to 64 characters of A-Z a-z 0-9 _ ~ -, not {ids[:80]!r}")
    event_id = after if isinstance(after, EventId) else EventId(after=after)
    return Encoder(format, ids=ids, after=event_id, retry=retry, describe=describe or public_message, cost=cost)


class Encoder:
    """Encode one stream: call `start()`, then `feed()` for each batch of items, then once `end()` or `error()`.

    Each method returns whole events, or b"", to be sent as they are. The last event of every stream is its end:
    `data: [DONE]` in `text`, `event: done` in `json` and `html`. Where the stream failed, `event: stream-error` comes
    before it; never `error`, a name that EventSource uses itself. A client that closes at the end never reconnects.

    The client gets the text to the last character, with three exceptions. `text` has no form for CR, so CR and CRLF
    become LF. `html` has none for NUL, which becomes U+FFFD. In both, half a surrogate pair that stays alone becomes
    U+FFFD.
    """

    __slots__ = ("_cost", "_describe", "_id", "_ids", "_prefix", "_retry", "_withheld", "format")

    def __init__(
        self,
        format: Format,  # noqa: A002
        *,
        ids: bool | str,
        after: EventId,
        retry: float | None,
        describe: Describe,
        cost: bool = False,
    ) -> None:
        self.format = format
        self._cost = cost
        self._retry = b"" if retry is None else b"retry: %d\n" % round(retry * 1000)
        self._ids = bool(ids)
        self._prefix = f"{ids}.".encode() if isinstance(ids, str) else b""
        self._id = after.after or 0
        self._describe = describe
        self._withheld = after.withheld  # the end of the text so far, if what follows decides how it is sent

    def start(self) -> bytes:
        """Return what is sent before the first item: with ids the first id, by which a reconnect is recognized."""
        head = self._retry + self._id_line() if self._ids else self._retry
        return head + b"\n" if head else b""

    def feed(self, items: Iterable[Item]) -> bytes:
        """Return the events of some items.

        Raises:
            ConfigError: a restart in `text` or `html`, which cannot take back what was shown; or a graph event with a
                value that is not JSON.
            StreamInterrupted: a relay's `gap` in `text` or `html`, for the same reason.
        """
        encode_item = self._json_event if self.format == "json" else self._text_events
        return b"".join([encode_item(item) for item in items])

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing an idle connection."""
        return HEARTBEAT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of a stream that did not fail; in `json` with a summary of `completion`."""
        return self._rest() + self._done({"complete": True} if completion is None else self._summary(completion))

    def error(self, error: Exception) -> bytes:
        """Return the end of a stream that failed: the error, then the end."""
        rest = self._rest()
        facts = self.facts(error)
        if self.format == "json":
            event = self._event(json_bytes(facts), b"stream-error")
        else:
            event = self._text(facts["message"], b"stream-error")
        partial = getattr(error, "partial", None)
        return rest + event + self._done(self._summary(partial) if partial else {"complete": False})

    def refusal(self, error: Exception) -> Refusal:
        """Return the response for an error that came before the first event: a status with a JSON body."""
        retry_after = getattr(error, "retry_after", None)
        headers = {} if retry_after is None else {"retry-after": f"{retry_after:.0f}"}
        return Refusal(status_of(error), json.dumps({"error": self.facts(error)}).encode(), headers)

    def facts(self, error: Exception) -> dict[str, Any]:
        """Return what the client gets of an error: `type`, `message`, and `retryable` and `retry_after` if known."""
        facts: dict[str, Any] = {"type": type(error).__name__, "message": self._describe(error)}
        return facts | {key: value for key in ("retryable", "retry_after") if (value := getattr(error, key, None))}

    def _done(self, summary: Mapping[str, Any]) -> bytes:
        head = b"id: %b%b\n" % (self._prefix, LAST.encode()) if self._ids else b""
        if self.format == "text":
            return b"%bdata: %b\n\n" % (head, MARK.encode())
        return b"event: done\n%bdata: %b\n\n" % (head, json_bytes(summary) if self.format == "json" else b"")

    def _summary(self, completion: Completion) -> dict[str, Any]:
        """Return what is known at the end, without the texts and calls, which are in the chunks."""
        facts = {name: getattr(completion, name) for name in _SUMMARY}
        if self._describe is public_message:
            facts["attempts"] = without_texts(completion.attempts)
        if self._cost:
            facts["cost"] = write_cost(completion.cost)
        return {name: value for name, value in facts.items() if name == "complete" or value not in (None, ())}

    def _id_line(self, rest: str = "") -> bytes:
        return b"id: %b%d%b\n" % (self._prefix, self._id, suffix(rest + self._withheld))

    def _event(self, data: bytes, name: bytes = b"", rest: str = "") -> bytes:
        """Return the event for data without line ends; `rest` is text of the same item that is still to be sent."""
        head = b"event: %b\n" % name if name else b""
        if self._ids:
            head += self._id_line(rest)
        return b"%bdata: %b\n\n" % (head, data)

    def _json_event(self, item: Item) -> bytes:
        """Return the event of an item in `json`."""
        if isinstance(item, (Chunk, str)) or item["type"] != "gap":
            self._id += 1
            return self._event(_json(item))
        self._id = item["seq"]
        return self._event(b'{"type":"gap","seq":%d,"items":[%b]}' % (self._id, b",".join(map(_json, item["items"]))))

    def _text_events(self, item: Item) -> bytes:
        """Return the events of an item in `text` or `html`, which carry text only."""
        self._id += 1
        if isinstance(item, str):
            kind, text = "text", item
        elif isinstance(item, Chunk):
            kind = item.kind
            text = item.text if (kind == "text" or kind == "refusal") and not (item.choice or item.path) else ""
        else:
            kind = item["type"]
            text = item["content"] if kind == "token" else ""
            if kind == "gap":
                return self._gap(item)
            if kind == "interrupt":
                message = item["message"]
                question = message if isinstance(message, str) else json_bytes(message).decode()
                self._id -= 1  # a client that loses the connection between the two must still get the question
                rest = self._rest()
                self._id += 1
                return rest + self._text(question, b"interrupt")
        if text:
            return self._text(self._complete(text))
        if kind == "restart":
            raise ConfigError(
                f"the answer was restarted, and format {self.format!r} cannot take back what was shown; "
                "use format 'json', or turn off on_interrupt: restart and retries"
            )
        return b""

    def _gap(self, gap: Mapping[str, Any]) -> bytes:
        """Return the events of all items that a gap replaces, for a client that has none of them."""
        if self._id > 1:
            raise interrupted(
                "the rest cannot be sent, since its beginning is no longer stored; read the run from its beginning"
            )
        self._id = 0
        events = b"".join([self._text_events(item) for item in gap["items"]])
        self._id = gap["seq"]
        return events

    def _complete(self, text: str) -> str:
        """Prepend withheld text, and withhold the end: a CR that a LF may follow, half a surrogate pair."""
        text = self._withheld + text
        last = text[-1]
        if "\ud800" <= last <= "\udbff" or (last == "\r" and self.format == "text"):
            self._withheld = last
            return text[:-1]
        self._withheld = ""
        return text

    def _rest(self) -> bytes:
        withheld, self._withheld = self._withheld, ""
        return self._text(withheld)

    def _text(self, text: str, name: bytes = b"", rest: str = "") -> bytes:
        """Return the event of a text, b"" for ""; `rest` is text of the same item that is still to be sent."""
        if not text:
            return b""
        if self.format == "html":
            # htmx drops a text of blanks alone unless it is in an element; SSE would drop line ends.
            text = html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;").replace("\0", "\ufffd")
            return self._event(_utf8(f"<span>{text}</span>"), name, rest)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if MARK in text and not name:  # a page must not take it for the end
            cut = text.index(MARK) + 1
            return self._text(text[:cut], rest=text[cut:] + rest) + self._text(text[cut:], rest=rest)
        if "\n" in text:
            text = text.replace("\n", "\ndata: ")
        return self._event(_utf8(text), name, rest)


def status_of(error: Exception) -> int:
    """Return the status of a response for an error that came before the first event."""
    if isinstance(error, RateLimitError | OverloadedError):
        return 503
    if isinstance(error, StreamTimeout):
        return 504
    return 502 if isinstance(error, ProviderError | StreamError) else 500


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # put halves of a surrogate pair together; a half that stays alone becomes U+FFFD
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _json(item: Item) -> bytes:
    if isinstance(item, Chunk):
        if item.kind == "text" and not (item.index or item.choice or item.raw or item.path):  # as nearly every token is
            return json_bytes({"kind": "text", "text": item.text})
        facts: dict[str, Any] = {"kind": item.kind}
        if item.kind in _WITH_TEXT:
            facts["text"] = item.text
        for name in _CHUNK_FIELDS:
            if value := getattr(item, name):
                facts[name] = value if name != "raw" else value.decode("utf-8", "surrogateescape")
        return json_bytes(facts)
    return json_bytes({"kind": "text", "text": item} if isinstance(item, str) else item)


def json_bytes(value: object) -> bytes:
    """Return a value as JSON.

    Raises:
        ConfigError: it is nested too deeply.
    """
    try:
        return _encoded(value)
    except RecursionError as error:
        raise ConfigError("an item cannot be written as JSON, since its data are nested too deeply") from error


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=json_value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape
        return json.dumps(msgspec.to_builtins(value, enc_hook=json_value)).encode()
    except TypeError as error:
        kind = f" of type {value['type']!r}" if isinstance(value, dict) and "type" in value else ""
        raise ConfigError(f"an event{kind} cannot be sent as JSON: {error}") from error


def json_value(value: object) -> object:
    """Return the dict for a mapping or a pydantic model, as msgspec's `enc_hook`."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    dump = getattr(value, "model_dump", None)  # pydantic's, which is not imported here
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
