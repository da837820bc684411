"""Send a request through the `anthropic` SDK and decode the bytes of its raw streaming response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from streamcore.chunk import Chunk
from streamcore.net.clients import Resolved, chosen_transport, environment, new_http_client, remember_urls
from streamcore.net.http_errors import SDKErrors, request_id
from streamcore.net.raw_response import read_response
from streamcore.provider import Vendor
from streamcore.request import Request
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.decoder import StreamDecoder
from streamcore_anthropic.request import SCHEMAS, messages_body
from streamcore_anthropic.wire import AnthropicVocabulary

if TYPE_CHECKING:
    import anthropic
    import httpx2

VENDOR = Vendor(
    name="anthropic", sdk="anthropic", install="anthropic", default_model="claude-haiku-4-5", needs_key=True
)


class AnthropicProvider:
    """The provider `anthropic`; see `streamcore.get_provider` for its settings."""

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(
        self,
        *,
        model: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        client: anthropic.AsyncAnthropic | None = None,
        headers: Mapping[str, str] | None = None,
        transport: str | None = None,
    ) -> None:
        VENDOR.require_sdk()
        self._transport = chosen_transport(transport, http_client or client)
        self._model = model
        self._api_key = api_key
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._http_client = http_client
        self._client: anthropic.AsyncAnthropic | None = None
        self._resolved = Resolved["anthropic.AsyncAnthropic"]()
        if client is not None:
            self._client = client.with_options(max_retries=0)

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        model = self.model_for(request)
        return read_response(partial(self._send, request, model, messages_body(request, model, VENDOR)))

    async def _send(self, request: Request, model: str, body: dict[str, Any]) -> tuple[httpx2.Response, StreamDecoder]:
        """Return the SDK's raw response, and what decodes it."""
        import anthropic

        extra_body = {**body.pop("extra_body", {}), **request.extra}
        with SDKErrors(anthropic.APIStatusError, anthropic.APIConnectionError, provider=self.name, model=model):
            client = await self._connect()
            create = cast("Callable[..., Any]", client.messages.with_streaming_response.create)
            sent = create(**body, stream=True, extra_body=extra_body or None, extra_headers=self._headers)
            # What leaving the SDK's context would do, closing the response, its reader does.
            response: httpx2.Response = (await sent.__aenter__()).http_response
        vocabulary = AnthropicVocabulary(request_id=request_id(response))
        return response, StreamDecoder(vocabulary, include_raw=request.include_raw)

    def model_for(self, request: Request) -> str:
        """Return the model that a request goes to."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor holds answers to this schema."""
        return closed_schema(schema, SCHEMAS) is not None

    async def aclose(self) -> None:
        """Do nothing: clients are shared, and closed by the loop's end or by `aclose_providers()`."""

    async def _connect(self) -> anthropic.AsyncAnthropic:
        """Return the client to send through.

        Raises:
            MissingAPIKey: there is no credential anywhere.
        """
        if self._client is None and self._http_client is not None:
            self._client = self._build(self._http_client)
        client = self._client or await self._shared()
        if (
            client.api_key is None
            and client.auth_token is None
            and client.credentials is None
            and not ({"authorization", "x-api-key"} & {name.lower() for name in client.default_headers})
        ):
            raise VENDOR.missing_key()
        return client

    def _build(self, http_client: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self._api_key, base_url=self._base_url, http_client=http_client, max_retries=0
        )

    async def _shared(self) -> anthropic.AsyncAnthropic:
        import anthropic

        def make() -> tuple[anthropic.AsyncAnthropic, Callable[[], Awaitable[object]]]:
            client = self._build(new_http_client(self._transport, anthropic.DefaultAsyncHttpxClient))
            remember_urls(client)
            return client, client.close

        return await self._resolved.client((VENDOR.seen(), VENDOR.from_environment("AUTH_TOKEN")), self._key, make)

    def _key(self) -> tuple[Hashable, ...]:
        return self.name, self._transport, self._api_key, self._base_url, environment("ANTHROPIC_")


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; ask for it with `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; ask for it with include_raw=True")
    import msgspec
    from anthropic._models import construct_type
    from anthropic.types import RawMessageStreamEvent

    return construct_type(type_=RawMessageStreamEvent, value=msgspec.json.decode(chunk.raw))
