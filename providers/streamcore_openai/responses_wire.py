"""Decode the `openai-responses` wire: the events of a streamed Responses API answer.

Source: the Responses API reference, "Streaming events", and recordings of the API and of compatible gateways.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from streamcore.chunk import Chunk, ChunkKind, FinishReason, Opaque, ToolCall, Usage, content, contents, tool_call
from streamcore.cost import gateway_cost
from streamcore.errors import StreamcoreError, provider_error
from streamcore.wire.decoder import DONE, parse_json
from streamcore.wire.endings import another_answer, failed_answer, is_failure, looks_like_error, unmarked
from streamcore.wire.facts import Facts, token_logprobs
from streamcore.wire.lenient import count, items, mapping, text
from streamcore_openai.responses_known import has_unread_fields

WIRE = "openai-responses"


_Known = Raw | UnsetType  # fields that contain nothing of the answer


class _Event(Struct, gc=False, forbid_unknown_fields=True):
    type: str = ""
    delta: Any = None
    item_id: str | None = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    text: str | None = None
    arguments: str | None = None
    input: str | None = None
    refusal: str | None = None
    annotation: dict[str, Any] | None = None
    logprobs: Any = None
    item: Raw | UnsetType = UNSET
    response: Raw | UnsetType = UNSET
    error: Any = None
    part: _Known = UNSET
    sequence_number: _Known = UNSET
    obfuscation: _Known = UNSET
    annotation_index: _Known = UNSET
    name: _Known = UNSET  # of the function, with its complete arguments; the item has it, too


class _Token(Struct, gc=False, forbid_unknown_fields=True, kw_only=True):
    """Describe a token of text, for runs of them. The fields have the vendor's order, in which msgspec is fastest."""

    type: Literal["response.output_text.delta"]
    sequence_number: int | None = None
    item_id: str | None = None
    output_index: int
    content_index: int | None = None
    delta: str
    logprobs: tuple[()] | None = None
    obfuscation: str | None = None


_decode_token = msgspec.json.Decoder(_Token).decode
_FIELDS = frozenset(_Event.__struct_fields__)
_decode = msgspec.json.Decoder(_Event).decode

_DELTAS: Mapping[str, ChunkKind] = {
    "response.output_text.delta": "text",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.refusal.delta": "refusal",
}
_DONES: Mapping[str, ChunkKind] = {
    "response.output_text.done": "text",
    "response.reasoning_summary_text.done": "reasoning",
    "response.reasoning_text.done": "reasoning",
    "response.refusal.done": "refusal",
}
_CALL_DELTAS = frozenset({"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"})
_CALL_DONES = frozenset({"response.function_call_arguments.done", "response.custom_tool_call_input.done"})
_CALLS = frozenset({"function_call", "custom_tool_call"})
_OWN_ITEMS = frozenset({"message", "reasoning"}) | _CALLS
# Events that begin or end a part, and contain nothing that other events do not.
_FRAMES = frozenset(
    {
        "response.in_progress",
        "response.queued",
        "response.content_part.added",
        "response.content_part.done",
        "response.reasoning_part.added",
        "response.reasoning_part.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
    }
)
_PINGS = frozenset({"keepalive", "ping", "response.keepalive"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
_OWN_EVENTS = (
    _FRAMES
    | _PINGS
    | _ENDS
    | {
        "error",
        "response.created",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_text.annotation.added",
    }
)

_PLAIN_CALL = frozenset({"type", "id", "call_id", "name", "arguments", "status"})
_PLAIN_MESSAGE = frozenset({"type", "id", "role", "content", "status"})

_Key = tuple[str, int, int]  # the event that streams the text, output item, part


class ResponsesVocabulary:
    """Convert the events of one response; `response.completed`, `.incomplete`, `.failed` and `.done` mark its end.

    The vendor sends every text again, complete, at the end of its part, its item and the response. These texts are used
    only if no delta had any of them, so nothing is lost from servers that send no deltas, and no text is repeated.
    """

    wire = WIRE

    def __init__(self, *, request_id: str | None = None, source: str | None = None) -> None:
        self.marked = False
        self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None
        self._source = source
        self._request_id = request_id
        self._id: str | None = None
        self._started = False
        self._facts = Facts()
        self._calls: dict[int, ToolCall] = {}
        self._sent_parts: set[_Key] = set()  # the parts of which text was passed on
        self._sent_items: set[tuple[str, int]] = set()  # the items of which text was passed on
        self._positions: dict[str, int] = {}  # the items' ids, for servers that leave out `output_index`
        self._last = -1  # the last item's position
        self._items: dict[int, Mapping[str, Any]] = {}
        # The event, item and part of the text that is streamed now, if it is plain text.
        self._text_event: str | None = None
        self._text_index: int = 0
        self._text_part: int | None = None

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True for the events of a response; see `Vocabulary.knows`."""
        kinds = (kind, event.get("type"))
        return any(one in known for one in kinds for known in (_DELTAS, _DONES, _CALL_DELTAS, _CALL_DONES, _OWN_EVENTS))

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        unread = False
        try:
            event = _decode(data)
        except (msgspec.DecodeError, ValueError):
            if data.strip() == DONE:
                return  # some gateways send it last; it does not mark the end
            value = parse_json(data)
            event = _lenient(value)
            unread = any(item is not None for key, item in mapping(value).items() if key not in _FIELDS)
        if (
            event.type == self._text_event
            and event.output_index == self._text_index
            and event.content_index == self._text_part
            and event.delta.__class__ is str
            and event.delta
            and not event.logprobs
            and not unread
        ):  # the next token of the same text
            out.append(content("text", event.delta, self._text_index))
            return
        kind = event.type or name.decode("utf-8", "replace")
        index = self._missing_index(kind, event) if event.output_index is None else event.output_index
        text_kind = _DELTAS.get(kind)
        if text_kind is not None and isinstance(event.delta, str):
            if text_kind == "text" and event.delta:
                self._text_event, self._text_index, self._text_part = kind, index, event.content_index
            self._text(text_kind, (kind[:-6], index, _part(event)), event.delta, event.item_id, out)
            if event.logprobs:
                facts = {"logprobs": token_logprobs(event.logprobs)}
                out.append(Chunk("other", event=kind, index=index, raw=data, data=facts))
        elif kind in _CALL_DELTAS and isinstance(event.delta, str) and index in self._calls:
            self._arguments(index, event.delta, out)
        elif kind in _DONES:
            whole = event.refusal if kind == "response.refusal.done" else event.text
            self._whole(_DONES[kind], (kind[:-5], index, _part(event)), whole, event.item_id, out)
        elif kind in _CALL_DONES and index in self._calls:
            whole = event.arguments if event.arguments is not None else event.input
            self._whole_arguments(index, whole, out)
        elif kind in ("response.output_item.added", "response.output_item.done") and event.item is not UNSET:
            self._item(_object(event.item), index, kind.endswith("done"), data, out)
        elif kind == "response.output_text.annotation.added" and event.annotation is not None:
            self._citation(index, event.annotation, out)
        elif kind == "error" or (not kind and event.error is not None):
            raise provider_error(parse_json(data), request_id=self._request_id)
        else:
            self._rare(kind, index, event, data, out)
        if unread and not (out and out[-1].raw is data):
            out.append(_other(kind, index, data))

    def tokens(self, name: bytes, events: Iterator[bytes], out: list[Chunk]) -> bytes | None:
        """Append the chunks of a run of events; see `Tokens`."""
        if self._text_event != "response.output_text.delta":
            return next(events, None)
        index, part = self._text_index, self._text_part
        texts: list[str] = []
        data: bytes | None = None
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            for data in events:
                token = _decode_token(data)
                if token.output_index != index or token.content_index != part:
                    break
                texts.append(token.delta)
            else:
                data = None
        out += contents("text", texts, index)
        return data

    def _rare(self, kind: str, index: int, event: _Event, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of events that are sent once or rarely."""
        response = _object(event.response)
        if kind == "response.created" and self._id and text(response.get("id")) not in (None, self._id):
            raise another_answer(self._id, text(response.get("id")))
        if response and not self._started:
            self._id = text(response.get("id"))
            self._started = True
            response_id, model = text(response.get("id")), text(response.get("model"))
            self._note(response)
            start = Chunk("start", id=response_id, model=model, request_id=self._request_id)
            out.append(replace(start, data=self._facts.take()))
        if kind in _ENDS:
            self._end(kind, response, data, out)
        elif kind in _PINGS:
            out.append(Chunk("ping"))
        elif kind == "response.created" or kind in _FRAMES:
            if has_unread_fields(mapping(parse_json(data))):
                out.append(_other(kind, index, data))
        else:
            value = parse_json(data)
            if not kind.startswith("response.") and looks_like_error(value):
                self.suspect = value
            out.append(_other(kind, index, data))

    def _missing_index(self, kind: str, event: _Event) -> int:
        """Return the position of an event's item for a server that leaves out `output_index`."""
        item = _object(event.item)
        key = event.item_id or item.get("id") or item.get("call_id")
        if key:
            return self._positions.setdefault(str(key), self._last + 1)
        opens = kind == "response.output_item.added"
        if self._last in self._items:  # the last item is finished
            opens = opens or bool(item) or kind in _DELTAS
        return self._last + 1 if opens else max(self._last, 0)

    def _text(self, kind: ChunkKind, key: _Key, piece: str, item_id: str | None, out: list[Chunk]) -> None:
        if piece:
            if key not in self._sent_parts:
                self._sent_parts.add(key)
                self._sent_items.add(key[:2])
                self._last = max(self._last, key[1])
                if kind == "reasoning":  # only the first chunk of a part has its number and the item's id
                    out.append(Chunk(kind, piece, key[1], data={"part": key[2]}, id=item_id))
                    return
            out.append(content(kind, piece, key[1]))

    def _whole(self, kind: ChunkKind, key: _Key, whole: object, item_id: str | None, out: list[Chunk]) -> None:
        """Append a finished text of which no delta had any."""
        if isinstance(whole, str) and key not in self._sent_parts:
            self._text(kind, key, whole, item_id, out)

    def _arguments(self, index: int, piece: str, out: list[Chunk]) -> None:
        if piece:
            call = self._calls[index]
            self._sent_items.add(("call", index))
            fragment = tool_call(call.id, call.name, piece, call.position, call.custom)
            out.append(content("tool_call", "", index, 0, fragment))

    def _whole_arguments(self, index: int, whole: object, out: list[Chunk]) -> None:
        if isinstance(whole, str) and ("call", index) not in self._sent_items:
            self._arguments(index, whole, out)

    def _citation(self, index: int, citation: Mapping[str, Any], out: list[Chunk]) -> None:
        self._sent_items.add(("citation", index))
        out.append(Chunk("citation", index=index, data=citation))

    def _item(self, item: Mapping[str, Any], index: int, done: bool, data: bytes, out: list[Chunk]) -> None:
        """Begin or end an output item."""
        kind = text(item.get("type")) or ""
        self._last = max(self._last, index)
        self._positions.setdefault(_key(item), index)
        if kind in _CALLS:
            self._open_call(item, index, out)
        elif kind not in _OWN_ITEMS:
            out.append(_other(kind, index, data))
        if done:
            self._items[index] = item
            self._catch_up(item, index, out)
            if item.get("encrypted_content") and kind == "reasoning":
                out.append(Chunk("reasoning", index=index, opaque=Opaque(WIRE, (item,), source=self._source)))
        if has_unread_fields({"item": item}):
            out.append(_other(kind, index, data))

    def _open_call(self, item: Mapping[str, Any], index: int, out: list[Chunk]) -> None:
        if index not in self._calls:
            custom = item.get("type") == "custom_tool_call"
            call_id, name = text(item.get("call_id") or item.get("id")), text(item.get("name"))
            call = ToolCall(call_id, name, "", len(self._calls), custom)
            self._calls[index] = call
            out.append(Chunk("tool_call", index=index, tool_call=call, id=text(item.get("id"))))

    def _catch_up(self, item: Mapping[str, Any], index: int, out: list[Chunk]) -> None:
        """Append the content of a finished item that was not streamed."""
        texts: list[tuple[ChunkKind, str, str, str]] = []
        match item.get("type"):
            case "message":
                texts = [
                    ("text", "response.output_text", "content", "text"),
                    ("refusal", "response.refusal", "content", "refusal"),
                ]
            case "reasoning":
                texts = [
                    ("reasoning", "response.reasoning_summary_text", "summary", "text"),
                    ("reasoning", "response.reasoning_text", "content", "text"),
                ]
            case "function_call" | "custom_tool_call":
                self._whole_arguments(index, item.get("arguments", item.get("input")), out)
            case _:
                pass
        for kind, event, parts, field in texts:
            if (event, index) not in self._sent_items:
                for number, part in enumerate(items(item.get(parts))):
                    self._whole(kind, (event, index, number), mapping(part).get(field), text(item.get("id")), out)
        if item.get("type") == "message" and ("citation", index) not in self._sent_items:
            for part in items(item.get("content")):
                for citation in items(mapping(part).get("annotations")):
                    self._citation(index, mapping(citation), out)

    def _end(self, kind: str, response: Mapping[str, Any], data: bytes, out: list[Chunk]) -> None:
        self.marked = self.done = True
        self._unclosed(items(response.get("output")), data, out)
        status = text(response.get("status")) or kind.removeprefix("response.")
        failed = kind == "response.failed" or status == "cancelled" or is_failure(status)
        if not response and self.suspect is not None:
            raise unmarked(self.suspect, request_id=self._request_id)
        detail = text(mapping(response.get("incomplete_details")).get("reason"))
        if not failed:
            out.append(
                Chunk(
                    "finish",
                    finish_reason=self._finish_reason(status, detail),
                    raw_finish_reason=status,
                    finish_detail=detail,
                    opaque=self._opaque(),
                )
            )
        usage = mapping(response.get("usage"))
        if usage:
            out.append(Chunk("usage", usage=read_usage(usage)))
        self._note(response)
        facts = self._facts.take()
        if facts and (usage or not failed):
            out[-1] = replace(out[-1], data=facts)
            facts = None
        if facts or has_unread_fields({"response": response}):
            out.append(Chunk("other", event=kind, raw=data, data=facts))
        if failed:
            error = response.get("error") or mapping(response.get("status_details")).get("error")
            if error or kind == "response.failed":
                raise provider_error({"error": error}, request_id=self._request_id)
            raise failed_answer(status, request_id=self._request_id)

    def _unclosed(self, output: Sequence[Any], data: bytes, out: list[Chunk]) -> None:
        """Append the items of the complete response that no event of their own ended."""
        closed = {_key(item) for item in self._items.values()} - {_key({})}
        streamed = {index for _, index in self._sent_items}
        for number, item in enumerate(map(mapping, output)):
            key = _key(item)
            index = number if number in streamed else self._positions.get(key, number)
            if key not in closed and index not in self._items:
                self._item(item, index, True, data, out)

    def _note(self, response: Mapping[str, Any]) -> None:
        """Store the facts of a response that are not content."""
        usage = mapping(response.get("usage"))
        self._facts.note("service_tier", text(response.get("service_tier")) or text(usage.get("service_tier")))
        self._facts.note("served_by", text(response.get("provider")))
        self._facts.note("cost", gateway_cost(usage, {}))

    def _finish_reason(self, status: str, detail: str | None) -> FinishReason:
        if status in ("completed", "done"):
            return "tool_calls" if self._calls else "stop"
        if detail == "max_output_tokens":
            return "length"
        return "content_filter" if detail == "content_filter" else "other"

    def _opaque(self) -> Opaque | None:
        """Return the items for the next turn; None if a text and the calls after it represent them."""
        output = tuple(item for _, item in sorted(self._items.items()))
        plain = all(_is_plain(item, number == 0) for number, item in enumerate(output))
        return None if plain else Opaque(WIRE, output, source=self._source)


def _key(item: Mapping[str, Any]) -> str:
    return str(item.get("id") or item.get("call_id"))


def _is_plain(item: Mapping[str, Any], first: bool) -> bool:
    """True if a message's text and calls represent all of this item, in this order."""
    known = {key for key, value in item.items() if value is not None}
    if item.get("type") == "function_call":
        return known <= _PLAIN_CALL
    parts = [mapping(part) for part in items(item.get("content"))]
    return (
        first
        and item.get("type") == "message"
        and known <= _PLAIN_MESSAGE
        and len(parts) < 2
        and all(part.get("type") == "output_text" and not part.get("annotations") for part in parts)
    )


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Convert a usage object of the Responses API."""
    prompt = mapping(usage.get("input_tokens_details"))
    output = mapping(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cache_read_tokens=count(prompt.get("cached_tokens")),
        cache_write_tokens=count(prompt.get("cache_write_tokens")),
        reasoning_tokens=count(output.get("reasoning_tokens")),
        raw=usage,
    )


def _part(event: _Event) -> int:
    return (event.content_index if event.summary_index is None else event.summary_index) or 0


def _other(event: str, index: int, data: bytes) -> Chunk:
    return Chunk("other", event=event or None, index=index, raw=data)


def _lenient(value: object) -> _Event:
    """Return the fields of an event that have the expected types; the others are ignored."""
    given = mapping(value)
    event = _Event(delta=given.get("delta"), logprobs=given.get("logprobs"), error=given.get("error"))
    for name in ("type", "item_id", "text", "arguments", "input", "refusal"):
        if isinstance(given.get(name), str):
            setattr(event, name, given[name])
    for name in ("output_index", "content_index", "summary_index"):
        setattr(event, name, count(given.get(name)))
    if isinstance(given.get("annotation"), dict):
        event.annotation = given["annotation"]
    for name in ("item", "response"):
        if isinstance(given.get(name), dict):
            setattr(event, name, Raw(json.dumps(given[name]).encode()))
    return event


def _object(raw: Raw | UnsetType) -> Mapping[str, Any]:
    return {} if isinstance(raw, UnsetType) else mapping(parse_json(bytes(raw)))
