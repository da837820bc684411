"""Encode answers in the chat-completions dialect; `ChatForm` says how its servers differ.

Source: the vendors' API references for `chat.completion` and `chat.completion.chunk`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, ToolCall, Usage
from streamcore.completion import Completion, merged_usage
from streamcore.tool_call_fragments import call_id
from streamcore.wire.chat import FINISH_REASONS
from streamcore.wire.encoding.events import (
    COMMENT,
    begins,
    cost_fields,
    data_event,
    dumps,
    is_nested,
    reason_name,
    refuse_restart,
)
from streamcore.wire.encoding.wire import AnswerHead, Problem
from streamcore.wire.lenient import items, mapping

REASON_NAMES: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
    "content_filter": "content_filter",
    "pause": "length",
    "other": "stop",
}

TIERS = frozenset({"flex", "priority", "scale"})
"""The service tiers that say more than that there is none; other vendors have words of their own."""

DETAILS = "reasoning_details"

CANNOT: Mapping[str, str] = {
    "ping": "is sent as a comment",
    "restart": "raises ConfigError after content",
    "step": "is left out",
    "tool_progress": "is left out",
    "tool_result": "is left out",
    "path": "chunks of nested runs are left out",
    "index": "is 0: the wire has no content blocks",
    "custom tool calls": "are sent as functions, with their text as arguments",
    "several parts of reasoning": "are one text",
    "finish_detail": "is left out",
    "request_id": "is a header of the response, and not written by the encoder",
    "half of a surrogate pair": "is sent as an escape, and decoders join it with the other half",
    "no choice 0": "a later choice is never sent alone",
}


@dataclass(frozen=True, slots=True)
class ChatForm:
    """Say how a server of the dialect writes its answers."""

    wire: str = "openai-chat"
    thinking_parts: bool = False
    """True if reasoning and references are parts of the content; else they are fields of their own."""
    usage_with_finish: bool = False
    """True if token counts are in the event of the finish reason; else they have an event of their own."""


class ChatEncoder:
    """Encode one answer; see `AnswerEncoder`."""

    def __init__(self, head: AnswerHead, form: ChatForm) -> None:
        self._head = head
        self._form = form
        self._base: dict[str, Any] = {}
        self._prefix = b""
        self._started = False
        self._content = False
        self._id = head.id or ""
        self._calls: dict[tuple[int, int], ToolCall] = {}
        self._refused: set[int] = set()
        self._finishes: dict[int, Chunk] = {}
        self._usage: Usage | None = None
        self._sent = False  # the opaque data
        self._last: dict[str, Any] | None = None  # an event that waits for its token counts

    def feed(self, chunks: Iterable[Chunk]) -> bytes:
        """Return the events of some chunks; see `AnswerEncoder.feed`."""
        return b"".join([self._chunk(chunk) for chunk in chunks])

    def _chunk(self, chunk: Chunk) -> bytes:
        if is_nested(chunk):
            return b""
        if chunk.kind == "text" and self._started and not chunk.choice and self._last is None:
            self._content = True
            return b'%b{"content":%b},"finish_reason":null}]}\n\n' % (self._prefix, dumps(chunk.text))
        kind = chunk.kind
        self._content = self._content or kind in CONTENT_KINDS
        before = b"" if self._started or not begins(chunk) else self._start(chunk)
        if self._last is not None and kind != "usage":
            before += self._flush()
        match kind:
            case "text":
                return before + self._delta(chunk, {"content": chunk.text})
            case "reasoning":
                return before + self._reasoning(chunk)
            case "refusal":
                self._refused.add(chunk.choice)
                return before + self._delta(chunk, {"refusal": chunk.text})
            case "tool_call" if chunk.tool_call is not None:
                return before + self._delta(chunk, {"tool_calls": [self._call(chunk.choice, chunk.tool_call)]})
            case "citation" if chunk.data is not None:
                return before + self._citation(chunk, chunk.data)
            case "start" if chunk.usage is not None:
                self._usage = chunk.usage
                return before
            case "usage" if chunk.usage is not None:
                return before + self._add_usage(chunk, chunk.usage)
            case "finish":
                return before + self._finish(chunk)
            case "ping":
                return COMMENT
            case "restart" if self._content:
                raise refuse_restart(self._form.wire)
            case "other":
                return before + self._other(chunk)
            case _:
                return before

    def _start(self, chunk: Chunk) -> bytes:
        self._started = True
        self._id = self._head.id or chunk.id or self._id
        self._base = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._head.created,
            "model": (chunk.model if chunk.kind == "start" else None) or self._head.model,
        }
        self._prefix = b'data: %b,"choices":[{"index":0,"delta":' % dumps(self._base)[:-1]
        facts = self._facts(chunk) if chunk.kind == "start" else {}
        return self._event({"role": "assistant", "content": ""}, chunk.choice, **facts)

    def _event(self, delta: Mapping[str, Any], choice: int = 0, reason: str | None = None, **more: Any) -> bytes:
        return data_event(
            {**self._base, "choices": [{"index": choice, "delta": delta, "finish_reason": reason}], **more}
        )

    def _delta(self, chunk: Chunk, delta: Mapping[str, Any]) -> bytes:
        return self._event(delta, chunk.choice)

    def _reasoning(self, chunk: Chunk) -> bytes:
        key, opaque = self._head.reasoning_key, chunk.opaque
        if self._form.thinking_parts:
            if not chunk.text:
                return b""
            part = {"type": "thinking", "thinking": [{"type": "text", "text": chunk.text}]}
            return self._delta(chunk, {"content": [part]})
        if chunk.text and key != DETAILS:
            return self._delta(chunk, {key: chunk.text})
        own = opaque is not None and opaque.wire == self._form.wire
        # Else the details are sent once, complete, with the finish reason.
        if opaque is not None and own and (key == DETAILS or not self._head.native):
            return self._delta(chunk, {DETAILS: list(opaque.items)})
        return b""

    def _call(self, choice: int, call: ToolCall) -> dict[str, Any]:
        key = choice, call.position
        known = self._calls.get(key)
        self._calls[key] = call
        function: dict[str, Any] = {"arguments": call.arguments}
        written: dict[str, Any] = {"index": call.position}
        if known is None:
            written["type"] = "function"
            identity = call.id if call.id or self._head.native else call_id(self._id, call.position)
            if identity is not None:
                written["id"] = identity
            if call.name is not None:
                function["name"] = call.name
        else:
            if call.id != known.id and call.id:
                written["id"] = call.id
            if call.name and call.name != known.name:  # a name that comes in pieces
                function["name"] = call.name.removeprefix(known.name or "")
        return {**written, "function": function}

    def _citation(self, chunk: Chunk, citation: Mapping[str, Any]) -> bytes:
        if self._form.thinking_parts:
            return self._delta(chunk, {"content": [citation]})
        return self._delta(chunk, {"annotations": [citation]})

    def _add_usage(self, chunk: Chunk, usage: Usage) -> bytes:
        if not self._head.native:
            self._usage = merged_usage(self._usage, usage)
            return b""
        event = {**(self._last or {**self._base, "choices": []}), "usage": usage_json(usage, native=True)}
        self._last = None
        return data_event({**event, **self._facts(chunk)})

    def _finish(self, chunk: Chunk) -> bytes:
        if not self._head.native:
            known = self._finishes.get(chunk.choice)
            if known is None or chunk.finish_reason is not None:
                self._finishes[chunk.choice] = chunk
            return b""
        kept = self._kept(chunk)
        if chunk.raw_finish_reason is None:
            return kept
        return kept + self._reason(chunk)

    def _reason(self, chunk: Chunk) -> bytes:
        """Return the event of a finish reason, or keep it until the token counts are known."""
        native = self._head.native
        reason = reason_name(chunk, FINISH_REASONS, REASON_NAMES, native=native)
        if chunk.finish_reason == "refusal" and chunk.choice in self._refused and not native:
            reason = "stop"  # as the vendor's own answers end that have the text of a refusal
        choice: dict[str, Any] = {"index": chunk.choice, "delta": {}, "finish_reason": reason}
        if self._form.thinking_parts:
            choice["delta"] = {"content": ""}
        if native:
            stop = (chunk.data or {}).get("stop_sequence")
            if stop:
                choice["stop_reason"] = stop
            if FINISH_REASONS.get(reason or "", "other") != chunk.finish_reason:
                choice["native_finish_reason"] = chunk.finish_reason
        event: dict[str, Any] = {**self._base, "choices": [choice], **(self._facts(chunk) if native else {})}
        if self._form.usage_with_finish:
            self._last = event
            return b""
        return data_event(event)

    def _kept(self, chunk: Chunk) -> bytes:
        """Return the event with the opaque data of an answer, which the next request sends back."""
        opaque = chunk.opaque
        if opaque is None or opaque.wire != self._form.wire or self._form.thinking_parts or self._sent:
            return b""
        self._sent = True
        delta = {key: value for key, value in opaque.fields.items() if key not in _IN_EVENTS}
        calls = mapping(opaque.fields.get("tool_calls"))
        if calls:
            delta["tool_calls"] = [{"index": int(position), **mapping(kept)} for position, kept in calls.items()]
        if opaque.items and self._head.reasoning_key != DETAILS:
            delta[DETAILS] = list(opaque.items)
        parts = [part for part in items(opaque.fields.get("content")) if mapping(part).get("type") != "text"]
        if parts:
            delta["content"] = parts
        return self._event(delta, chunk.choice) if delta else b""

    def _facts(self, chunk: Chunk) -> dict[str, Any]:
        """Return the fields of an event for the facts about an answer that a chunk has."""
        data = chunk.data or {}
        facts: dict[str, Any] = {}
        tier = data.get("service_tier")
        if tier and (self._head.native or tier in TIERS):
            facts["service_tier"] = tier
        if self._head.native and data.get("served_by"):
            facts["provider"] = data["served_by"]
        return facts | cost_fields(chunk) if self._head.native else facts

    def _other(self, chunk: Chunk) -> bytes:
        logprobs = (chunk.data or {}).get("logprobs")
        if logprobs:
            choice = {"index": chunk.choice, "delta": {}, "finish_reason": None, "logprobs": {"content": logprobs}}
            return data_event({**self._base, "choices": [choice]})
        facts = self._facts(chunk)
        return data_event({**self._base, "choices": [], **facts}) if facts else b""

    def _flush(self) -> bytes:
        event, self._last = self._last, None
        return data_event(event) if event is not None else b""

    def end(self) -> bytes:
        """Return the end of an answer that is complete: finish reasons, token counts, `[DONE]`."""
        begun = b"" if self._started else self._start(Chunk("start"))
        written = [begun]
        for _, chunk in sorted(self._finishes.items()):
            written.append(self._flush())
            if not self._head.native and chunk.opaque is not None and chunk.opaque.fields.get("tool_calls"):
                written.append(self._kept(chunk))  # signatures of calls, which the next request needs
            written.append(self._reason(chunk))
        if self._usage is not None and self._head.include_usage:
            event = self._last or {**self._base, "choices": []}
            self._last = None
            written.append(data_event({**event, "usage": usage_json(self._usage, native=self._head.native)}))
        written.append(self._flush())
        return b"".join([*written, b"data: [DONE]\n\n"])

    def error(self, problem: Problem) -> bytes:
        """Return the event that reports an answer that failed or was cut."""
        return data_event(error_body(problem))


_IN_EVENTS = frozenset({"content", "reasoning", "reasoning_content", "tool_calls"})


def usage_json(usage: Usage, *, native: bool = False) -> dict[str, Any]:
    """Return token counts as the dialect has them."""
    if native:
        return dict(usage.raw) or counts(usage)
    return counts(usage)


def counts(usage: Usage) -> dict[str, Any]:
    """Return the counts of a usage object of this dialect."""
    prompt, made = usage.input_tokens or 0, usage.output_tokens or 0
    written: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
    }
    read, write, reasoning = usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens
    details = {key: value for key, value in (("cached_tokens", read), ("cache_write_tokens", write)) if value}
    if details:
        written["prompt_tokens_details"] = details
    if reasoning is not None:
        written["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return written


_TYPES: Mapping[str, str] = {
    "authentication": "invalid_request_error",
    "permission": "invalid_request_error",
    "rate_limit": "rate_limit_error",
    "failed": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
}


def error_body(problem: Problem, request_id: str | None = None) -> dict[str, Any]:
    """Return the JSON of an error; the id of the HTTP request is a header."""
    return {
        "error": {
            "message": problem.message,
            "type": _TYPES.get(problem.kind, "invalid_request_error"),
            "param": problem.param,
            "code": problem.code,
        }
    }


def whole_answer(answer: Completion, head: AnswerHead, form: ChatForm) -> dict[str, Any]:
    """Return a `chat.completion`."""
    answers = (answer, *answer.alternatives)
    written: dict[str, Any] = {
        "id": head.id or answer.id or "",
        "object": "chat.completion",
        "created": head.created,
        "model": answer.model or head.model,
        "choices": [_choice(number, one, head, form) for number, one in enumerate(answers)],
    }
    if answer.service_tier is not None and (head.native or answer.service_tier in TIERS):
        written["service_tier"] = answer.service_tier
    written["usage"] = usage_json(answer.usage or Usage(), native=head.native)
    return written


def _choice(number: int, answer: Completion, head: AnswerHead, form: ChatForm) -> dict[str, Any]:
    content: Any = answer.text or (None if answer.tool_calls or answer.refusal else "")
    message: dict[str, Any] = {"role": "assistant"}
    if form.thinking_parts:
        if answer.reasoning:
            thinking = {"type": "thinking", "thinking": [{"type": "text", "text": answer.reasoning}]}
            content = [thinking, *([{"type": "text", "text": answer.text}] if answer.text else [])]
        message["content"] = content or ""
    else:
        message |= {"content": content, "refusal": answer.refusal or None}
        if answer.reasoning:
            message[head.reasoning_key] = answer.reasoning
        if answer.citations:
            message["annotations"] = list(answer.citations)
    if answer.tool_calls:
        kept = mapping(None if answer.opaque is None else answer.opaque.fields.get("tool_calls"))
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments or "{}"},
                **mapping(kept.get(str(call.position))),
            }
            for call in answer.tool_calls
        ]
    chunk = Chunk("finish", finish_reason=answer.finish_reason, raw_finish_reason=answer.raw_finish_reason)
    reason = reason_name(chunk, FINISH_REASONS, REASON_NAMES, native=head.native)
    if answer.finish_reason == "refusal" and answer.refusal:
        reason = "stop"
    return {
        "index": number,
        "message": message,
        "logprobs": {"content": list(answer.logprobs), "refusal": None} if answer.logprobs else None,
        "finish_reason": reason,
    }
