"""Decode the `openai-responses` wire: the events of a streamed Responses API answer.

Source: the Responses API reference, "Streaming events", and recordings of the API and of compatible gateways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from streamcore.chunk import Chunk, ChunkKind, FinishReason, Opaque, ToolCall, Usage, content
from streamcore.errors import provider_error
from streamcore.wire.decoder import DONE, parse_json

WIRE = "openai-responses"


class _Event(Struct, gc=False):
    type: str = ""
    delta: Any = None
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
# Events that frame others and say nothing that those do not say.
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
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})

_Key = tuple[str, int, int]  # the event that streams the text, output item, part


class ResponsesVocabulary:
    """Read the events of one response; `response.completed`, `.incomplete` and `.failed` mark and end it.

    Every text is also sent whole when its part, its item and the response are done. It is taken from there only
    where no delta brought any of it, so that servers which send no deltas lose nothing, and nothing is said twice.
    """

    wire = WIRE

    def __init__(self, *, request_id: str | None = None) -> None:
        self.done = False
        self._request_id = request_id
        self._started = False
        self._calls: dict[int, ToolCall] = {}
        self._told: set[_Key] = set()  # the texts that have been passed on, each part for itself
        self._told_items: set[tuple[str, int]] = set()  # the same, each item for itself
        self._positions: dict[str, int] = {}  # the items' ids, for servers that leave out `output_index`
        self._items: dict[int, dict[str, Any]] = {}
        # The text that is being streamed, if it is plain text: its event, item and part.
        self._flow = ""
        self._flow_index = 0
        self._flow_part: int | None = None

    @property
    def marked(self) -> bool:
        """True after the event that ends the response."""
        return self.done

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        try:
            event = _decode(data)
        except (msgspec.DecodeError, ValueError):
            if data.strip() == DONE:
                return  # some gateways close with it; the mark is another
            event = _lenient(parse_json(data))
        kind = event.type or name.decode("utf-8", "replace")
        index = event.output_index or 0
        if (
            kind == self._flow
            and index == self._flow_index
            and event.content_index == self._flow_part
            and isinstance(event.delta, str)
            and event.delta
            and not event.logprobs
        ):  # the next token of the same text
            out.append(content("text", event.delta, index))
            return
        text_kind = _DELTAS.get(kind)
        if text_kind is not None and isinstance(event.delta, str):
            if text_kind == "text" and event.delta:
                self._flow, self._flow_index, self._flow_part = kind, index, event.content_index
            self._text(text_kind, (kind[:-6], index, _part(event)), event.delta, out)
            if event.logprobs:
                out.append(_other(kind, index, data))
        elif kind in _CALL_DELTAS and isinstance(event.delta, str) and index in self._calls:
            self._arguments(index, event.delta, out)
        elif kind in _DONES and event.output_index is not None:
            whole = event.refusal if kind == "response.refusal.done" else event.text
            self._whole(_DONES[kind], (kind[:-5], index, _part(event)), whole, out)
        elif kind in _CALL_DONES and index in self._calls:
            whole = event.arguments if event.arguments is not None else event.input
            self._whole_arguments(index, whole, out)
        elif kind in ("response.output_item.added", "response.output_item.done") and event.item is not UNSET:
            item = msgspec.json.decode(cast("Raw", event.item))
            if event.output_index is None:
                index = self._positions.get(str(item.get("id")), len(self._positions))
            self._item(item, index, kind.endswith("done"), data, out)
        elif kind == "response.output_text.annotation.added" and event.annotation is not None:
            out.append(Chunk("citation", index=index, data=event.annotation))
        elif kind == "error":
            raise provider_error(parse_json(data), request_id=self._request_id)
        else:
            self._rare(kind, index, event, data, out)

    def _rare(self, kind: str, index: int, event: _Event, data: bytes, out: list[Chunk]) -> None:
        """Take the events that come once or seldom."""
        response: dict[str, Any] = {}
        if event.response is not UNSET:
            response = msgspec.json.decode(cast("Raw", event.response)) or {}
            if not self._started:
                self._started = True
                out.append(
                    Chunk(
                        "start",
                        id=response.get("id"),
                        model=response.get("model"),
                        request_id=self._request_id,
                    )
                )
        if kind in _ENDS:
            self._end(kind, response, data, out)
        elif kind in _PINGS:
            out.append(Chunk("ping"))
        elif kind == "response.created" or kind in _FRAMES:
            pass
        else:
            out.append(_other(kind, index, data))

    def _text(self, kind: ChunkKind, key: _Key, text: str, out: list[Chunk]) -> None:
        if text:
            if key not in self._told:
                self._told.add(key)
                self._told_items.add(key[:2])
            out.append(content(kind, text, key[1]))

    def _whole(self, kind: ChunkKind, key: _Key, text: object, out: list[Chunk]) -> None:
        """Pass on a finished text that no delta brought."""
        if isinstance(text, str) and key not in self._told:
            self._text(kind, key, text, out)

    def _arguments(self, index: int, text: str, out: list[Chunk]) -> None:
        if text:
            call = self._calls[index]
            self._told_items.add(("call", index))
            fragment = ToolCall(call.id, call.name, text, call.position, call.custom)
            out.append(content("tool_call", "", index, 0, fragment))

    def _whole_arguments(self, index: int, text: object, out: list[Chunk]) -> None:
        if isinstance(text, str) and ("call", index) not in self._told_items:
            self._arguments(index, text, out)

    def _item(self, item: dict[str, Any], index: int, done: bool, data: bytes, out: list[Chunk]) -> None:
        """Open or close an output item."""
        kind = item.get("type")
        self._positions.setdefault(str(item.get("id")), index)
        if kind in _CALLS:
            self._open_call(item, index, out)
        elif kind not in _OWN_ITEMS:
            out.append(_other(str(kind), index, data))
        if done:
            self._items[index] = item
            self._catch_up(item, index, out)
            if item.get("encrypted_content") and kind == "reasoning":
                out.append(Chunk("reasoning", index=index, opaque=Opaque(WIRE, (item,))))

    def _open_call(self, item: dict[str, Any], index: int, out: list[Chunk]) -> None:
        if index not in self._calls:
            custom = item.get("type") == "custom_tool_call"
            call = ToolCall(
                item.get("call_id") or item.get("id"), item.get("name"), "", len(self._calls), custom
            )
            self._calls[index] = call
            out.append(content("tool_call", "", index, 0, call))

    def _catch_up(self, item: dict[str, Any], index: int, out: list[Chunk]) -> None:
        """Pass on what a finished item holds and nothing streamed."""
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
            if (event, index) not in self._told_items:
                for number, part in enumerate(item.get(parts) or ()):
                    self._whole(kind, (event, index, number), part.get(field), out)

    def _end(self, kind: str, response: dict[str, Any], data: bytes, out: list[Chunk]) -> None:
        self.done = True
        if not self._items and not self._told_items:  # a server that streams nothing but the whole response
            for index, item in enumerate(response.get("output") or ()):
                self._item(item, index, True, data, out)
        status = response.get("status") or kind.removeprefix("response.")
        detail = (response.get("incomplete_details") or {}).get("reason")
        if kind != "response.failed":
            out.append(
                Chunk(
                    "finish",
                    finish_reason=self._finish_reason(status, detail),
                    raw_finish_reason=status,
                    finish_detail=detail,
                    opaque=self._opaque(),
                )
            )
        usage = response.get("usage")
        if usage:
            out.append(Chunk("usage", usage=read_usage(usage)))
        if kind == "response.failed":
            raise provider_error({"error": response.get("error")}, request_id=self._request_id)

    def _finish_reason(self, status: str, detail: str | None) -> FinishReason:
        if status == "completed":
            return "tool_calls" if self._calls else "stop"
        if detail == "max_output_tokens":
            return "length"
        return "content_filter" if detail == "content_filter" else "other"

    def _opaque(self) -> Opaque | None:
        """Return the items for the next turn, unless plain messages and calls say it all."""
        items = tuple(item for _, item in sorted(self._items.items()))
        plain = all(item.get("type") in ("message", "function_call") for item in items)
        return None if plain else Opaque(WIRE, items)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Give a usage object of the Responses API its normal form."""
    given = usage.get("input_tokens_details") or {}
    made = usage.get("output_tokens_details") or {}
    return Usage(
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        cache_read_tokens=given.get("cached_tokens"),
        cache_write_tokens=given.get("cache_write_tokens"),
        reasoning_tokens=made.get("reasoning_tokens"),
        raw=usage,
    )


def _part(event: _Event) -> int:
    return (event.content_index if event.summary_index is None else event.summary_index) or 0


def _other(event: str, index: int, data: bytes) -> Chunk:
    return Chunk("other", event=event or None, index=index, raw=data)


def _lenient(value: object) -> _Event:
    """Read the fields that have the expected types out of an event that does not fit as a whole."""
    given = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    event = _Event(delta=given.get("delta"), logprobs=given.get("logprobs"))
    for name in ("type", "text", "arguments", "input", "refusal"):
        if isinstance(given.get(name), str):
            setattr(event, name, given[name])
    for name in ("output_index", "content_index", "summary_index"):
        number = given.get(name)
        if isinstance(number, int | float) and number == number // 1:
            setattr(event, name, int(number))
    if isinstance(given.get("annotation"), dict):
        event.annotation = given["annotation"]
    for name in ("item", "response"):
        if isinstance(given.get(name), dict):
            setattr(event, name, Raw(msgspec.json.encode(given[name])))
    return event
