"""Write prompts, answers and tools as the JSON of the GenAI conventions, without secrets, for those who ask for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from streamcore.base.redact import redact
from streamcore.chunk import ToolCall
from streamcore.completion import Completion
from streamcore.parts import Text
from streamcore.request import Message, Request
from streamcore.telemetry import names


def content_enabled() -> bool:
    """Return whether the environment enables content on spans."""
    return os.environ.get(names.CAPTURE_CONTENT, "").strip().lower() in ("true", "1", "span_only", "span_and_event")


def of_request(request: Request) -> dict[str, str]:
    """Return the attributes of what is sent."""
    found = {names.INPUT_MESSAGES: _json([_message(one) for one in request.messages if one.role != "system"])}
    system = [part for one in request.messages if one.role == "system" for part in _parts(one)]
    if system:
        found[names.SYSTEM_INSTRUCTIONS] = _json(system)
    if request.tools:
        found[names.TOOL_DEFINITIONS] = _json(
            [
                {"type": "function", "name": one.name, "description": one.description, "parameters": one.parameters}
                for one in request.tools
            ]
        )
    return found


def of_answer(answer: Completion) -> dict[str, str]:
    """Return the attributes of what arrived."""
    return {names.OUTPUT_MESSAGES: _json([_answer(one) for one in (answer, *answer.alternatives)])}


def of_text(text: str) -> str:
    """Return a text without secrets."""
    return redact(text)


def _answer(answer: Completion) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if answer.reasoning:
        parts.append({"type": "reasoning", "content": answer.reasoning})
    if answer.text or answer.refusal:
        parts.append({"type": "text", "content": answer.text or answer.refusal})
    parts += _calls(answer.tool_calls)
    return {"role": "assistant", "parts": parts, "finish_reason": answer.raw_finish_reason or "error"}


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        part = {"type": "tool_call_response", "id": message.tool_call_id, "response": message.text}
        return {"role": "tool", "parts": [part]}
    return {"role": message.role, "parts": [*_parts(message), *_calls(message.tool_calls)]}


def _parts(message: Message) -> Sequence[dict[str, Any]]:
    return [
        {"type": "text", "content": part.text} if isinstance(part, Text) else {"type": type(part).__name__.lower()}
        for part in message.parts
    ]


def _calls(calls: Iterable[ToolCall]) -> list[dict[str, Any]]:
    return [{"type": "tool_call", "id": one.id, "name": one.name, "arguments": one.arguments} for one in calls]


def _json(value: Any) -> str:
    return redact(json.dumps(value, ensure_ascii=False, default=str))
