"""Use the private names of the `google-genai` SDK, which nothing else in streamcore uses.

The SDK has no raw streaming response for `generateContent`. So this file calls the two methods below it, which every
endpoint of the SDK uses: they make URL, headers and credentials, and return before the body is read.
`tests/net/test_private_names.py` says when a new version lacks one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import anyio

if TYPE_CHECKING:
    import httpx2
    from google.genai.client import AsyncClient


_CLOSE_SECONDS = 2.0
TIMEOUT = 600.0
"""The read timeout in seconds if the HTTP client has only httpx2's default; the other SDKs have the same."""
_DEFAULT = 5.0  # seconds, of httpx2


async def open_stream(client: AsyncClient, path: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
    """Send `body` to an endpoint and return the response, of any status, to be read and closed by the caller.

    Raises:
        google.auth.exceptions.GoogleAuthError: there are no valid credentials.
        httpx2.HTTPError: there was no answer.
    """
    import httpx2

    http = http_client_of(client)
    request = cast("Any", client)._api_client._build_request("post", path, {}, None)
    request.data = body
    request.headers.update(headers)
    # The SDK's own value, None, would switch the timeouts of the HTTP client off.
    by_default = http.timeout == httpx2.Timeout(_DEFAULT)
    request.timeout = httpx2.Timeout(_DEFAULT, read=TIMEOUT) if by_default else httpx2.USE_CLIENT_DEFAULT
    sender = _Sender(http)
    try:
        await _copied(client, sender)._async_request_once(request, stream=True)
    except Exception:
        if sender.response is None or sender.response.status_code == 200:
            raise
    except BaseException:
        if sender.response is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await sender.response.aclose()
        raise
    return cast("httpx2.Response", sender.response)


class _Sender:
    """Replace the SDK's HTTP client during one request, and record the response.

    The SDK raises for every status but 200, and fails at error bodies that it cannot parse.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self.response: httpx2.Response | None = None

    def build_request(self, **parts: Any) -> httpx2.Request:
        """Build the request."""
        return self._http.build_request(**parts)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send the request and record the response."""
        self.response = await self._http.send(request, **options)
        return self.response


def _copied(client: AsyncClient, http: object) -> Any:
    """Return a copy of a client's inner object that sends over `http`; its end closes nothing of the original's."""
    api = copy.copy(cast("Any", client)._api_client)
    if api._http_options.httpx_async_client is None:  # else the SDK sends over aiohttp wherever that is installed
        api._http_options = api._http_options.model_copy(update={"httpx_async_client": http})
    api._async_httpx_client = http
    api._httpx_client = api._authorized_session = None
    api._aiohttp_sessions = {}
    return api


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
    """Return a copy of the caller's client that sends over httpx2, and reads little of a refusal."""
    from streamcore.net.limited_client import LimitedClient

    made = copy.copy(cast("Any", client))
    made._api_client = _copied(client, LimitedClient(http_client_of(client)))
    return cast("AsyncClient", made)


def construct_response(value: dict[str, Any]) -> Any:
    """Return the SDK's object for an event's JSON, built as the SDK's own streams do it.

    The public way, pydantic's validation, refuses events with fields that the SDK does not know.
    """
    from google.genai.types import GenerateContentResponse

    return cast("Any", GenerateContentResponse)._from_response(response=value, kwargs={})
