"""Encode answers as the events of the Messages API, and as its messages.

Source: the Messages API reference, and the types of `anthropic` 2.14.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, Opaque, ToolCall, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.tool_call_fragments import call_id
from streamcore.wire.encoding.events import (
    begins,
    cost_fields,
    is_nested,
    raw_event,
    reason_name,
    refuse_restart,
    typed_event,
)
from streamcore.wire.encoding.wire import AnswerHead, Problem
from streamcore.wire.lenient import is_object, items, mapping
from streamcore_anthropic.known import EVENTS
from streamcore_anthropic.wire import FINISH_REASONS, WIRE, read_usage

REASON_NAMES: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "content_filter": "refusal",
    "pause": "pause_turn",
    "other": "end_turn",
}

CANNOT: Mapping[str, str] = {
    "refusal": "is a text block, and the stop reason is `refusal`: the wire has no block for it",
    "choice": "only choice 0 is sent",
    "restart": "raises ConfigError after content",
    "step": "is left out",
    "tool_progress": "is left out",
    "tool_result": "is left out",
    "path": "chunks of nested runs are left out",
    "custom tool calls": "are sent as tools whose input is the text",
    "citation": "is left out unless its `type` is one of the wire's",
    "logprobs": "are left out",
    "request_id": "is a header of the response, and not written by the encoder",
    "half of a surrogate pair": "is sent as an escape, and decoders join it with the other half",
    "several parts of reasoning in one block": "each part begins another block",
}

_CITATIONS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    }
)
_OWN_DELTAS = frozenset({"text_delta", "thinking_delta", "signature_delta", "citations_delta"})


@dataclass(frozen=True, slots=True)
class _Block:
    """The block that is open: what the chunks in it have, and its index on the wire."""

    kind: str
    of: int
    """The chunks' index, or the position of a call."""
    index: int


class MessagesEncoder:
    """Encode one answer; see `AnswerEncoder`."""

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._id = head.id or ""
        self._started = False
        self._content = False
        self._count = 0
        self._open: _Block | None = None
        self._calls: dict[int, int] = {}
        self._finish: Chunk | None = None
        self._usage: Usage | None = None
        self._signed = False
        self._refused = False

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the events of some chunks; see `AnswerEncoder.feed`."""
        return b"".join([self._chunk(chunk) for chunk in chunks if not (chunk.choice or is_nested(chunk))])

    def _chunk(self, chunk: Chunk) -> bytes:
        kind = chunk.kind
        self._content = self._content or kind in CONTENT_KINDS
        before = b"" if self._started or not begins(chunk) else self._start(chunk)
        if self._finish is not None and self._head.native and kind != "usage":
            before += self._ended(None)
        match kind:
            case "text" | "refusal":
                self._refused = self._refused or kind == "refusal"
                return before + self._text(chunk)
            case "reasoning":
                return before + self._thinking(chunk)
            case "tool_call" if chunk.tool_call is not None:
                return before + self._call(chunk, chunk.tool_call)
            case "citation" if chunk.data is not None:
                return before + self._citation(chunk, chunk.data)
            case "start" if chunk.usage is not None:
                self._usage = chunk.usage
                return before
            case "usage" if chunk.usage is not None:
                return before + self._add_usage(chunk, chunk.usage)
            case "finish":
                if self._finish is None or chunk.finish_reason is not None:
                    self._finish = chunk
                return before
            case "ping":
                return typed_event({"type": "ping"})
            case "restart" if self._content:
                raise refuse_restart(WIRE)
            case "other" if self._head.native and chunk.raw is not None:
                return before + self._other(chunk)
            case _:
                return before

    def _start(self, chunk: Chunk) -> bytes:
        self._started = True
        self._id = self._head.id or chunk.id or self._id
        usage = chunk.usage if chunk.kind == "start" else None
        none: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0}
        counts = _counts(usage, native=True) if self._head.native else none
        if usage is not None and not self._head.native:
            counts |= _counts(usage, native=False)
        tier = (chunk.data or {}).get("service_tier") if chunk.kind == "start" else None
        if tier and "service_tier" not in counts and (self._head.native or tier in ("standard", "priority", "batch")):
            counts["service_tier"] = tier
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": (chunk.model if chunk.kind == "start" else None) or self._head.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": counts,
        }
        return typed_event({"type": "message_start", "message": message})

    def _switch(self, kind: str, chunk_index: int, content: Mapping[str, Any], *, of: int | None = None) -> bytes:
        """Return the events that end the open block and begin another, b"" if this block is open."""
        of = chunk_index if of is None else of
        opened = self._open
        if opened is not None and opened.kind == kind and opened.of == of:
            return b""
        before = self._close()
        # A client numbers the blocks itself, so that the indexes must have no gaps.
        index = max(chunk_index, self._count) if self._head.native else self._count
        self._count = index + 1
        self._open = _Block(kind, of, index)
        return before + typed_event({"type": "content_block_start", "index": index, "content_block": content})

    def _close(self) -> bytes:
        opened, self._open = self._open, None
        if opened is None:
            return b""
        return typed_event({"type": "content_block_stop", "index": opened.index})

    def _delta(self, index: int | None = None, **delta: Any) -> bytes:
        if index is None:
            index = self._open.index if self._open is not None else 0
        return typed_event({"type": "content_block_delta", "index": index, "delta": delta})

    def _text(self, chunk: Chunk) -> bytes:
        before = self._switch("text", chunk.index, {"type": "text", "text": ""})
        return before + self._delta(type="text_delta", text=chunk.text)

    def _thinking(self, chunk: Chunk) -> bytes:
        opaque = chunk.opaque if chunk.opaque is not None and chunk.opaque.wire == WIRE else None
        item = mapping(opaque.items[0] if opaque is not None and opaque.items else None)
        if item.get("type") == "redacted_thinking":
            self._close_later()
            return self._switch("redacted", chunk.index, dict(item)) + self._close()
        written = b""
        if chunk.text or item.get("signature"):
            begins = (chunk.data is not None or self._signed) and chunk.text and not self._head.native
            if begins and self._open is not None and self._open.kind == "thinking":
                written += self._close()  # one part of several; each is signed alone
            self._signed = False
            written += self._switch("thinking", chunk.index, {"type": "thinking", "thinking": "", "signature": ""})
        if chunk.text:
            written += self._delta(type="thinking_delta", thinking=chunk.text)
        if item.get("signature"):
            self._signed = True
            written += self._delta(type="signature_delta", signature=item["signature"])
        return written

    def _close_later(self) -> None:
        """Make the next `_switch` begin a block, also for an index that is open."""
        if self._open is not None and self._open.kind == "redacted":
            self._open = None

    def _call(self, chunk: Chunk, call: ToolCall) -> bytes:
        index = self._calls.get(call.position)
        before = b""
        if index is None:
            identity = call.id or (None if self._head.native else call_id(self._id, call.position))
            block: dict[str, Any] = {"type": "tool_use", "id": identity, "name": call.name, "input": {}}
            opaque = chunk.opaque
            if opaque is not None and opaque.wire == WIRE:
                block |= {key: value for key, value in opaque.items[0].items() if key not in block}
            before = self._switch("tool_use", chunk.index, block, of=call.position)
            index = self._calls[call.position] = self._count - 1
        if not call.arguments:
            return before
        return before + self._delta(index, type="input_json_delta", partial_json=call.arguments)

    def _citation(self, chunk: Chunk, citation: Mapping[str, Any]) -> bytes:
        if not self._head.native and citation.get("type") not in _CITATIONS:
            return b""
        before = self._switch("text", chunk.index, {"type": "text", "text": ""})
        return before + self._delta(type="citations_delta", citation=citation)

    def _other(self, chunk: Chunk) -> bytes:
        """Return an event without a normal form, unless the other chunks of the same event have been sent."""
        event = mapping(json.loads(chunk.raw or b"{}"))
        kind = event.get("type")
        if kind == "content_block_start":
            block = mapping(event.get("content_block"))
            if block.get("type") in ("text", "thinking", "redacted_thinking", "tool_use"):
                return b""
            before = self._close()
            self._count = max(self._count, chunk.index + 1)
            self._open = _Block("other", chunk.index, chunk.index)
            return before + typed_event(event)
        if kind == "content_block_delta":
            delta = mapping(event.get("delta"))
            if delta.get("type") in _OWN_DELTAS:
                return b""
            return typed_event(event)
        if kind == "message_start":
            return self._early_block(chunk, event)
        return b"" if kind in EVENTS else raw_event(chunk, named=True)

    def _early_block(self, chunk: Chunk, event: Mapping[str, Any]) -> bytes:
        """Return a block without a normal form that the start of a message has."""
        blocks = items(mapping(event.get("message")).get("content"))
        block = mapping(blocks[chunk.index] if chunk.index < len(blocks) else None)
        if not block or block.get("type") != chunk.event:
            return b""
        before = self._close()
        self._count = max(self._count, chunk.index + 1)
        self._open = _Block("other", chunk.index, chunk.index)
        return before + typed_event({"type": "content_block_start", "index": chunk.index, "content_block": block})

    def _add_usage(self, chunk: Chunk, usage: Usage) -> bytes:
        if not self._head.native:
            self._usage = merged_usage(self._usage, usage)
            return b""
        return self._ended(chunk)

    def _ended(self, usage: Chunk | None) -> bytes:
        """Return the event of the finish reason and the token counts, as far as they are known."""
        finish, self._finish = self._finish, None
        written = b"" if finish is None else self._close()
        delta: dict[str, Any] = {}
        if finish is not None:
            delta = {"stop_reason": reason_name(finish, FINISH_REASONS, REASON_NAMES, native=self._head.native)}
            delta["stop_sequence"] = self._stop_sequence(finish)
            if is_object(finish.finish_detail):
                delta["stop_details"] = finish.finish_detail
            if finish.opaque is not None and finish.opaque.wire == WIRE and "container" in finish.opaque.fields:
                delta["container"] = finish.opaque.fields["container"]
        event: dict[str, Any] = {"type": "message_delta", "delta": delta}
        if self._head.native:
            event |= cost_fields(usage) | cost_fields(finish)
        counts = None if usage is None else usage.usage
        if counts is not None:
            event["usage"] = _counts(counts, native=self._head.native)
        return written + typed_event(event)

    def _stop_sequence(self, finish: Chunk) -> str | None:
        found = (finish.data or {}).get("stop_sequence") or finish.finish_detail
        return found if isinstance(found, str) and found and finish.finish_reason == "stop" else None

    def end(self) -> bytes:
        """Return the end of an answer that is complete: finish reason, token counts, `message_stop`."""
        written = b"" if self._started else self._start(Chunk("start"))
        written += self._close()
        if self._finish is not None or not self._head.native:
            if self._finish is None:
                self._finish = Chunk("finish")
            self._finish = _refusing(self._finish, refused=self._refused and not self._head.native)
            if self._stop_sequence(self._finish) and not self._head.native:
                self._finish = replace(self._finish, raw_finish_reason="stop_sequence")
            usage = None if self._head.native else Chunk("usage", usage=self._usage or Usage())
            written += self._ended(usage)
        return written + typed_event({"type": "message_stop"})

    def error(self, problem: Problem) -> bytes:
        """Return the event that reports an answer that failed or was cut."""
        return typed_event(error_body(problem))


def _refusing(finish: Chunk, *, refused: bool) -> Chunk:
    """Return the end of an answer; one that ended well with the text of a refusal has the wire's reason for that."""
    return replace(finish, finish_reason="refusal") if refused and finish.finish_reason == "stop" else finish


def _counts(usage: Usage | None, *, native: bool) -> dict[str, Any]:
    """Return token counts as the Messages API has them; `native`: as they were received."""
    if usage is None:
        return {}
    if native and usage.raw and read_usage(usage.raw) == usage:
        return dict(usage.raw)
    written: dict[str, Any] = {"input_tokens": usage.input_tokens or 0, "output_tokens": usage.output_tokens or 0}
    if usage.cache_read_tokens:
        written["cache_read_input_tokens"] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        written["cache_creation_input_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return written


TYPES: Mapping[str, str] = {
    "invalid": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "conflict": "invalid_request_error",
    "too_large": "request_too_large",
    "rate_limit": "rate_limit_error",
    "failed": "api_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
}


def error_body(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error."""
    message = problem.message
    if problem.param and problem.param not in message:
        message = f"{problem.param}: {message}"
    return {
        "type": "error",
        "error": {"type": TYPES[problem.kind], "message": message},
        "request_id": request_id,
    }


def whole_message(answer: Completion, head: AnswerHead) -> dict[str, Any]:
    """Return a message that is not streamed."""
    opaque = answer.opaque
    finish = Chunk(
        "finish",
        finish_reason=answer.finish_reason,
        raw_finish_reason="stop_sequence" if answer.stop_sequence else answer.raw_finish_reason,
    )
    finish = _refusing(finish, refused=bool(answer.refusal) and not head.native)
    written: dict[str, Any] = {
        "id": head.id or answer.id or "",
        "type": "message",
        "role": "assistant",
        "model": answer.model or head.model,
        "content": list(opaque.items) if opaque is not None and opaque.wire == WIRE else _blocks(answer),
        "stop_reason": reason_name(finish, FINISH_REASONS, REASON_NAMES, native=head.native),
        "stop_sequence": answer.stop_sequence,
        "usage": _counts(answer.usage or Usage(), native=head.native),
    }
    if is_object(answer.finish_detail):
        written["stop_details"] = answer.finish_detail
    if _container(opaque) is not None:
        written["container"] = _container(opaque)
    return written


def _container(opaque: Opaque | None) -> object:
    return opaque.fields.get("container") if opaque is not None and opaque.wire == WIRE else None


def _blocks(answer: Completion) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    text = answer.text + answer.refusal
    if text:
        blocks.append({"type": "text", "text": text})
    for call in answer.tool_calls:
        given: Any = {"input": call.arguments} if call.custom or not call.complete else call.parse()
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": given if is_object(given) else {}}
        blocks.append(block)
    return blocks
