"""Send the bytes of a request through the `mistralai` SDK, with its URLs, credentials and hooks.

`chat.stream_async` has no parameter for keys that it does not know, and builds seven pydantic models for every call,
which costs more CPU than the rest of a request. So this file, and no other, calls the two private methods that every
endpoint of the SDK uses. `tests/net/test_private_names.py` says when a new version lacks one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import anyio

if TYPE_CHECKING:
    import httpx2
    from mistralai.client import Mistral
    from mistralai.client.chat import Chat

CLOSE_SECONDS = 2.0
_DEFAULT = 5.0  # seconds, of httpx2
TIMEOUT_MS = 600_000
"""The read timeout if the HTTP client has only httpx2's default; the other SDKs have the same."""


async def open_stream(client: Mistral, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
    """Send `body` to the chat endpoint and return the response, to be read and closed by the caller.

    Raises:
        MistralError: a hook of the SDK refused the request. A status of 400 or above is returned like any other.
        httpx2.HTTPError: there was no answer.
    """
    from mistralai.client._hooks import HookContext
    from mistralai.client.models import Security
    from mistralai.client.utils import SerializedRequestBody, get_security_from_env

    chat, sender = _one_request(client)
    config = chat.sdk_configuration
    request = cast("Any", chat)._build_request_async(
        method="POST",
        path="/v1/chat/completions#stream",
        base_url=None,
        url_variables=None,
        request=None,
        request_body_required=True,
        request_has_path_params=False,
        request_has_query_params=False,
        user_agent_header="user-agent",
        accept_header_value="text/event-stream",
        http_headers=headers,
        security=config.security,
        get_serialized_body=lambda: SerializedRequestBody(media_type="application/json", content=body),
        timeout_ms=config.timeout_ms or _timeout_ms(client.sdk_configuration.async_client),
    )
    context = HookContext(
        config=config,
        base_url="",
        operation_id="stream_chat",
        oauth2_scopes=None,
        security_source=get_security_from_env(config.security, Security),
        tags=["chat"],
        extensions=None,
    )
    try:
        return await chat.do_request_async(
            hook_ctx=context, request=request, is_error_status_code=_never, stream=True, retry_config=None
        )
    except BaseException:
        await sender.close_response()
        raise


def _timeout_ms(http: Any) -> int | None:
    """Return the timeout of a request, None if the HTTP client has its own."""
    import httpx2

    return TIMEOUT_MS if http.timeout == httpx2.Timeout(_DEFAULT) else None


def _never(_status: int) -> bool:
    return False


def _one_request(client: Mistral) -> tuple[Chat, Sender]:
    """Return the SDK's chat endpoint for one request, and the sender that records its response."""
    from mistralai.client.chat import Chat

    config = copy.copy(client.sdk_configuration)
    sender = Sender(cast("httpx2.AsyncClient", config.async_client))
    config.async_client = cast("Any", sender)
    return Chat(config, parent_ref=client), sender


class Sender:
    """Replace the SDK's `async_client` during one request, and record the response.

    The SDK passes each response to hooks in a thread before it returns it. A caller that is cancelled meanwhile would
    otherwise leave the response open.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http
        self._response: httpx2.Response | None = None

    def build_request(self, method: str, url: Any, **parts: Any) -> httpx2.Request:
        """Build the request."""
        return self._http.build_request(method, url, **parts)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send the request and record the response."""
        self._response = await self._http.send(request, **options)
        return self._response

    async def close_response(self) -> None:
        """Close the response, if there is one, also while cancelled."""
        if self._response is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._response.aclose()

    async def aclose(self) -> None:
        """Do nothing: the owner of the httpx2 client closes it."""


class UnusedSyncClient:
    """Replace the SDK's `client`, which would otherwise open a second connection pool that nothing uses."""

    def build_request(self, method: str, url: Any, **parts: Any) -> httpx2.Request:
        """Refuse: this provider is asynchronous."""
        raise RuntimeError("streamcore's Mistral client is asynchronous")

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Refuse: this provider is asynchronous."""
        raise RuntimeError("streamcore's Mistral client is asynchronous")

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
