"""List the fields of the Responses API's objects that the decoder reads or ignores, to detect new ones.

Source: the Responses API reference, the types of `openai` 3.52, and recordings of the API and of compatible gateways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import items, mapping

_RESPONSE = frozenset(
    {
        "access_programs",
        "background",
        "completed_at",
        "content_filters",
        "conversation",
        "created_at",
        "error",
        "frequency_penalty",
        "id",
        "image",
        "incomplete_details",
        "input_transformations",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "object",
        "output",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_response_id",
        "prompt",
        "prompt_cache_diagnostics",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "provider",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "status",
        "status_details",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tool_usage",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "usage",
        "user",
    }
)
_CALL = frozenset({"type", "id", "call_id", "name", "status", "namespace", "caller", "async", "created_by"})
_ITEMS: Mapping[str, frozenset[str]] = {
    "message": frozenset({"type", "id", "role", "content", "status", "phase"}),
    "function_call": _CALL | {"arguments"},
    "custom_tool_call": _CALL | {"input"},
    "reasoning": frozenset({"type", "id", "summary", "content", "encrypted_content", "status", "format", "signature"}),
}
_PARTS: Mapping[str, frozenset[str]] = {
    "output_text": frozenset({"type", "text", "annotations", "logprobs"}),
    "refusal": frozenset({"type", "refusal"}),
    "reasoning_text": frozenset({"type", "text"}),
    "summary_text": frozenset({"type", "text"}),
}


def has_unread_fields(event: Mapping[str, Any]) -> bool:
    """True if the response, item or part of an event has a value under a key that the decoder does not read."""
    response = mapping(event.get("response"))
    if _unread(response, _RESPONSE):
        return True
    return any(map(_unread_in_item, (event.get("item"), *items(response.get("output"))))) or _unread_in_part(
        event.get("part")
    )


def _unread_in_item(item: object) -> bool:
    fields = mapping(item)
    if _unread(fields, _ITEMS.get(str(fields.get("type")))):
        return True
    if fields.get("type") not in ("message", "reasoning"):
        return False
    return any(map(_unread_in_part, (*items(fields.get("content")), *items(fields.get("summary")))))


def _unread_in_part(part: object) -> bool:
    fields = mapping(part)
    return _unread(fields, _PARTS.get(str(fields.get("type"))))


def _unread(fields: Mapping[str, Any], known: frozenset[str] | None) -> bool:
    """True if a key that is not in `known` has a value; `known` is None for unknown types, which `other` passes on."""
    if known is None or known.issuperset(fields):
        return False
    return any(value is not None for key, value in fields.items() if key not in known)
