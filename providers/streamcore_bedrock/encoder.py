"""Encode answers as the frames of `ConverseStream`, and as whole responses of `Converse`.

Source: the API reference of Amazon Bedrock Runtime, "ConverseStream" and "Converse".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, ToolCall, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.wire.encoding.events import begins, dumps, is_nested, reason_name, refuse_restart
from streamcore.wire.encoding.wire import STATUSES, AnswerHead, Problem, ProblemKind, RequestRefused, Wire, WireRequest
from streamcore.wire.event_stream import encode_event, encode_exception
from streamcore.wire.lenient import is_object, mapping
from streamcore_bedrock.wire import FINISH_REASONS, WIRE, event_name, read_usage

REASON_NAMES: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "refusal": "guardrail_intervened",
    "content_filter": "content_filtered",
    "pause": "end_turn",
    "other": "end_turn",
}
CANNOT: Mapping[str, str] = {
    "id": "the wire has none: the id is a header of the response",
    "model": "the wire does not name it",
    "refusal": "is text: the wire has no part for it",
    "custom tool calls": "are sent as functions with one argument, `input`",
    "ping": "is left out: the wire has no event for it",
    "restart": "raises ConfigError after content",
    "step": "is left out",
    "tool_progress": "is left out",
    "tool_result": "is left out",
    "path": "chunks of nested runs are left out",
    "citation": "is left out unless it is a citation of this wire",
    "request_id": "is a header of the response, and not written by the encoder",
}
EXCEPTIONS: Mapping[ProblemKind, str] = {
    "invalid": "validationException",
    "authentication": "accessDeniedException",
    "permission": "accessDeniedException",
    "not_found": "resourceNotFoundException",
    "conflict": "validationException",
    "too_large": "validationException",
    "rate_limit": "throttlingException",
    "failed": "internalServerException",
    "overloaded": "serviceUnavailableException",
    "timeout": "modelTimeoutException",
}
_CITATION = frozenset({"title", "source", "sourceContent", "location"})
_WRITTEN = frozenset({"messageStart", "messageStop", "metadata"})


_Key = tuple[str, int]  # the kind of a block, and its index or the position of the call


class ConverseEncoder:
    """Encode one answer; see `AnswerEncoder`. The stop reason and the token counts are sent last."""

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._begun = False
        self._content = False
        self._finish: Chunk | None = None
        self._usage: Usage | None = None
        self._tier: object = None
        self._current: _Key | None = None
        self._open: dict[_Key, int] = {}
        self._blocks = 0

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the frames of some chunks; see `AnswerEncoder.feed`."""
        return b"".join([self._chunk(chunk) for chunk in chunks if not is_nested(chunk) and chunk.choice == 0])

    def _chunk(self, chunk: Chunk) -> bytes:
        before = b"" if self._begun or not begins(chunk) else self._start()
        self._content = self._content or chunk.kind in CONTENT_KINDS
        self._tier = (chunk.data or {}).get("service_tier", self._tier) if chunk.kind != "citation" else self._tier
        match chunk.kind:
            case "text" | "refusal":
                return before + self._piece("text", chunk, {"text": chunk.text})
            case "reasoning":
                return before + self._reasoning(chunk)
            case "tool_call" if chunk.tool_call is not None:
                return before + self._call(chunk, chunk.tool_call)
            case "citation" if chunk.data is not None and chunk.data.keys() <= _CITATION:
                return before + self._piece("text", chunk, {"citation": dict(chunk.data)})
            case "start" | "usage":
                if chunk.usage is not None:
                    self._usage = merged_usage(self._usage, chunk.usage)
            case "finish":
                self._finish = chunk
            case "restart" if self._content:
                raise refuse_restart(WIRE)
            case "other" if self._head.native and chunk.raw is not None:
                return before + _raw(chunk)
            case _:
                pass
        return before

    def _start(self) -> bytes:
        self._begun = True
        return _event("messageStart", {"role": "assistant"})

    def _piece(self, kind: str, chunk: Chunk, delta: Mapping[str, Any]) -> bytes:
        before, index = self._block((kind, chunk.index), chunk.index)
        return before + _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})

    def _reasoning(self, chunk: Chunk) -> bytes:
        written = self._piece("reasoning", chunk, {"reasoningContent": {"text": chunk.text}}) if chunk.text else b""
        opaque = chunk.opaque
        for item in opaque.items if opaque is not None and opaque.wire == WIRE else ():
            written += self._piece("reasoning", chunk, {"reasoningContent": dict(item)})
        return written

    def _call(self, chunk: Chunk, call: ToolCall) -> bytes:
        key = ("tool_call", call.position)
        known = key in self._open
        before, index = self._block(key, chunk.index)
        if not known:
            tool = {"toolUseId": call.id or f"call_{call.position}", "name": call.name or ""}
            before += _event("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": tool}})
        if not call.arguments:
            return before
        delta = {"toolUse": {"input": call.arguments}}
        return before + _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})

    def _block(self, key: _Key, wanted: int) -> tuple[bytes, int]:
        """Return the end of the block before, if another one begins, and the index of this block.

        Calls stay open until the end of the answer, since their fragments may alternate.
        """
        before = b""
        last, self._current = self._current, key
        if last is not None and last != key and last[0] != "tool_call":
            before = self._stop(last)
        if key not in self._open:
            self._open[key] = wanted if self._head.native else self._blocks
            self._blocks += 1
        return before, self._open[key]

    def _stop(self, key: _Key) -> bytes:
        return _event("contentBlockStop", {"contentBlockIndex": self._open.pop(key)})

    def end(self) -> bytes:
        """Return the end of an answer that is complete: stop reason and token counts."""
        written = b"" if self._begun else self._start()
        written += b"".join([self._stop(key) for key in list(self._open)])
        finish = self._finish or Chunk("finish", finish_reason="stop")
        reason = reason_name(finish, FINISH_REASONS, REASON_NAMES, native=self._head.native) or "end_turn"
        detail = finish.finish_detail
        more: dict[str, Any] = {}
        if self._head.native and is_object(detail):
            more = {"additionalModelResponseFields": detail}
        elif isinstance(detail, str):
            more = {"additionalModelResponseFields": {"delta": {"stop_sequence": detail}}}
        tier = {} if self._tier is None else {"serviceTier": {"type": self._tier}}
        usage = {} if self._usage is None else {"usage": counts(self._usage)}
        metadata = _event("metadata", {**usage, "metrics": {"latencyMs": 0}, **tier})
        return written + _event("messageStop", {"stopReason": reason, **more}) + metadata

    def error(self, problem: Problem) -> bytes:
        """Return the frame that reports an answer that failed or was cut."""
        return encode_exception(EXCEPTIONS[problem.kind], dumps(error_body(problem)))


def _event(name: str, fields: Mapping[str, Any]) -> bytes:
    return encode_event(name, dumps(fields))


def _raw(chunk: Chunk) -> bytes:
    """Return the frame of an event without a normal form; "" if `end` writes this event."""
    raw = chunk.raw or b"{}"
    name = event_name(raw, chunk.event or "")
    return b"" if name in _WRITTEN else encode_event(name, raw)


def counts(usage: Usage) -> dict[str, Any]:
    """Return token counts as the wire has them."""
    if usage.raw and read_usage(usage.raw) == usage:
        return dict(usage.raw)
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    cached = {
        "cacheReadInputTokens": usage.cache_read_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    total = {"inputTokens": given, "outputTokens": made, "totalTokens": given + made}
    return {**total, **{name: count for name, count in cached.items() if count is not None}}


def error_body(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error; its name and the id of the request are in headers."""
    return {"message": problem.message}


def whole_response(answer: Completion, head: AnswerHead) -> dict[str, Any]:
    """Return a response that is not streamed."""
    content: list[dict[str, Any]] = []
    if answer.opaque is not None and answer.opaque.wire == WIRE:
        content = [dict(block) for block in answer.opaque.items]
    else:
        if answer.reasoning:
            content.append({"reasoningContent": {"reasoningText": {"text": answer.reasoning}}})
        if answer.text or answer.refusal:
            content.append({"text": answer.text or answer.refusal})
        content += [{"toolUse": _tool_use(call)} for call in answer.tool_calls]
    finish = Chunk("finish", finish_reason=answer.finish_reason, raw_finish_reason=answer.raw_finish_reason)
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason_name(finish, FINISH_REASONS, REASON_NAMES, native=head.native) or "end_turn",
        "usage": counts(answer.usage or Usage()),
        "metrics": {"latencyMs": 0},
    }


def _tool_use(call: ToolCall) -> dict[str, Any]:
    given = call.parse() if call.complete and not call.custom else {"input": call.arguments}
    return {"toolUseId": call.id or f"call_{call.position}", "name": call.name or "", "input": dict(mapping(given))}


def read_request(body: Mapping[str, Any]) -> WireRequest:
    """Refuse: no endpoint of streamcore serves this wire.

    Raises:
        RequestRefused: always.
    """
    raise RequestRefused(f"requests of the wire {WIRE!r} are not served; use the chat-completions endpoint")


SERVED = Wire(
    name=WIRE,
    encoder=ConverseEncoder,
    whole=whole_response,
    read_request=read_request,
    error_body=error_body,
    statuses=STATUSES,
    cannot=CANNOT,
    request_id_header="x-amzn-requestid",
    binary=True,
)
"""The server's side of the wire, for the simulator; `streamcore serve` does not serve it."""
