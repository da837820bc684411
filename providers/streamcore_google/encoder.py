"""Encode answers as the events of `streamGenerateContent`, and as whole responses of `generateContent`.

Source: the references of `GenerateContentResponse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, ToolCall, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.wire.encoding.events import COMMENT, data_event, is_nested, raw_event, reason_name, refuse_restart
from streamcore.wire.encoding.wire import AnswerHead, Problem, RequestRefused, WireRequest
from streamcore.wire.lenient import mapping
from streamcore_google.turn import WIRE
from streamcore_google.wire import FINISH_REASONS, read_usage

REASON_NAMES: Mapping[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "refusal": "SAFETY",
    "content_filter": "SAFETY",
    "pause": "CONTINUATION",
    "other": "OTHER",
}

CANNOT: Mapping[str, str] = {
    "refusal": "is text: the wire has no part for it",
    "fragments of tool calls": "a call is sent when its arguments are whole",
    "custom tool calls": "are sent as functions with one argument, `input`",
    "index": "is left out",
    "ping": "is sent as a comment",
    "restart": "raises ConfigError after content",
    "step": "is left out",
    "tool_progress": "is left out",
    "tool_result": "is left out",
    "path": "chunks of nested runs are left out",
    "citation": "is left out unless it is a source of this wire",
    "request_id": "is a header of the response, and not written by the encoder",
}

_CITATIONS = {"groundingChunks": ("web", "retrievedContext", "maps"), "groundingSupports": ("segment",)}


class GenerateEncoder:
    """Encode one answer; see `AnswerEncoder`. Finish reasons and token counts are sent last."""

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._id = head.id or ""
        self._model = head.model
        self._content = False
        self._call: tuple[int, ToolCall, list[str]] | None = None  # choice, first fragment, arguments
        self._finishes: dict[int, Chunk] = {}
        self._usage: Usage | None = None

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the events of some chunks; see `AnswerEncoder.feed`."""
        return b"".join([self._chunk(chunk) for chunk in chunks if not is_nested(chunk)])

    def _chunk(self, chunk: Chunk) -> bytes:
        kind = chunk.kind
        self._content = self._content or kind in CONTENT_KINDS
        if kind == "tool_call" and chunk.tool_call is not None:
            return self._fragment(chunk.choice, chunk.tool_call)
        before = self._end_call() if kind in CONTENT_KINDS or kind == "finish" else b""
        match kind:
            case "text" | "refusal":
                return before + self._part(chunk.choice, {"text": chunk.text})
            case "reasoning":
                return before + self._reasoning(chunk)
            case "citation" if chunk.data is not None:
                return before + self._citation(chunk, chunk.data)
            case "start":
                self._id, self._model = self._head.id or chunk.id or self._id, chunk.model or self._model
                self._add_usage(chunk.usage)
            case "usage":
                self._add_usage(chunk.usage)
            case "finish":
                self._finishes[chunk.choice] = chunk
            case "ping":
                return COMMENT
            case "restart" if self._content:
                raise refuse_restart(WIRE)
            case "other" if self._head.native and chunk.raw is not None:
                return before + raw_event(chunk, named=False)
            case _:
                pass
        return before

    def _event(self, candidates: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"modelVersion": self._model, "responseId": self._id}
        return data_event({"candidates": candidates, **more, **head})

    def _part(self, choice: int, part: Mapping[str, Any]) -> bytes:
        return self._event([{"content": {"parts": [part], "role": "model"}, "index": choice}])

    def _reasoning(self, chunk: Chunk) -> bytes:
        written = self._part(chunk.choice, {"text": chunk.text, "thought": True}) if chunk.text else b""
        opaque = chunk.opaque
        signature = opaque.items[0].get("thoughtSignature") if opaque is not None and opaque.wire == WIRE else None
        return written + self._part(chunk.choice, {"text": "", "thoughtSignature": signature}) if signature else written

    def _citation(self, chunk: Chunk, citation: Mapping[str, Any]) -> bytes:
        for key, names in _CITATIONS.items():
            if any(name in citation for name in names):
                return self._event([{"groundingMetadata": {key: [citation]}, "index": chunk.choice}])
        return b""

    def _fragment(self, choice: int, call: ToolCall) -> bytes:
        known = self._call
        if known is not None and (known[0], known[1].position) == (choice, call.position):
            known[2].append(call.arguments)
            return b""
        before = self._end_call()
        self._call = choice, call, [call.arguments]
        return before

    def _end_call(self) -> bytes:
        call, self._call = self._call, None
        if call is None:
            return b""
        choice, first, fragments = call
        whole = ToolCall(first.id, first.name, "".join(fragments), first.position, first.custom)
        return self._part(choice, {"functionCall": _function_call(whole)})

    def _add_usage(self, usage: Usage | None) -> None:
        if usage is not None:
            self._usage = merged_usage(self._usage, usage)

    def end(self) -> bytes:
        """Return the end of an answer that is complete: finish reasons and token counts."""
        before = self._end_call()
        candidates = [
            {
                "content": {"role": "model"},
                "finishReason": _reason(finish, native=self._head.native),
                "index": choice,
                **({"finishMessage": finish.finish_detail} if isinstance(finish.finish_detail, str) else {}),
            }
            for choice, finish in (self._finishes or {0: Chunk("finish", finish_reason="stop")}).items()
        ]
        counts = {} if self._usage is None else {"usageMetadata": _counts(self._usage)}
        return before + self._event(candidates, **counts)

    def error(self, problem: Problem) -> bytes:
        """Return the event that reports an answer that failed or was cut."""
        return data_event(error_body(problem))


def _reason(finish: Chunk, *, native: bool) -> str:
    return reason_name(finish, FINISH_REASONS, REASON_NAMES, native=native) or "STOP"


def _function_call(call: ToolCall) -> dict[str, Any]:
    given: object = msgspec.Raw((call.arguments.strip() or "{}").encode("utf-8", "replace"))
    if call.custom or not call.complete:
        given = {"input": call.arguments}
    return {"name": call.name or "", "args": given, **({} if call.id is None else {"id": call.id})}


def _counts(usage: Usage) -> dict[str, Any]:
    """Return token counts as the wire has them: thoughts beside the answer's tokens."""
    if usage.raw and read_usage(usage.raw) == usage:
        return dict(usage.raw)
    prompt, output, thoughts = usage.input_tokens or 0, usage.output_tokens or 0, usage.reasoning_tokens
    counts: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": output - (thoughts or 0),
        "totalTokenCount": prompt + output,
    }
    if thoughts is not None:
        counts["thoughtsTokenCount"] = thoughts
    if usage.cache_read_tokens is not None:
        counts["cachedContentTokenCount"] = usage.cache_read_tokens
    return counts


STATUS_NAMES: Mapping[str, tuple[int, str]] = {
    "invalid": (400, "INVALID_ARGUMENT"),
    "authentication": (401, "UNAUTHENTICATED"),
    "permission": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "conflict": (409, "ABORTED"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "failed": (500, "INTERNAL"),
    "overloaded": (503, "UNAVAILABLE"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
}


def error_body(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error; the id of the request is in a header only."""
    status, word = STATUS_NAMES[problem.kind]
    return {"error": {"code": problem.status or status, "message": problem.message, "status": word}}


def whole_response(answer: Completion, head: AnswerHead) -> dict[str, Any]:
    """Return a response that is not streamed."""
    parts: list[dict[str, Any]] = []
    if answer.opaque is not None and answer.opaque.wire == WIRE:
        parts = [dict(part) for part in answer.opaque.items]
    else:
        if answer.reasoning:
            parts.append({"text": answer.reasoning, "thought": True})
        if answer.text or answer.refusal:
            parts.append({"text": answer.text or answer.refusal})
        parts += [{"functionCall": msgspec.to_builtins(_plain_call(call))} for call in answer.tool_calls]
    finish = Chunk("finish", finish_reason=answer.finish_reason, raw_finish_reason=answer.raw_finish_reason)
    reason = _reason(finish, native=head.native)
    written: dict[str, Any] = {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": reason, "index": 0}],
        "modelVersion": answer.model or head.model,
        "responseId": head.id or answer.id or "",
    }
    return written if answer.usage is None else {**written, "usageMetadata": _counts(answer.usage)}


def _plain_call(call: ToolCall) -> dict[str, Any]:
    given = call.parse() if call.complete and not call.custom else {"input": call.arguments}
    return {"name": call.name or "", "args": dict(mapping(given)), **({} if call.id is None else {"id": call.id})}


def read_request(body: Mapping[str, Any]) -> WireRequest:
    """Refuse: no endpoint of streamcore serves this wire.

    Raises:
        RequestRefused: always.
    """
    raise RequestRefused("requests of the wire 'gemini' are not served; use the chat-completions endpoint")
