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
}
BASE_PATHS: Mapping[str, str] = {"anthropic": "", "mistral": "/mistral", "google": "", "bedrock": ""}
WITH_MODEL: Mapping[str, str] = {
    "/v1/models/MODEL:streamGenerateContent": "gemini",
    "/model/MODEL/converse-stream": "bedrock-converse",
}
"""The paths that have the name of a model, as the simulator's page shows them."""
_NAMING_MODELS = (
    (re.compile(r"/v1(?:beta1?)?/(?:.*/)?models/([^/:]+):streamGenerateContent"), "gemini"),
    (re.compile(r"/model/([^/]+)/converse-stream"), "bedrock-converse"),
)


def route(path: str) -> tuple[str | None, str | None]:
    """Return the wire of a path, and the model that the path names; None for what it does not name."""
    for pattern, wire in _NAMING_MODELS:
        found = pattern.fullmatch(path)
        if found is not None:
            return wire, unquote(found[1])
    return ROUTES.get(path), None


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that a server received."""

    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    at: float = 0.0
    """When it arrived, as `time.time()`."""
