"""Hold what both OpenAI APIs and the gateways share: the SDK's client, its errors, its raw response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, cast

from streamcore.chunk import Chunk
from streamcore.net.clients import Resolved, chosen_transport, environment, new_http_client, remember_urls
from streamcore.net.http_errors import SDKErrors, request_id
from streamcore.net.raw_response import read_response
from streamcore.provider import Vendor
from streamcore.wire.decoder import StreamDecoder, Vocabulary

if TYPE_CHECKING:
    import httpx2
    import openai

PLACEHOLDER_KEY = "none"
"""What servers that want no key are sent, because the SDK insists on one."""


class Connection:
    """Make, share and use `AsyncOpenAI` clients for one vendor row."""

    def __init__(
        self,
        vendor: Vendor,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        client: openai.AsyncOpenAI | None = None,
        headers: Mapping[str, str] | None = None,
        transport: str | None = None,
        gateway: bool = False,
    ) -> None:
        vendor.require_sdk()
        self._transport = chosen_transport(transport, http_client or client)
        self._vendor = vendor
        self._gateway = gateway
        self._headers = dict(headers or {})
        self._http_client = http_client
        self._api_key = api_key
        self._base_url = base_url
        self._client: openai.AsyncOpenAI | None = None
        self._resolved = Resolved["openai.AsyncOpenAI"]()
        if client is not None:
            self._client = client.with_options(max_retries=0)

    async def client(self) -> openai.AsyncOpenAI:
        """Return the client to send through.

        Raises:
            MissingAPIKey: there is no key anywhere.
        """
        if self._client is not None:
            return self._client
        if self._http_client is not None:
            self._client = self._build(self._http_client)
            return self._client

        import openai

        def make() -> tuple[openai.AsyncOpenAI, Callable[[], Awaitable[object]]]:
            client = self._build(new_http_client(self._transport, openai.DefaultAsyncHttpxClient))
            remember_urls(client)
            return client, client.close

        return await self._resolved.client(self._vendor.seen(), self._key, make)

    def _key(self) -> tuple[Hashable, ...]:
        prefix = self._vendor.variable("")
        return prefix, self._transport, self._gateway, self._api_key, self._base_url, environment(prefix)

    def _build(self, http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
        import openai

        if self._gateway:
            key = self._api_key or self._vendor.from_environment("API_KEY")
            if key is None and self._vendor.needs_key:
                raise self._vendor.missing_key()
            base = self._base_url or self._vendor.from_environment("BASE_URL") or self._vendor.base_url
            client = openai.AsyncOpenAI(
                api_key=key or PLACEHOLDER_KEY, base_url=base, http_client=http_client, max_retries=0
            )
            return _without_environment(client)
        try:
            return openai.AsyncOpenAI(
                api_key=self._api_key, base_url=self._base_url, http_client=http_client, max_retries=0
            )
        except openai.OpenAIError as error:
            raise self._vendor.missing_key() from error

    def stream(
        self,
        create: Callable[[openai.AsyncOpenAI], Callable[..., Any]],
        vocabulary: Callable[[str | None], Vocabulary],
        body: dict[str, Any],
        extra: Mapping[str, Any],
        include_raw: bool,
    ) -> AsyncGenerator[list[Chunk]]:
        """Send `body` through the SDK's `create` and yield the chunks of its raw response."""
        import openai

        async def send() -> tuple[httpx2.Response, StreamDecoder]:
            extra_body = {**body.pop("extra_body", {}), **extra}
            name, model = self._vendor.name, body["model"]
            with SDKErrors(openai.APIStatusError, openai.APIConnectionError, provider=name, model=model):
                client = await self.client()
                sent = create(client)(**body, stream=True, extra_body=extra_body or None, extra_headers=self._headers)
                # What leaving the SDK's context would do, closing the response, its reader does.
                response: httpx2.Response = (await sent.__aenter__()).http_response
            return response, StreamDecoder(vocabulary(request_id(response)), include_raw=include_raw)

        return read_response(send)


def _without_environment(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    """Take out what the SDK read from `OPENAI_*`: no organization, project, key or header of OpenAI's leaves here."""
    client.organization = None
    client.project = None
    client.admin_api_key = None
    client.webhook_secret = None
    cast("Any", client)._custom_headers = {}
    return client


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; ask for it with `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; ask for it with include_raw=True")
    import msgspec
    from openai._models import construct_type
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import ResponseStreamEvent

    value = msgspec.json.decode(chunk.raw)
    kind: Any = ResponseStreamEvent if "type" in value and "choices" not in value else ChatCompletionChunk
    return construct_type(type_=kind, value=value)
