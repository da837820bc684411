"""List the fields of the Messages API's events that the decoder reads or ignores, to detect new ones.

Source: the Messages API reference, "Streaming messages", the types of `anthropic` 2.11, and recordings of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import items, mapping

EVENTS: Mapping[str, frozenset[str]] = {
    "content_block_delta": frozenset({"type", "index", "delta"}),
    "content_block_start": frozenset({"type", "index", "content_block"}),
    "content_block_stop": frozenset({"type", "index"}),
    "error": frozenset({"type", "error", "request_id"}),
    "message_delta": frozenset({"type", "delta", "usage"}),
    "message_start": frozenset({"type", "message"}),
    "message_stop": frozenset({"type"}),
    "ping": frozenset({"type"}),
}
_MESSAGE = frozenset(
    {
        "id",
        "type",
        "role",
        "model",
        "content",
        "stop_reason",
        "stop_sequence",
        "usage",
        "container",
    }
)
_MESSAGE_DELTA = frozenset({"stop_reason", "stop_sequence", "stop_details", "container"})
_DELTAS: Mapping[str, frozenset[str]] = {
    "text_delta": frozenset({"type", "text"}),
    "thinking_delta": frozenset({"type", "thinking", "estimated_tokens"}),
    "input_json_delta": frozenset({"type", "partial_json"}),
    "signature_delta": frozenset({"type", "signature"}),
    "citations_delta": frozenset({"type", "citation"}),
}
_BLOCKS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "tool_use": frozenset({"type", "id", "name", "input", "caller"}),
}


def has_unread_fields(kind: str, event: Mapping[str, Any]) -> bool:
    """True if an event of a known kind has a value under a key that the decoder does not read."""
    known = EVENTS.get(kind)
    if known is None:
        return False
    if _unread(event, known):
        return True
    match kind:
        case "content_block_delta":
            delta = mapping(event.get("delta"))
            return _unread(delta, _DELTAS.get(str(delta.get("type"))))
        case "content_block_start":
            return _unread_in_block(event.get("content_block"))
        case "message_delta":
            return _unread(mapping(event.get("delta")), _MESSAGE_DELTA)
        case "message_start":
            message = mapping(event.get("message"))
            return _unread(message, _MESSAGE) or any(map(_unread_in_block, items(message.get("content"))))
        case _:
            return False


def _unread_in_block(block: object) -> bool:
    fields = mapping(block)
    return _unread(fields, _BLOCKS.get(str(fields.get("type"))))


def _unread(fields: Mapping[str, Any], known: frozenset[str] | None) -> bool:
    """True if a key that is not in `known` has a value; `known` is None for unknown types, which `other` passes on."""
    if known is None or known.issuperset(fields):
        return False
    return any(value is not None for key, value in fields.items() if key not in known)
