"""Use the private names of the `openai` SDK, which nothing else in streamcore uses.

`tests/net/test_private_names.py` says when a new version lacks one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx2
    import openai


def remember_urls(client: openai.AsyncOpenAI) -> None:
    """Make a client compute the URL of each endpoint once, not for every request.

    Nothing changes if the SDK computes it elsewhere.
    """
    private = cast("Any", client)
    if hasattr(private, "_prepare_url"):
        private._prepare_url = lru_cache(maxsize=8)(private._prepare_url)


def remove_custom_headers(client: openai.AsyncOpenAI) -> None:
    """Remove the headers that the SDK read from `OPENAI_CUSTOM_HEADERS`.

    The public parameter `default_headers` adds to them, and `copy(set_default_headers={})` reads the rest of the
    environment again.
    """
    cast("Any", client)._custom_headers = {}


def http_client_of(client: openai.AsyncOpenAI) -> httpx2.AsyncClient:
    """Return the HTTP client of an SDK client, which has no public name."""
    found: httpx2.AsyncClient = cast("Any", client)._client
    return found


def adopted(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """Return a copy of the caller's client that does not retry, and reads little of a refusal."""
    from streamcore.net.limited_client import LimitedClient

    return client.with_options(max_retries=0, http_client=LimitedClient(http_client_of(client)))


def construct_event(event_type: Any, value: object) -> Any:
    """Return the SDK's object for an event's JSON, built as the SDK's own streams do it.

    The public way, pydantic's validation, refuses events that the SDK accepts, such as one with a new enum value.
    """
    from openai._models import construct_type

    return construct_type(type_=event_type, value=value)
