"""Use the private names of the `google-genai` SDK, which nothing else in streamcore uses.

The SDK has no raw streaming response for `generateContent`. So this file calls the two methods below it, which every
endpoint of the SDK uses: they make URL, headers and credentials, and return the response before anything of it is
read. `tests/net/test_private_names.py` says when a new version lacks one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import httpx2
    from google.genai.client import AsyncClient


async def open_stream(client: AsyncClient, path: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
    """Send `body` to an endpoint and return the response, to be read and closed by the caller.

    Raises:
        google.genai.errors.APIError: the status is not 200.
        google.auth.exceptions.GoogleAuthError: there are no valid credentials.
        httpx2.HTTPError: there was no answer.
    """
    import httpx2

    api = cast("Any", client)._api_client
    request = api._build_request("post", path, {}, None)
    request.data = body
    request.headers.update(headers)
    request.timeout = httpx2.USE_CLIENT_DEFAULT  # else the SDK switches the HTTP client's own timeouts off
    sent = await api._async_request_once(request, stream=True)
    response: httpx2.Response = sent.response_stream
    return response


def is_vertex(client: AsyncClient) -> bool:
    """Return whether a client sends to Vertex AI."""
    return bool(cast("Any", client)._api_client.vertexai)


def uses_credentials(client: AsyncClient) -> bool:
    """Return whether a client signs in with Google's credentials, rather than an API key."""
    api = cast("Any", client)._api_client
    return bool(api.vertexai and not api.api_key and (api.project or api.location))


def http_client_of(client: AsyncClient) -> httpx2.AsyncClient:
    """Return the HTTP client of an SDK client, which has no public name."""
    found: httpx2.AsyncClient = cast("Any", client)._api_client._async_httpx_client
    return found


def adopted(client: AsyncClient) -> AsyncClient:
    """Return a copy of the caller's client that sends over httpx2, and reads little of a refusal.

    The SDK sends over aiohttp wherever that is installed, unless an httpx2 client is given.
    """
    from streamcore.net.limited_client import LimitedClient

    made, api = copy.copy(cast("Any", client)), copy.copy(cast("Any", client)._api_client)
    limited = LimitedClient(http_client_of(client))
    api._http_options = api._http_options.model_copy(update={"httpx_async_client": limited})
    api._async_httpx_client = limited
    made._api_client = api
    return cast("AsyncClient", made)


def construct_response(value: dict[str, Any]) -> Any:
    """Return the SDK's object for an event's JSON, built as the SDK's own streams do it.

    The public way, pydantic's validation, refuses events with fields that the SDK does not know.
    """
    from google.genai.types import GenerateContentResponse

    return cast("Any", GenerateContentResponse)._from_response(response=value, kwargs={})
