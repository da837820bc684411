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
from streamcore.errors import ConfigError, NodeError, StreamcoreError
from streamcore.sse.place import Place, id_of

Format = Literal["text", "json", "html"]
"""`text`: tokens as they are; `json`: chunks and graph events, lossless; `html`: escaped fragments for HTMX."""

Item = Chunk | str | Mapping[str, Any]
"""What a stream is made of: chunks, tokens, or the dicts of `stream_graph_with_tokens`."""

Describe = Callable[[Exception], str]

HEARTBEAT = b": heartbeat\n\n"
MARK = "[DONE]"
LAST_ID = b"end"
"""The id of the last message: a client that asks for what comes after it has had everything."""
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
    ids: bool = False,
    after: int | Place = 0,
    describe: Describe | None = None,
) -> Encoder:
    """Return the encoder of one stream.

    Args:
        format: see `Format`.
        ids: number the messages from 1 with `id:` lines, so that a browser which reconnects says what it has; the
            last one's is `end`.
        after: the number that the first message follows; where the source numbers its items, the place behind it.
        describe: what an error says to whoever reads the stream; without, `public_message`.

    Raises:
        ConfigError: there is no such format.
    """
    if format not in get_args(Format):
        raise ConfigError(f"no SSE format {format!r}; known are {', '.join(map(repr, get_args(Format)))}")
    return Encoder(format, ids=ids, after=after, describe=describe or public_message)


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

    __slots__ = ("_before", "_describe", "_held", "_id", "_ids", "_part", "_skip", "format")

    def __init__(self, format: Format, *, ids: bool, after: int | Place, describe: Describe) -> None:  # noqa: A002
        self.format = format
        self._ids = ids
        self._describe = describe
        self._held = ""  # the end of the text so far, if it takes what follows to know what it is
        self._part = -1  # of a numbered item's messages, the last one's number; -1 where items have no numbers
        self._skip = 0  # how many of the next item's messages the client has
        self._before = ""  # what was held back before the item
        if isinstance(after, Place):
            self._id, self._part, self._skip, self._held = after.after, 0, after.part, after.held
        else:
            self._id = after

    def start(self) -> bytes:
        """Return what goes out before anything has come: with ids the first one, so that a reconnect is known."""
        if self._skip:  # the client says again what it said, if nothing more reaches it
            return b"id: %b\n\n" % id_of(self._id + 1, self._skip, self._held)
        return b"id: %d\n\n" % self._id if self._ids else b""

    def feed_numbered(self, items: Iterable[Item], last: int) -> bytes:
        """Return the messages of some items whose source numbers them, the last one with `last`.

        Their ids are made from the items' numbers: `place_of` tells where to go on. A `gap` (see `docs/relay.md`) has
        the number of the last item that it stands for. The rest is as with `feed`.
        """
        found: list[bytes] = []
        items = list(items)
        one = _json_message if self.format == "json" else Encoder._spoken
        for number, item in enumerate(items, last - len(items) + 1):
            if isinstance(item, Chunk | str) or item["type"] != "gap":
                self._number(number)
                found.append(one(self, item))
            elif self._id or self._skip:
                self._held, self._skip = "", 0
                self._number(number)
                found.append(self._gap(item["items"]))
            else:  # a client that has nothing needs not be told that there is a gap
                self._number(number)
                found += [one(self, each) for each in item["items"]]
            self._skip = 0
        return b"".join(found)

    def _number(self, number: int) -> None:
        self._id, self._part, self._before = number, 0, self._held

    def _gap(self, items: Iterable[Item]) -> bytes:
        """Return the message that stands for everything so far, and what was asked meanwhile."""
        if self.format == "json":
            return self._message(b'{"type":"gap","items":[%b]}' % b",".join(map(_json, items)), b"gap")
        texts: list[str] = []
        asked: list[Item] = []
        for item in items:
            text = self._text_of(item)
            texts.append(text)
            if not isinstance(item, Chunk | str) and item["type"] == "interrupt":
                asked.append(item)
        text = "".join(texts)
        return self._text(self._whole(text) if text else "", b"gap") + b"".join(map(self._spoken, asked))

    def feed(self, items: Iterable[Item]) -> bytes:
        """Return the messages of some items.

        Raises:
            ConfigError: a restart in `text` or `html`, which cannot take back what was shown; or a graph event that
                holds something which is not JSON.
        """
        if self.format == "json":
            return b"".join([self._message(_json(item)) for item in items])
        return b"".join([self._spoken(item) for item in items])

    def heartbeat(self) -> bytes:
        """Return a comment, which keeps proxies from closing a connection that is quiet."""
        return HEARTBEAT

    def end(self, completion: Completion | None = None) -> bytes:
        """Return the end of a stream that did not fail; in `json` with what `completion` says beyond the chunks."""
        self._number_end()
        return self._rest() + self._done({"complete": True} if completion is None else _summary(completion))

    def error(self, error: Exception) -> bytes:
        """Return the end of a stream that failed: the error, then the end."""
        self._number_end()
        rest = self._rest()
        facts = self.facts(error)
        if self.format == "json":
            told = self._message(_dumps(facts), b"stream-error")
        else:
            told = self._text(facts["message"], b"stream-error")
        partial = getattr(error, "partial", None)
        return rest + told + self._done(_summary(partial) if partial else {"complete": False})

    def _number_end(self) -> None:
        if self._part >= 0:  # the end counts as the item behind the last
            self._number(self._id + 1)

    def facts(self, error: Exception) -> dict[str, Any]:
        """Return what an error says to the client: `type`, `message`, and `retryable` and `retry_after` if known."""
        facts: dict[str, Any] = {"type": type(error).__name__, "message": self._describe(error)}
        return facts | {key: value for key in ("retryable", "retry_after") if (value := getattr(error, key, None))}

    def _done(self, summary: Mapping[str, Any]) -> bytes:
        head = b"id: %b\n" % LAST_ID if self._ids else b""
        if self.format == "text":
            return b"%bdata: %b\n\n" % (head, MARK.encode())
        return b"event: done\n%bdata: %b\n\n" % (head, _dumps(summary) if self.format == "json" else b"")

    def _message(self, data: bytes, event: bytes = b"") -> bytes:
        """Frame data that has no line ends."""
        head = b"event: %b\n" % event if event else b""
        if self._ids and self._part < 0:
            self._id += 1
            head += b"id: %d\n" % self._id
        elif self._ids:
            self._part += 1
            if self._part <= self._skip:
                return b""
            head += b"id: %b\n" % id_of(self._id, self._part, self._before)
        return b"%bdata: %b\n\n" % (head, data)

    def _spoken(self, item: Item) -> bytes:
        """Return the messages of an item in a format that knows text only."""
        if not isinstance(item, Chunk | str) and item["type"] == "interrupt":
            said = item["message"]
            question = said if isinstance(said, str) else _dumps(said).decode()
            return self._rest() + self._text(question, b"interrupt")
        text = self._text_of(item)
        return self._text(self._whole(text)) if text else b""

    def _text_of(self, item: Item) -> str:
        """Return what of an item a format shows that knows text only."""
        if isinstance(item, str):
            return item
        if isinstance(item, Chunk):
            kind = item.kind
            if kind == "text" or kind == "refusal":
                return "" if item.choice else item.text
        else:
            kind = item["type"]
            if kind == "token":
                return str(item["content"])
        if kind == "restart":
            raise ConfigError(
                f"the answer began again, and format {self.format!r} cannot take back what was shown; "
                "use format 'json', or no on_interrupt: restart and no retries"
            )
        return ""

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

    def _text(self, text: str, event: bytes = b"") -> bytes:
        """Return the message of a text, none for no text."""
        if not text:
            return b""
        if self.format == "html":
            # Inside an element also a text of blanks alone survives htmx; line ends would be lost in SSE's lines.
            text = html.escape(text).replace("\r", "&#13;").replace("\n", "&#10;").replace("\0", "\ufffd")
            return self._message(_utf8(f"<span>{text}</span>"), event)
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if MARK in text and not event:  # a page that compares, trimmed or not, must not take it for the end
            cut = text.index(MARK) + 1
            return self._text(text[:cut]) + self._text(text[cut:])
        if "\n" in text:
            text = text.replace("\n", "\ndata: ")
        return self._message(_utf8(text), event)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # pairs of surrogates that came apart; what has no other half becomes U+FFFD
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _json_message(encoder: Encoder, item: Item) -> bytes:
    return encoder._message(_json(item))  # pyright: ignore[reportPrivateUsage]


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
