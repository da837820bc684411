"""List the fields of Gemini's events that the decoder reads or ignores, to detect new ones.

Source: the references of `GenerateContentResponse`, the types of `google-genai` 3.6, and recordings of the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import items, mapping

EVENT = frozenset(
    {"candidates", "usageMetadata", "modelVersion", "responseId", "createTime", "promptFeedback", "error"}
)
_CANDIDATE = frozenset(
    {"content", "index", "finishReason", "finishMessage", "groundingMetadata", "citationMetadata", "logprobsResult"}
)
_CONTENT = frozenset({"parts", "role"})
_GROUNDING = frozenset({"groundingChunks", "groundingSupports"})
_CITATION = frozenset({"citations", "citationSources"})
_TEXT = frozenset({"text", "thought", "thoughtSignature"})
_CALL_PART = frozenset({"functionCall", "thoughtSignature", "thought"})
_CALL = frozenset({"name", "args", "id", "partialArgs", "willContinue"})


def has_unread_fields(event: Mapping[str, Any]) -> bool:
    """True if an event has a value under a key that the decoder does not read; parts of other kinds are not counted."""
    return _unread(event, EVENT) or any(_unread_in_candidate(mapping(one)) for one in items(event.get("candidates")))


def is_text(part: Mapping[str, Any]) -> bool:
    """True for a part that has only text, and perhaps a signature."""
    return "text" in part and not _unread(part, _TEXT)


def is_call(part: Mapping[str, Any]) -> bool:
    """True for a part that has only a function call, and perhaps a signature."""
    return (
        "functionCall" in part and not _unread(part, _CALL_PART) and not _unread(mapping(part["functionCall"]), _CALL)
    )


def _unread_in_candidate(candidate: Mapping[str, Any]) -> bool:
    return (
        _unread(candidate, _CANDIDATE)
        or _unread(mapping(candidate.get("content")), _CONTENT)
        or _unread(mapping(candidate.get("groundingMetadata")), _GROUNDING)
        or _unread(mapping(candidate.get("citationMetadata")), _CITATION)
    )


def _unread(fields: Mapping[str, Any], known: frozenset[str]) -> bool:
    if known.issuperset(fields):
        return False
    return any(value not in (None, [], {}) for key, value in fields.items() if key not in known)
