"""Read Google's errors: their status word, a refused API key, and how long to wait."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from streamcore.errors import AuthenticationError, ProviderError, provider_error
from streamcore.wire.lenient import is_array, items, mapping, text

E = TypeVar("E", bound=ProviderError)

_BODY_START = re.compile(rb"^[ \t]*[\[{]", re.MULTILINE)
_BAD_KEY = "API_KEY_INVALID"


def event_error(value: object, request_id: str | None = None) -> ProviderError:
    """Return the error that an event of a stream reports."""
    return refined(provider_error(unwrapped(value), request_id=request_id), value)


def refined(error: ProviderError, body: object) -> ProviderError:
    """Return an error with what Google's `details` say: a refused key has status 400, RetryInfo says when to retry."""
    facts = mapping(mapping(unwrapped(body)).get("error"))
    details = [mapping(detail) for detail in items(facts.get("details"))]
    if any(detail.get("reason") == _BAD_KEY for detail in details) and not isinstance(error, AuthenticationError):
        error = _as(AuthenticationError, error)
        error.code = _BAD_KEY
    else:
        error.code = text(facts.get("status")) or error.code
    if error.retry_after is None:
        delays = (_seconds(detail.get("retryDelay")) for detail in details)
        error.retry_after = next((delay for delay in delays if delay is not None), None)
    return error


def _as(kind: type[E], error: ProviderError) -> E:
    return kind(
        error.message,
        provider=error.provider,
        model=error.model,
        status=error.status,
        code=error.code,
        request_id=error.request_id,
        retryable=False,
        retry_after=error.retry_after,
        body=error.body,
    )


def _seconds(delay: object) -> float | None:
    """Return the seconds of a duration such as `22.4s`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", text(delay) or "")
    seconds = float(found[1]) if found else math.inf
    return seconds if math.isfinite(seconds) else None


def unwrapped(value: object) -> object:
    """Return the object of a list with one object, in which some answers wrap the error."""
    return value[0] if is_array(value) and len(value) == 1 else value


def plain_error(data: bytes) -> Mapping[str, Any] | None:
    """Return the error object that the last bytes of a body have as plain JSON, outside of events; None if none."""
    start = _BODY_START.search(data)
    if start is None:
        return None
    try:
        value: object = json.loads(data[start.start() :])
    except (ValueError, RecursionError):
        return None
    found = mapping(unwrapped(value))
    return found if found.get("error") else None
