"""Decode the `bedrock-converse` wire: the events of Bedrock's `ConverseStream`.

Source: the API reference of Amazon Bedrock Runtime, "ConverseStream", the service model of `botocore` 1.44, and
recordings of the API. The events come in binary frames, see `streamcore.wire.event_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from streamcore.chunk import Chunk, FinishReason, Opaque, ToolCall, Usage, content, tool_call
from streamcore.errors import StreamcoreError, provider_error
from streamcore.wire.decoder import parse_json
from streamcore.wire.endings import another_answer, failed_answer, is_failure, looks_like_error, unmarked
from streamcore.wire.facts import Facts
from streamcore.wire.lenient import count, items, mapping, text
from streamcore_bedrock.blocks import OpenBlock, is_server_tool

WIRE = "bedrock-converse"

FINISH_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "refusal",
    "content_filtered": "content_filter",
}
KNOWN: Mapping[str, frozenset[str]] = {
    "contentBlockDelta": frozenset({"contentBlockIndex", "delta", "p"}),
    "contentBlockStart": frozenset({"contentBlockIndex", "start", "p"}),
    "contentBlockStop": frozenset({"contentBlockIndex", "p"}),
    "error": frozenset({"type", "error"}),
    "messageStart": frozenset({"role", "p"}),
    "messageStop": frozenset({"stopReason", "additionalModelResponseFields", "p"}),
    "metadata": frozenset({"usage", "metrics", "serviceTier", "performanceConfig", "p"}),
}
"""The fields of each event that are read or describe nothing of the answer; `p` is padding."""


_ONLY_IN = (
    ("role", "messageStart"),
    ("start", "contentBlockStart"),
    ("delta", "contentBlockDelta"),
    ("stopReason", "messageStop"),
    ("usage", "metadata"),
)
"""The key that only one type of event has, and the type."""


class _Text(Struct, gc=False, forbid_unknown_fields=True):
    text: str


class _Input(Struct, gc=False, forbid_unknown_fields=True):
    input: str


class _Delta(Struct, gc=False, forbid_unknown_fields=True):
    text: str | None = None
    reasoning: _Text | None = field(name="reasoningContent", default=None)
    tool: _Input | None = field(name="toolUse", default=None)


class _Token(Struct, gc=False, forbid_unknown_fields=True):
    """Describe the most frequent event, which is tried first: a piece of text, reasoning or a call's arguments."""

    delta: _Delta
    index: int = field(name="contentBlockIndex")
    p: str = ""


_decode_token = msgspec.json.Decoder(_Token).decode


class ConverseVocabulary:
    """Convert the events of one answer to chunks; `messageStop` marks its end, and `metadata` is the last event."""

    wire = WIRE

    def __init__(self, *, model: str | None = None, request_id: str | None = None, source: str | None = None) -> None:
        self.marked = False
        self.done = False
        self.failed: StreamcoreError | None = None
        self.suspect: Any = None
        self._model = model
        self._request_id = request_id
        self._source = source
        self._started = False
        self._blocks: list[OpenBlock] = []
        self._open: dict[int, OpenBlock] = {}
        self._calls = 0
        self._facts = Facts()

    def knows(self, kind: str, event: Mapping[str, Any]) -> bool:
        """True for the events of an answer; see `Vocabulary.knows`."""
        return kind in KNOWN

    def event(self, name: bytes, data: bytes, out: list[Chunk]) -> None:
        """Append the chunks of one event; see `Vocabulary.event`."""
        if name == b"contentBlockDelta":
            try:
                token = _decode_token(data)
            except (msgspec.DecodeError, ValueError):
                pass
            else:
                delta, index = token.delta, token.index
                block = self._open.get(index)
                piece = delta.text
                if piece is not None:
                    if block is None or block.kind != "text":
                        self._start(out)
                        block = self._begin(OpenBlock("text", index))
                    block.pieces.append(piece)
                    if piece:
                        out.append(content("text", piece, index))
                    return
                if delta.reasoning is not None:
                    if block is None or block.kind != "reasoningContent":
                        self._start(out)
                        block = self._begin(OpenBlock("reasoningContent", index))
                    piece = delta.reasoning.text
                    block.pieces.append(piece)
                    if piece:
                        out.append(content("reasoning", piece, index))
                    return
                if delta.tool is not None and block is not None and block.call is not None:
                    piece = delta.tool.input
                    block.pieces.append(piece)
                    if piece:
                        call = block.call
                        out.append(
                            content("tool_call", "", index, 0, tool_call(call.id, call.name, piece, call.position))
                        )
                    return
        self._any_event(name.decode("utf-8", "replace"), data, out)

    def _any_event(self, kind: str, data: bytes, out: list[Chunk]) -> None:
        value = mapping(parse_json(data))
        index, before = count(value.get("contentBlockIndex")) or 0, len(out)
        if kind not in ("messageStart", "error"):
            self._start(out)
        match kind:
            case "contentBlockDelta":
                self._delta(index, mapping(value.get("delta")), data, out)
            case "contentBlockStart":
                self._block_start(index, mapping(value.get("start")), data, out)
            case "contentBlockStop":
                self._open.pop(index, None)
            case "messageStart":
                self._message_start(out)
            case "messageStop":
                self._message_stop(text(value.get("stopReason")), value.get("additionalModelResponseFields"), out)
            case "metadata":
                self._metadata(value, out)
            case "error":
                raise provider_error(value, request_id=self._request_id)
            case _:
                if looks_like_error(value):
                    self.suspect = value
                out.append(_other(kind, index, data))
        known = KNOWN.get(kind, frozenset())
        if value.keys() - known and all(chunk.kind != "other" for chunk in out[before:]):
            out.append(_other(kind, index, data))

    def _begin(self, block: OpenBlock) -> OpenBlock:
        self._open[block.index] = block
        self._blocks.append(block)
        return block

    def _message_start(self, out: list[Chunk]) -> None:
        if self.marked:
            self.done = True  # another answer, which is not read
            return
        if self._started:
            raise another_answer(self._request_id, self._request_id)
        self._start(out)

    def _start(self, out: list[Chunk]) -> None:
        """Begin the answer, unless it has begun; some servers leave `messageStart` out, and it says nothing."""
        if not self._started:
            self._started = True
            out.append(Chunk("start", id=self._request_id, model=self._model, request_id=self._request_id))

    def _block_start(self, index: int, start: Mapping[str, Any], data: bytes, out: list[Chunk]) -> None:
        self._open.pop(index, None)
        for kind, fields in start.items():
            block = self._begin(OpenBlock(kind, index, dict(mapping(fields))))
            if kind == "toolUse" and not is_server_tool(block.data):
                call = ToolCall(text(block.data.get("toolUseId")), text(block.data.get("name")), "", self._calls)
                self._calls += 1
                block.call = call
                out.append(content("tool_call", "", index, 0, call))
            else:
                out.append(_other(kind, index, data))

    def _delta(self, index: int, delta: Mapping[str, Any], data: bytes, out: list[Chunk]) -> None:
        if not delta:
            out.append(_other("contentBlockDelta", index, data))
        for kind, given in delta.items():
            match kind:
                case "text" if isinstance(given, str):
                    self._piece("text", index, given, out)
                case "reasoningContent":
                    self._reasoning(index, mapping(given), data, out)
                case "toolUse" if isinstance(piece := mapping(given).get("input"), str):
                    self._input(index, piece, data, out)
                case "citation":
                    self._of_kind("text", index).citations.append(given)
                    out.append(Chunk("citation", index=index, data=mapping(given)))
                case "toolResult":
                    self._of_kind(kind, index).results += items(given)
                    out.append(_other(kind, index, data))
                case _:
                    self._of_kind(kind, index).data.update(mapping(given))
                    out.append(_other(kind, index, data))

    def _of_kind(self, kind: str, index: int) -> OpenBlock:
        """Return the open block of an index; text and reasoning have no event that begins one."""
        block = self._open.get(index)
        return block if block is not None and block.kind == kind else self._begin(OpenBlock(kind, index))

    def _piece(self, kind: str, index: int, piece: str, out: list[Chunk]) -> None:
        self._of_kind(kind, index).pieces.append(piece)
        if piece:
            out.append(content("text" if kind == "text" else "reasoning", piece, index))

    def _reasoning(self, index: int, given: Mapping[str, Any], data: bytes, out: list[Chunk]) -> None:
        if not given:
            out.append(_other("reasoningContent", index, data))
        for kind, value in given.items():
            if kind == "text" and isinstance(value, str):
                self._piece("reasoningContent", index, value, out)
            elif kind in ("signature", "redactedContent") and isinstance(value, str):
                block = self._of_kind("reasoningContent", index)
                (block.signature if kind == "signature" else block.redacted).append(value)
                out.append(Chunk("reasoning", index=index, opaque=Opaque(WIRE, ({kind: value},))))
            else:
                out.append(_other("reasoningContent", index, data))

    def _input(self, index: int, piece: str, data: bytes, out: list[Chunk]) -> None:
        block = self._open.get(index)
        if block is None or block.kind != "toolUse":  # without its beginning the call has neither id nor name
            out.append(_other("toolUse", index, data))
            return
        block.pieces.append(piece)
        call = block.call
        if call is None:
            out.append(_other("toolUse", index, data))
        elif piece:
            out.append(content("tool_call", "", index, 0, tool_call(call.id, call.name, piece, call.position)))

    def _message_stop(self, reason: str | None, more: object, out: list[Chunk]) -> None:
        if self.marked:
            return
        if reason is None and self.suspect is not None:
            raise unmarked(self.suspect, request_id=self._request_id)
        self.marked = True
        if reason is not None and is_failure(reason):
            self.failed = failed_answer(reason, request_id=self._request_id)
            return
        sequence = text(mapping(mapping(more).get("delta")).get("stop_sequence"))
        self._facts.note("stop_sequence", sequence)
        out.append(
            Chunk(
                "finish",
                finish_reason=None if reason is None else FINISH_REASONS.get(reason, "other"),
                raw_finish_reason=reason,
                finish_detail=sequence or mapping(more) or None,
                opaque=self._opaque(),
                data=self._facts.take(),
            )
        )

    def _metadata(self, value: Mapping[str, Any], out: list[Chunk]) -> None:
        self.done = self.marked
        self._facts.note("service_tier", text(mapping(value.get("serviceTier")).get("type")))
        usage, facts = mapping(value.get("usage")), self._facts.take()
        if usage or facts:
            out.append(Chunk("usage", usage=read_usage(usage) if usage else None, data=facts))

    def _opaque(self) -> Opaque | None:
        """Return the blocks for the next turn; None if the text and the calls represent them."""
        if all(block.is_plain(number == 0) for number, block in enumerate(self._blocks)):
            return None
        whole = (block.whole() for block in self._blocks)
        return Opaque(WIRE, tuple(block for block in whole if block is not None), {}, self._source)


def event_name(payload: bytes, unknown: str) -> str:
    """Return the type of an event, which its JSON does not name; `unknown` is the name of an unknown event."""
    fields = mapping(parse_json(payload))
    found = next((name for key, name in _ONLY_IN if key in fields), None)
    return found or ("contentBlockStop" if "contentBlockIndex" in fields else unknown)


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Convert a usage object of Converse; cached tokens are not part of `input_tokens`."""
    return Usage(
        input_tokens=count(usage.get("inputTokens")),
        output_tokens=count(usage.get("outputTokens")),
        cache_read_tokens=count(usage.get("cacheReadInputTokens")),
        cache_write_tokens=count(usage.get("cacheWriteInputTokens")),
        raw=dict(usage),
    )


def _other(event: str, index: int, data: bytes) -> Chunk:
    return Chunk("other", event=event or None, index=index, raw=data)
