"""Define the paths that the simulator serves, and the record of a request that a test server received."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

# The path of each wire, and the path of the base URL with which a provider reaches it.
ROUTES: Mapping[str, str] = {
    "/v1/messages": "anthropic-messages",
    "/v1/chat/completions": "openai-chat",
    "/v1/responses": "openai-responses",
    "/mistral/v1/chat/completions": "mistral-chat",
    "/model/{model}/converse-stream": "bedrock-converse",
}
BASE_PATHS: Mapping[str, str] = {"anthropic": "", "mistral": "/mistral", "bedrock": ""}
_WITH_MODEL = {
    re.compile(re.escape(path).replace(r"\{model\}", "([^/]+)")): wire for path, wire in ROUTES.items() if "{" in path
}


def route_of(path: str) -> tuple[str, str | None] | None:
    """Return the wire of a path, and the model if the path names it; None if there is no such route."""
    if path in ROUTES:
        return ROUTES[path], None
    found = ((pattern.fullmatch(path), wire) for pattern, wire in _WITH_MODEL.items())
    return next(((wire, unquote(match[1])) for match, wire in found if match), None)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that a server received."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    at: float = 0.0
    """When it arrived, as `time.time()`."""
