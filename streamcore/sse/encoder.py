"""Turn chunks, tokens and graph events into Server-Sent Events: a pure state machine, bytes out."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, get_args

import msgspec

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.errors import ConfigError, NodeError, StreamcoreError, StreamInterrupted
from streamcore.sse.event_id import LAST, Place, tail

Format = Literal["text", "json", "html"]
"""`text`: tokens as they are; `json`: chunks and graph events, lossless; `html`: escaped fragments for HTMX."""

Item = Chunk | str | Mapping[str, Any]
"""What a stream is made of: chunks, tokens, or the dicts of `stream_graph_with_tokens`."""

Describe = Callable[[Exception], str]
"""A function that returns the text that an error shows to the client."""

HEARTBEAT = b": heartbeat\n\n"
MARK = "[DONE]"
HIDDEN = "the service failed; its log says why"

_CHUNK_FIELDS = tuple(field.name for field in fields(Chunk))[1:]
_SPOKEN = frozenset({"text", "reasoning", "refusal"})
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


def encode(
    format: Format = "text",  # noqa: A002  the word that users know
    *,
    ids: bool | str = False,
    after: int | Place = 0,
    retry: float | None = None,
    describe: Describe | None = None,
) -> Encoder:
    """Return the encoder of one stream.

    Args:
        format: see `Format`.
        ids: say in each message, with an `id:` line, how many items have come, so that a browser which reconnects
            says what it has; the last one's is `end`. A str names the stream in its ids: `"r7"` makes `r7.1`.
        after: the place that the first message follows; a `Place` also says what text is still to be sent.
        retry: seconds after which a browser that lost the connection comes back; without, it decides (Chromium: 3).
        describe: what an error says to whoever reads the stream; without, `public_message`.

    Raises:
        ConfigError: there is no such format.
    """
    if format not in get_args(Format):
        raise ConfigError(f"no SSE format {format!r}; known are {', '.join(map(repr, get_args(Format)))}")
    place = after if isinstance(after, Place) else Place(after=after)
    return Encoder(format, ids=ids, place=place, retry=retry, describe=describe or public_message)


def public_message(error: Exception) -> str:
    """Say what went wrong to whoever reads a stream, who need not be who runs the service.

    Errors of the vendor and of the stream tell their own story. Those of configuration name files and variables, and
    those of other code anything at all: of them only that there was one.
    """
    cause = error.__cause__ if isinstance(error, NodeError) else None
    if isinstance(cause, Exception) and public_message(cause) == HIDDEN:
        return HIDDEN
    return str(error) if isinstance(error, StreamcoreError) and not isinstance(error, ConfigError) else HIDDEN


class Encoder:
    """Encode one stream: `start()`, `feed()` as often as something comes, then once `end()` or `error()`.

    Every result is whole messages, or nothing, and may be sent as it is. The last message of every stream is its end:
    `data: [DONE]` in `text`, `event: done` in `json` and `html`. Before it, where the stream failed, stands
    `event: stream-error`; never `error`, which is EventSource's own. Whoever closes at the end never reconnects.

    What arrives is the text to the last character, save: `text` cannot say CR, so CR and CRLF become LF; `html` cannot
    say NUL, which becomes U+FFFD; and half a surrogate pair whose other half never comes becomes U+FFFD in both.
    """

    __slots__ = ("_describe", "_held", "_id", "_ids", "_prefix", "_retry", "format")

    def __init__(
        self,
        format: Format,  # noqa: A002
        *,
        ids: bool | str,
        place: Place,
        retry: float | None,
        describe: Describe,
    ) -> None:
        self.format = format
        self._retry = b"" if retry is None else b"retry: %d\n" % round(retry * 1000)
        self._ids = bool(ids)
        self._prefix = f"{ids}.".encode() if isinstance(ids, str) else b""
        self._id = place.after or 0
        self._describe = describe
        self._held = place.held  # the end of the text so far, if it takes what follows to know what it is

    def start(self) -> bytes:
        """Return what goes out before anything has come: with ids the first one, so that a reconnect is known."""
        head = self._retry + self._place() if self._ids else self._retry
        return head + b"\n" if head else b""

    def feed(self, items: Iterable[Item]) -> bytes:
        """Return the messages of some items.

        Raises:
            ConfigError: a restart in `text` or `html`, which cannot take back what was shown; or a graph event that
                holds something which is not JSON.
            StreamInterrupted: a relay's `gap` in `text` or `html`, for the same reason.
        """
        say = self._framed if self.format == "json" else self._spoken
        return b"".join([say(item) for item in items])

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing a connection that is quiet."""
        return HEARTBEAT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of a stream that did not fail; in `json` with what `completion` says beyond the chunks."""
        return self._rest() + self._done({"complete": True} if completion is None else _summary(completion))

    def error(self, error: Exception) -> bytes:
        """Return the end of a stream that failed: the error, then the end."""
        rest = self._rest()
        facts = self.facts(error)
        if self.format == "json":
            told = self._message(_dumps(facts), b"stream-error")
        else:
            told = self._text(facts["message"], b"stream-error")
        partial = getattr(error, "partial", None)
        return rest + told + self._done(_summary(partial) if partial else {"complete": False})

    def facts(self, error: Exception) -> dict[str, Any]:
        """Return what an error says to the client: `type`, `message`, and `retryable` and `retry_after` if known."""
        facts: dict[str, Any] = {"type": type(error).__name__, "message": self._describe(error)}
        return facts | {key: value for key in ("retryable", "retry_after") if (value := getattr(error, key, None))}

    def _done(self, summary: Mapping[str, Any]) -> bytes:
        head = b"id: %b%b\n" % (self._prefix, LAST.encode()) if self._ids else b""
        if self.format == "text":
            return b"%bdata: %b\n\n" % (head, MARK.encode())
        return b"event: done\n%bdata: %b\n\n" % (head, _dumps(summary) if self.format == "json" else b"")

    def _place(self, rest: str = "") -> bytes:
        return b"id: %b%d%b\n" % (self._prefix, self._id, tail(rest + self._held))

    def _message(self, data: bytes, event: bytes = b"", rest: str = "") -> bytes:
        """Frame data that has no line ends; `rest` is what is still to be sent of the same item."""
        head = b"event: %b\n" % event if event else b""
        if self._ids:
            head += self._place(rest)
        return b"%bdata: %b\n\n" % (head, data)

    def _framed(self, item: Item) -> bytes:
        """Return the message of an item in `json`."""
        if isinstance(item, (Chunk, str)) or item["type"] != "gap":
            self._id += 1
            return self._message(_json(item))
        self._id = item["seq"]
        return self._message(b'{"type":"gap","seq":%d,"items":[%b]}' % (self._id, b",".join(map(_json, item["items"]))))

    def _spoken(self, item: Item) -> bytes:
        """Return the messages of an item in a format that knows text only."""
        self._id += 1
        if isinstance(item, str):
            kind, text = "text", item
        elif isinstance(item, Chunk):
            kind = item.kind
            text = item.text if (kind == "text" or kind == "refusal") and not item.choice else ""
        else:
            kind = item["type"]
            text = item["content"] if kind == "token" else ""
            if kind == "gap":
                return self._caught_up(item)
            if kind == "interrupt":
                said = item["message"]
                question = said if isinstance(said, str) else _dumps(said).decode()
                self._id -= 1  # whoever loses the connection between the two must get the question still
                rest = self._rest()
                self._id += 1
                return rest + self._text(question, b"interrupt")
        if text:
            return self._text(self._whole(text))
        if kind == "restart":
            raise ConfigError(
                f"the answer began again, and format {self.format!r} cannot take back what was shown; "
                "use format 'json', or no on_interrupt: restart and no retries"
            )
        return b""

    def _caught_up(self, gap: Mapping[str, Any]) -> bytes:
        """Return the messages of all that a gap stands for, to a client that has none of it."""
        if self._id > 1:
            raise StreamInterrupted("too much was missed: the beginning of the rest is no longer kept. Ask for it all")
        self._id = 0
        found = b"".join([self._spoken(item) for item in gap["items"]])
        self._id = gap["seq"]
        return found

    def _whole(self, text: str) -> str:
        """Put what was held back before a text, and hold its end back: CR before LF, half a surrogate pair."""
        text = self._held + text
        last = text[-1]
        if "\ud800" <= last <= "\udbff" or (last == "\r" and self.format == "text"):
            self._held = last
            return text[:-1]
        self._held = ""
        return text

    def _rest(self) -> bytes:
        held, self._held = self._held, ""
        return self._text(held)

    def _text(self, text: str, event: bytes = b"", rest: str = "") -> bytes:
        """Return the message of a text, none for no text; `rest` is what is still to be sent of the same item."""
        if not text:
            return b""
        if self.format == "html":
            # Inside an element also a text of blanks alone survives htmx; line ends would be lost in SSE's lines.
            text = html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;").replace("\0", "\ufffd")
            return self._message(_utf8(f"<span>{text}</span>"), event, rest)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if MARK in text and not event:  # a page that compares, trimmed or not, must not take it for the end
            cut = text.index(MARK) + 1
            return self._text(text[:cut], rest=text[cut:] + rest) + self._text(text[cut:], rest=rest)
        if "\n" in text:
            text = text.replace("\n", "\ndata: ")
        return self._message(_utf8(text), event, rest)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # pairs of surrogates that came apart; what has no other half becomes U+FFFD
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _json(item: Item) -> bytes:
    if isinstance(item, Chunk):
        if item.kind == "text" and not (item.index or item.choice or item.raw):  # as nearly every token is
            return _dumps({"kind": "text", "text": item.text})
        found: dict[str, Any] = {"kind": item.kind}
        if item.kind in _SPOKEN:
            found["text"] = item.text
        for name in _CHUNK_FIELDS:
            if value := getattr(item, name):
                found[name] = value if name != "raw" else value.decode("utf-8", "surrogateescape")
        return _dumps(found)
    return _dumps({"kind": "text", "text": item} if isinstance(item, str) else item)


def _summary(completion: Completion) -> dict[str, Any]:
    """Return what is known at the end; the texts and calls are in the chunks."""
    facts = {name: getattr(completion, name) for name in _SUMMARY}
    return {name: value for name, value in facts.items() if name == "complete" or value not in (None, ())}


def _dumps(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=plain)
    except UnicodeEncodeError:  # half a surrogate pair: JSON's escapes can say it
        return json.dumps(msgspec.to_builtins(value, enc_hook=plain)).encode()
    except TypeError as error:
        kind = f" of type {value['type']!r}" if isinstance(value, dict) and "type" in value else ""
        raise ConfigError(f"an event{kind} cannot be sent as JSON: {error}") from error


def plain(value: object) -> object:
    """Return the plain data that JSON can say in place of a mapping or a pydantic model, as msgspec's `enc_hook`."""
    if isinstance(value, Mapping):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    dump = getattr(value, "model_dump", None)  # pydantic's, which is not imported here
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
