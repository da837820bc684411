"""Write the objects of the Responses API: the response, its output items, its token counts, its errors.

Source: the Responses API reference, the types of `openai` 3.57, and the Open Responses specification of 2026-04-24,
which requires every field of a response.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from streamcore.chunk import Chunk, ToolCall, Usage
from streamcore.completion import Completion
from streamcore.wire.encoding.chat import TIERS
from streamcore.wire.encoding.wire import AnswerHead, Problem
from streamcore_openai.responses_wire import WIRE

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Json = dict[str, Any]

_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "completed_at": None,
    "error": None,
    "frequency_penalty": 0.0,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}


def response_object(
    head: AnswerHead, status: str, output: Sequence[Mapping[str, Any]], *, usage: Usage | None = None, **more: Any
) -> Json:
    """Return a response with every field that clients require; `more` overrides the request's fields."""
    return {
        "id": head.id or "",
        "object": "response",
        "created_at": head.created,
        "status": status,
        "model": head.model,
        "output": list(output),
        "usage": None if usage is None else usage_json(usage, native=head.native),
        **{key: value for key, value in _DEFAULTS.items() if key not in head.echo},
        **({"service_tier": None} if head.native else {}),
        **head.echo,
        **more,
    }


def usage_json(usage: Usage, *, native: bool) -> Json:
    """Return token counts as this API has them; `native`: as they were received."""
    if native and usage.raw:
        return dict(usage.raw)
    read, made = usage.input_tokens or 0, usage.output_tokens or 0
    details: Json = {"cached_tokens": usage.cache_read_tokens or 0}
    if usage.cache_write_tokens:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": details,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": read + made,
    }


def item_id(kind: str, response_id: str, number: int) -> str:
    """Return the id of an output item."""
    prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}[kind]
    return f"{prefix}_sc{number}_{response_id.removeprefix('resp_') or 'item'}"


_OURS = re.compile(r"[a-z]+_sc\d+_")


def is_our_id(identity: object) -> bool:
    """True for an id that `item_id` made, which no vendor knows."""
    return isinstance(identity, str) and _OURS.match(identity) is not None


def message_item(identity: str, parts: Sequence[Mapping[str, Any]], status: Status = "completed") -> Json:
    """Return an output item with text or a refusal."""
    return {"id": identity, "type": "message", "role": "assistant", "status": status, "content": list(parts)}


def reasoning_item(identity: str, parts: Sequence[Mapping[str, Any]]) -> Json:
    """Return an output item with reasoning: summaries, or the text itself."""
    item: Json = {
        "id": identity,
        "type": "reasoning",
        "summary": [one for one in parts if one["type"] == "summary_text"],
    }
    texts = [one for one in parts if one["type"] == "reasoning_text"]
    return {**item, "content": texts} if texts else item


def call_item(identity: str, call: ToolCall, arguments: str, status: Status = "completed") -> Json:
    """Return an output item with a tool call."""
    written: Json = {
        "id": identity,
        "type": "custom_tool_call" if call.custom else "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
    }
    written["input" if call.custom else "arguments"] = arguments
    return written


def text_part(text: str, annotations: Sequence[Mapping[str, Any]] = (), logprobs: Sequence[Any] = ()) -> Json:
    """Return a part of a message with text."""
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": list(logprobs)}


def status_of(finish: Chunk | None, *, refused: bool, native: bool) -> tuple[str, str | None]:
    """Return the status of a response that ended, and the reason if it is incomplete."""
    if finish is None:
        return "completed", None
    if native:
        detail = finish.finish_detail
        return finish.raw_finish_reason or "completed", detail if isinstance(detail, str) else None
    match finish.finish_reason:
        case "length" | "pause":
            return "incomplete", "max_output_tokens"
        case "content_filter":
            return "incomplete", "content_filter"
        case "refusal" if not refused:
            return "incomplete", "content_filter"
        case _:
            return "completed", None


_CODES: Mapping[str, str] = {
    "invalid": "invalid_prompt",
    "rate_limit": "rate_limit_exceeded",
}


def error_code(problem: Problem) -> str:
    """Return the code of an error in a response, one of the API's list."""
    return _CODES.get(problem.kind, "server_error")


_TYPES: Mapping[str, str] = {
    "not_found": "not_found",
    "rate_limit": "too_many_requests",
    "failed": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
}


def error_body(problem: Problem, request_id: str | None = None) -> Json:
    """Return the JSON of an error; the id of the HTTP request is a header."""
    return {"error": error_object(problem)}


def error_object(problem: Problem) -> Json:
    """Return the description of an error."""
    return {
        "message": problem.message,
        "type": _TYPES.get(problem.kind, "invalid_request_error"),
        "param": problem.param,
        "code": problem.code,
    }


def failed_response(head: AnswerHead, problem: Problem, output: Sequence[Mapping[str, Any]] = ()) -> Json:
    """Return a response that failed."""
    error = {"code": error_code(problem), "message": problem.message}
    return response_object(head, "failed", output, error=error)


def whole_response(answer: Completion, head: AnswerHead) -> Json:
    """Return a response that is not streamed."""
    finish = Chunk(
        "finish",
        finish_reason=answer.finish_reason,
        raw_finish_reason=answer.raw_finish_reason,
        finish_detail=answer.finish_detail,
    )
    status, reason = status_of(finish, refused=bool(answer.refusal), native=head.native)
    identity = head.id or answer.id or ""
    more: Json = {"id": identity, "model": answer.model or head.model}
    if reason is not None:
        more["incomplete_details"] = {"reason": reason}
    if answer.service_tier is not None and (head.native or answer.service_tier in TIERS):
        more["service_tier"] = answer.service_tier
    if status == "completed":
        more["completed_at"] = head.created
    opaque = answer.opaque
    output = list(opaque.items) if opaque is not None and opaque.wire == WIRE else items_of(answer, identity, status)
    return response_object(head, status, output, usage=answer.usage or Usage(), **more)


def items_of(answer: Completion, response_id: str, status: str) -> list[Json]:
    """Return the output items of an answer."""
    output: list[Json] = []
    if answer.reasoning:
        texts = answer.reasoning_parts or (answer.reasoning,)
        summaries = [{"type": "summary_text", "text": text} for text in texts]
        output.append(reasoning_item(item_id("reasoning", response_id, len(output)), summaries))
    parts = [text_part(answer.text, answer.citations, answer.logprobs)] if answer.text else []
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    if parts:
        ended: Status = "completed" if status == "completed" else "incomplete"
        output.append(message_item(item_id("message", response_id, len(output)), parts, ended))
    for call in answer.tool_calls:
        kind = "custom_tool_call" if call.custom else "function_call"
        output.append(call_item(item_id(kind, response_id, len(output)), call, call.arguments))
    return output
