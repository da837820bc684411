"""Decode the `anthropic-messages` wire: the events of a streamed Messages API response.

Source: the Messages API reference, "Streaming messages", and recordings of the API.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from operator import itemgetter
from typing import Any, ClassVar, Literal, cast

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from streamcore.chunk import Chunk, FinishReason, Opaque, ToolCall, Usage, content, contents, tool_call
from streamcore.cost import gateway_cost
from streamcore.errors import StreamcoreError, provider_error
from streamcore.wire.decoder import parse_json
from streamcore.wire.endings import RepeatedWork, another_answer, failed_answer, is_failure, looks_like_error, unmarked
from streamcore.wire.facts import Facts
from streamcore.wire.lenient import count, is_array, is_object, items, mapping
from streamcore_anthropic.known import EVENTS, has_unread_fields

WIRE = "anthropic-messages"

FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "pause",
}


class _Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    signature: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None
    container: Any = None


class _Block(Struct, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    input: Raw | UnsetType = UNSET
    citations: list[dict[str, Any]] | None = None


class _Message(Struct, gc=False):
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    usage: dict[str, Any] | None = None
    stop_reason: str | None = None
    container: Any = None


class _Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Raw | UnsetType = UNSET
    message: _Message | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _TextDelta(Struct, gc=False, tag="text_delta", forbid_unknown_fields=True):
    kind: ClassVar[Literal["text"]] = "text"
    text: str


class _ThinkingDelta(Struct, gc=False, tag="thinking_delta", forbid_unknown_fields=True):
    kind: ClassVar[Literal["reasoning"]] = "reasoning"
    text: str = field(name="thinking")


class _JSONDelta(Struct, gc=False, tag="input_json_delta", forbid_unknown_fields=True):
    kind: ClassVar[Literal["tool_call"]] = "tool_call"
    text: str = field(name="partial_json")


class _Token(Struct, gc=False, tag="content_block_delta", tag_field="type", forbid_unknown_fields=True):
    """Describe the most frequent event, which is tried first: a fragment of text, thinking or a call's arguments."""

    index: int
    delta: _TextDelta | _ThinkingDelta | _JSONDelta


_TOKEN_EVENT = b"content_block_delta"
_decode_token = msgspec.json.Decoder(_Token).decode
_decode = msgspec.json.Decoder(_Event).decode
_decode_block = msgspec.json.Decoder(_Block).decode

_PLAIN = frozenset({"text", "tool_use"})  # the blocks that a `Message` represents without opaque data
_TOOL_USE = frozenset({"type", "id", "name", "input"})


class _OpenBlock:
    """Collect the events of one content block."""

    __slots__ = ("call", "citations", "data", "input", "json", "pieces", "signature", "type")

    def __init__(self, block: _Block, data: dict[str, Any]) -> None:
        self.type = block.type
        self.data = data
        self.pieces: list[str] = []
        self.json: list[str] = []
        self.signature: list[str] = []
        self.citations: list[dict[str, Any]] = []
        self.call: ToolCall | None = None
        self.input = ""

    def whole(self) -> dict[str, Any]:
        """Return the complete block, as the next request sends it back."""
        block = dict(self.data)
        if self.pieces:
            key = "thinking" if self.type == "thinking" else "text"
            block[key] = (block.get(key) or "") + "".join(self.pieces)
        if self.signature:
            block["signature"] = (block.get("signature") or "") + "".join(self.signature)
        if self.citations:
            block["citations"] = [*(block.get("citations") or ()), *self.citations]
        if self.json:
            try:
                given: object = msgspec.json.decode("".join(self.json) or "{}")
            except (msgspec.DecodeError, ValueError):
                given = None  # the call was cut; its `ToolCall` is not complete, so no request is sent with it
            block["input"] = given if is_object(given) else {}
        return block

    def is_plain(self, first: bool) -> bool:
        """True if a message's text and calls represent all of this block, in this order."""
        if self.type == "text":
            return first and not self.citations and not self.data.get("citations")
        return self.type == "tool_use" and self.data.keys() <= _TOOL_USE


class AnthropicVocabulary:
    """Convert the events of one message to chunks; only `message_stop` marks its end."""

    wire = WIRE

    def __init__(self, *, request_id: str | None = None, source: str | None = None) -> None:
        self.marked = False
        self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None
        self._request_id = request_id
        self._id: str | None = None
        self._source = source
        self._blocks: dict[int, _OpenBlock] = {}
        self._all: list[tuple[int, _OpenBlock]] = []  # some servers start two blocks with one index
        self._container: object = None
        self._calls = 0
        self._started = False
        self._finished = False
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._facts = Facts()
        self._work = RepeatedWork()

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True for the events of a message; see `Vocabulary.knows`."""
        return kind in EVENTS or event.get("type") in EVENTS

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        if name != _TOKEN_EVENT and name:  # to try costs more: msgspec describes what it refuses
            self._any_event(name, data, out)
            return
        try:
            token = _decode_token(data)
        except (msgspec.DecodeError, ValueError):
            self._any_event(name, data, out)
            return
        delta, index = token.delta, token.index
        block = self._blocks.get(index)
        if delta.kind != "tool_call":
            if delta.text:
                out.append(content(delta.kind, delta.text, index))
            if block is not None:
                block.pieces.append(delta.text)
        elif block is not None and block.call is not None:
            block.json.append(delta.text)
            if delta.text:
                call = block.call
                fragment = tool_call(call.id, call.name, delta.text, call.position)
                out.append(content("tool_call", "", index, 0, fragment))
        else:
            self._any_event(name, data, out)

    def tokens(self, name: bytes, events: Iterator[bytes], out: list[Chunk]) -> bytes | None:
        """Append the chunks of a run of events, of text or of thinking; see `Tokens`."""
        kind: type[_TextDelta | _ThinkingDelta] | None = None
        index = 0
        texts: list[str] = []
        data: bytes | None = None
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            for data in events:
                token = _decode_token(data)
                delta = token.delta
                if delta.__class__ is not kind or token.index != index:
                    if kind is not None or isinstance(delta, _JSONDelta):
                        break
                    kind, index = type(delta), token.index
                texts.append(delta.text)
            else:
                data = None
        if kind is not None:
            out += contents(kind.kind, texts, index)
            block = self._blocks.get(index)
            if block is not None:
                block.pieces += texts
        return data

    def _any_event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        value = mapping(parse_json(data))
        try:
            event = _decode(data)
        except (msgspec.DecodeError, ValueError):
            event = _lenient(value)
        kind, before = event.type or name.decode("utf-8", "replace"), len(out)
        match kind:
            case "content_block_delta" if event.delta is not None:
                self._delta(event.index, event.delta, data, out)
            case "content_block_start" if event.content_block is not UNSET:
                self._block_start(event.index, event.content_block, data, out)
            case "content_block_stop":
                self._block_stop(event.index, out)
            case "message_start" if event.message is not None:
                self._message_start(event.message, data, out)
            case "message_delta" if event.delta is not None or event.usage:
                self._message_delta(event, value, out)
            case "message_stop":
                self._stop(out)
            case "ping":
                out.append(content("ping", ""))
            case "error" | "" if kind or event.error is not None:
                raise provider_error(parse_json(data), request_id=self._request_id)
            case _:
                self._unknown(kind, event.index, value, data, out)
        if has_unread_fields(kind, value) and not any(chunk.kind == "other" for chunk in out[before:]):
            out.append(_other(kind, event.index, data))

    def _unknown(self, kind: str, index: int, value: object, data: bytes, out: list[Chunk]) -> None:
        if kind not in EVENTS and looks_like_error(value):
            self.suspect = value
        out.append(_other(kind, index, data))

    def _stop(self, out: list[Chunk]) -> None:
        self.marked = self.done = True
        if self._finished or self.failed is not None:
            return
        if self._stop_reason is None and self.suspect is not None:
            raise unmarked(self.suspect, request_id=self._request_id)
        self._finish(self._stop_reason, None, out)

    def _message_start(self, message: _Message, data: bytes, out: list[Chunk]) -> None:
        usage = self._overlaid(message.usage) if message.usage else None
        self._container = message.container or self._container
        if self._started:  # some proxies send the event twice; its content is passed on once
            if message.id and self._id and message.id != self._id:
                raise another_answer(self._id, message.id)
            out.append(_other("message_start", 0, data))
            if usage is not None:
                out.append(Chunk("usage", usage=usage))
            return
        self._started = True
        self._id = message.id
        facts = self._facts.take()
        start = Chunk("start", id=message.id, model=message.model, request_id=self._request_id, usage=usage, data=facts)
        out.append(start)
        self._stop_reason = message.stop_reason
        for index, block in enumerate(message.content or ()):
            self._block_start(index, block, data, out)
            self._block_stop(index, out)

    def _block_start(self, index: int, raw: Raw, data: bytes, out: list[Chunk]) -> None:
        try:
            block, whole = _decode_block(raw), msgspec.json.decode(raw)
        except (msgspec.DecodeError, ValueError):
            out.append(_other("content_block_start", index, data))
            return
        open_block = self._blocks[index] = _OpenBlock(block, whole)
        self._all.append((index, open_block))
        match block.type:
            case "text":
                if block.text:
                    out.append(content("text", block.text, index))
                for citation in block.citations or ():
                    out.append(Chunk("citation", index=index, data=citation))
            case "thinking":
                if block.thinking:
                    out.append(content("reasoning", block.thinking, index))
                if block.signature:
                    out.append(_opaque(index, {"signature": block.signature}))
            case "redacted_thinking":
                out.append(_opaque(index, open_block.data))
            case "tool_use":
                call = open_block.call = ToolCall(block.id, block.name, "", self._calls)
                self._calls += 1
                given = "" if block.input is UNSET else bytes(block.input).decode()
                open_block.input = "" if given.replace(" ", "") in ("{}", "null") else given
                start = content("tool_call", "", index, 0, call)
                out.append(start if whole.keys() <= _TOOL_USE else replace(start, opaque=Opaque(WIRE, (whole,))))
            case _:
                out.append(_other(block.type, index, data))

    def _delta(self, index: int, delta: _Delta, data: bytes, out: list[Chunk]) -> None:
        block = self._blocks.get(index)
        match delta.type:
            case "text_delta" if delta.text is not None:
                if delta.text:
                    out.append(content("text", delta.text, index))
                if block is not None:
                    block.pieces.append(delta.text)
            case "thinking_delta" if delta.thinking is not None:
                if delta.thinking:
                    out.append(content("reasoning", delta.thinking, index))
                if block is not None:
                    block.pieces.append(delta.thinking)
            case "input_json_delta" if delta.partial_json is not None and block is not None:
                block.json.append(delta.partial_json)
                if block.call is None:
                    out.append(_other(block.type, index, data))
                elif delta.partial_json:
                    call = block.call
                    fragment = tool_call(call.id, call.name, delta.partial_json, call.position)
                    out.append(content("tool_call", "", index, 0, fragment))
            case "signature_delta" if delta.signature is not None:
                if block is not None:
                    block.signature.append(delta.signature)
                out.append(_opaque(index, {"signature": delta.signature}))
            case "citations_delta" if delta.citation is not None:
                if block is not None:
                    block.citations.append(delta.citation)
                out.append(Chunk("citation", index=index, data=delta.citation))
            case _:
                self._unknown_delta(block, data)
                out.append(_other(delta.type, index, data))

    def _unknown_delta(self, block: _OpenBlock | None, data: bytes) -> None:
        """Store the fields of a delta of an unknown type, so that its block can be sent back."""
        if block is not None and block.type not in _PLAIN:
            delta = parse_json(data)["delta"]
            block.data |= {key: value for key, value in delta.items() if key != "type"}

    def _block_stop(self, index: int, out: list[Chunk]) -> None:
        block = self._blocks.get(index)
        if block is None or block.call is None or not block.input:
            return
        if not block.json:  # the start of the block had the complete input
            call = block.call
            out.append(content("tool_call", "", index, 0, ToolCall(call.id, call.name, block.input, call.position)))
        block.input = ""

    def _message_delta(self, event: _Event, value: Mapping[str, Any], out: list[Chunk]) -> None:
        delta = event.delta
        if delta is not None:
            self._container = delta.container or self._container
            self._facts.note("stop_sequence", delta.stop_sequence)
        self._facts.note("cost", gateway_cost(event.usage or {}, value))
        if delta is not None and delta.stop_reason is not None:
            self._finish(delta.stop_reason, delta.stop_details or delta.stop_sequence, out)
        if event.usage:
            out.append(Chunk("usage", usage=self._overlaid(event.usage), data=self._facts.take()))

    def _overlaid(self, usage: Mapping[str, Any]) -> Usage:
        for key, value in usage.items():
            if value or (value is not None and not self._usage.get(key)):  # null and 0 do not replace a count
                self._usage[key] = value
        self._work.spend(len(self._usage))
        self._facts.note("service_tier", self._usage.get("service_tier"))
        return read_usage(self._usage)

    def _finish(self, reason: str | None, detail: str | dict[str, Any] | None, out: list[Chunk]) -> None:
        self._work.spend(sum(len(block.pieces) + len(block.json) + 1 for _, block in self._all))
        for index in self._blocks:
            self._block_stop(index, out)  # for servers that do not send stop events
        if reason is not None and is_failure(reason):
            self.failed = failed_answer(reason, request_id=self._request_id)
            return
        self._finished = True
        out.append(
            Chunk(
                "finish",
                finish_reason=None if reason is None else FINISH_REASONS.get(reason, "other"),
                raw_finish_reason=reason,
                finish_detail=detail,
                opaque=self._opaque(),
                data=self._facts.take(),
            )
        )

    def _opaque(self) -> Opaque | None:
        """Return the blocks and the container for the next turn; None if the text and the calls represent them."""
        fields = {} if self._container is None else {"container": self._container}
        blocks = [block for _, block in sorted(self._all, key=itemgetter(0))]
        if not fields and all(block.is_plain(number == 0) for number, block in enumerate(blocks)):
            return None
        return Opaque(WIRE, tuple(block.whole() for block in blocks), fields, self._source)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Convert a usage object of the Messages API."""
    return Usage(
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        cache_read_tokens=count(usage.get("cache_read_input_tokens")),
        cache_write_tokens=count(usage.get("cache_creation_input_tokens")),
        reasoning_tokens=count(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
        raw=dict(usage),
    )


def _opaque(index: int, item: Mapping[str, Any]) -> Chunk:
    return Chunk("reasoning", index=index, opaque=Opaque(WIRE, (item,)))


def _other(event: str, index: int, data: bytes) -> Chunk:
    return Chunk("other", event=event or None, index=index, raw=data)


def _lenient(value: object) -> _Event:
    """Return an event that msgspec refused, with corrected numbers; if that fails, with only its type."""
    given = mapping(value)
    kind = str(given.get("type") or "")
    fields = dict(mapping(_mended(value)))
    if "content_block" in given:
        fields["content_block"] = _raw(given["content_block"])
    if "message" in given:
        blocks = items(mapping(given["message"]).get("content"))
        fields["message"] = {**mapping(fields["message"]), "content": [_raw(block) for block in blocks]}
    try:
        return msgspec.convert(fields, _Event)
    except msgspec.ValidationError:
        return _Event(type=kind)


def _raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def _mended(value: Any) -> Any:
    """Return the value with whole floats as integers, and numbers that JSON cannot represent as null."""
    if isinstance(value, dict):
        return {key: _mended(item) for key, item in cast("dict[str, Any]", value).items()}
    if is_array(value):
        return [_mended(item) for item in value]
    if isinstance(value, float):
        return int(value) if value.is_integer() else (value if math.isfinite(value) else None)
    return value
