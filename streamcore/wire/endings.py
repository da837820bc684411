"""Recognize answers that ended with a failure: finish reasons that mean one, and errors of unknown shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamcore.chunk import FinishReason
from streamcore.errors import BY_WORD, MalformedStream, ProviderError, StreamInterrupted, provider_error
from streamcore.wire.lenient import is_object

_FAILURE = re.compile("error|abort|fail|malformed|insufficient|exception", re.IGNORECASE)
_ERROR_KEY = re.compile(r"error|fault|exception|\Adetail|\Afail", re.IGNORECASE)
_MESSAGE_KEYS = frozenset({"message", "msg", "status_msg", "statusMessage", "reason", "title"})
_CODE_KEYS = frozenset({"code", "status", "status_code", "statusCode"})
_STATE_KEYS = ("type", "object", "status", "state")

# Finish reasons of a gateway's vendor that are more precise than the gateway's own.
NATIVE_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_completion_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}


def is_failure(reason: str) -> bool:
    """True if a finish reason or status means that generation failed."""
    return _FAILURE.search(reason) is not None


def failed_answer(reason: str, *, request_id: str | None = None) -> ProviderError:
    """Return the error for an answer whose finish reason or status means failure; `code` is that reason."""
    error = {"code": reason, "message": f"generation failed: the answer ended with {reason!r}"}
    return provider_error(error, request_id=request_id)


def another_answer(first: str | None, second: str | None) -> StreamInterrupted:
    """Return the error for a body with a second answer: the first one was cut, and the two are never merged."""
    return StreamInterrupted(
        f"another answer ({second!r}) began before {first!r} was marked as finished; what arrived of the first is in "
        ".partial"
    )


def looks_like_error(value: object) -> bool:
    """True if an event of unknown shape looks like an error."""
    if not is_object(value):
        return False
    if any(item not in (None, False, "", 0) and _ERROR_KEY.search(key) for key, item in value.items()):
        return True
    if any(isinstance(state := value.get(key), str) and _names_error(state) for key in _STATE_KEYS):
        return True
    if value.get("success") is False or value.get("ok") is False:
        return True
    code = next((value[key] for key in sorted(_CODE_KEYS) if value.get(key) is not None), None)
    if is_error_code(code) or (code is not None and not _MESSAGE_KEYS.isdisjoint(value)):
        return True
    nested = value.get("base_resp")
    return is_object(nested) and nested.get("status_code") not in (None, 0, 200, "0", "200")


def _names_error(state: str) -> bool:
    return is_failure(state) or state.lower() in BY_WORD


def is_error_code(code: object) -> bool:
    """True for an HTTP status of 400 or above, as a number or in digits."""
    return re.fullmatch(r"[45]\d\d", str(code)) is not None


def unmarked(value: Mapping[str, Any], *, request_id: str | None = None) -> ProviderError:
    """Return the error for an event of unknown shape that looks like an error and that no finish reason followed."""
    return provider_error(value, request_id=request_id, fallback=f"an event reported an error: {str(value)[:200]}")


class RepeatedWork:
    """Limit the work on an answer that is repeated, since a server finishes it or counts its tokens again and again."""

    def __init__(self) -> None:
        self._done = 0

    def spend(self, size: int) -> None:
        """Add work on something of this size; raises `MalformedStream` if it was done too often."""
        self._done += size
        if self._done > 1_000_000 + 50 * size:
            raise MalformedStream("the end or the usage of a large answer was sent too many times")
