"""Send a request through the `anthropic` SDK and decode the bytes of its raw streaming response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, cast

from streamcore.chunk import Chunk
from streamcore.errors import ProviderError
from streamcore.net.clients import SDKClient
from streamcore.net.http_errors import SDKErrors, request_id
from streamcore.net.raw_response import read_response
from streamcore.net.well_formed import send_well_formed
from streamcore.provider import ProviderSettings, Vendor
from streamcore.request import Request
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.decoder import StreamDecoder
from streamcore.wire.event_stream import CONTENT_TYPE
from streamcore_anthropic.bedrock import BedrockDecoder
from streamcore_anthropic.idle_spans import without_idle_spans
from streamcore_anthropic.request import SCHEMAS, messages_body
from streamcore_anthropic.sdk_private import construct_event, http_client_of, remember_urls
from streamcore_anthropic.wire import WIRE, AnthropicVocabulary

if TYPE_CHECKING:
    import anthropic
    import httpx2

VENDOR = Vendor(
    name="anthropic",
    sdk="anthropic",
    install='-e ".[anthropic]"',
    default_model="claude-haiku-4-5",
    # Signatures are valid on all platforms: "Extended thinking", in the API's documentation.
    hosts=("anthropic.com", "amazonaws.com", "googleapis.com"),
    cache_apart=True,
)
_COUNTED = frozenset({"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"})
"""What the endpoint that counts accepts of the keys of a request."""
_LONG = frozenset({"messages", "system", "tools"})
"""The keys of a request that grow with the conversation."""


class AnthropicProvider:
    """Stream from the Messages API as the provider `anthropic`; see `streamcore.get_provider` for its settings."""

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name
    wire: ClassVar[str] = WIRE
    """The wire of the requests, whose further parameters `Request.extra` takes."""

    def __init__(self, **settings: Unpack[ProviderSettings]) -> None:
        self._model = settings.get("model")
        self._sdk = SDKClient["anthropic.AsyncAnthropic"](
            VENDOR,
            settings,
            _build,
            http_class=_http_class,
            adopt=_adopt,
            http_of=http_client_of,
            modules=["anthropic.resources.messages"],
            close=lambda client: client.close(),
            variables=("AUTH_TOKEN",),
        )

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        model = self.model_for(request)
        body = messages_body(request, model, VENDOR, self._sdk.source())
        return read_response(partial(self._send, request, model, body), self._sdk.secrets)

    async def _send(self, request: Request, model: str, body: dict[str, Any]) -> tuple[httpx2.Response, StreamDecoder]:
        """Return the SDK's raw response and its decoder."""
        await self._sdk.load()
        import anthropic

        # The SDK looks at each message and part, to rename keys that are right: `extra_body` it sends as it is.
        long = {key: body[key] for key in _LONG if key in body}
        short = {key: value for key, value in body.items() if key not in _LONG}
        extra = {**long, **body.get("extra_body", {}), **request.extra}
        arguments = {**short, "messages": anthropic.omit, "stream": True, "extra_body": extra}
        client, response = await self._request("create", model, arguments)
        vocabulary = AnthropicVocabulary(request_id=request_id(response), source=self._sdk.source())
        kind = response.headers.get("content-type", "")
        binary = kind.startswith(CONTENT_TYPE) or isinstance(client, _bedrock_class())
        decoder = BedrockDecoder if binary else StreamDecoder
        return response, decoder(vocabulary, include_raw=request.include_raw)

    async def _request(
        self, method: str, model: str, arguments: dict[str, Any]
    ) -> tuple[anthropic.AsyncAnthropic, httpx2.Response]:
        """Send a request with a method of the SDK's `messages`; return the response, which the caller closes."""
        await self._sdk.load()
        import anthropic

        with SDKErrors(anthropic.APIStatusError, anthropic.APIConnectionError, provider=self.name, model=model):
            client = await self._connect()
            send = cast("Callable[..., Any]", getattr(client.messages.with_streaming_response, method))
            headers = self._sdk.headers
            # The SDK's context is not left: that would close the response.
            sent = await send_well_formed(lambda given: send(**given, extra_headers=headers).__aenter__(), arguments)
            response: httpx2.Response = sent.http_response
        return client, response

    async def count_tokens(self, request: Request) -> int | None:
        """Return how many tokens the prompt has; None if the server does not count. See `streamcore.count_tokens`."""
        from streamcore.net.small_answer import read_count

        model = self.model_for(request)
        body = messages_body(request, model, VENDOR, self._sdk.source())
        counted = {key: value for key, value in body.items() if key in _COUNTED}
        await self._sdk.load()
        if isinstance(await self._connect(), _bedrock_class()):
            return None

        async def send() -> httpx2.Response:
            return (await self._request("count_tokens", model, counted))[1]

        try:
            return await read_count(send, "input_tokens", self._sdk.secrets, provider=self.name, model=model)
        except ProviderError as error:
            if self._sdk.source() != self.name and error.status in (404, 405, 501):
                return None
            raise

    def model_for(self, request: Request) -> str:
        """Return the model that answers a request."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor enforces this schema."""
        return closed_schema(schema, SCHEMAS) is not None

    def secrets(self) -> list[str]:
        """Return what no error may show; see `Provider`."""
        return self._sdk.secrets()

    async def warm_up(self) -> None:
        """Import the SDK in a thread and build the client; see `streamcore.warm_up`."""
        await self._sdk.warm_up()

    async def aclose(self) -> None:
        """Do nothing: the end of the event loop or `aclose_providers()` closes the shared client."""

    async def _connect(self) -> anthropic.AsyncAnthropic:
        """Return the client to send through.

        Raises:
            MissingAPIKey: the SDK finds no credential.
        """
        client = await self._sdk.get()
        if not isinstance(client, _anthropic_class()):  # Bedrock, Vertex: they sign with the cloud's credentials
            return client
        if (
            client.api_key is None
            and client.auth_token is None
            and client.credentials is None
            and not ({"authorization", "x-api-key"} & {name.lower() for name in client.default_headers})
        ):
            raise VENDOR.missing_key()
        return client if self._sdk.given else without_idle_spans(client)


def _adopt(client: anthropic.AsyncAnthropic) -> anthropic.AsyncAnthropic:
    """Return a copy of the caller's client that does not retry, and reads little of a refusal."""
    from streamcore.net.limited_client import LimitedClient

    return client.with_options(max_retries=0, http_client=LimitedClient(http_client_of(client)))


def _build(sdk: SDKClient[anthropic.AsyncAnthropic], http_client: httpx2.AsyncClient) -> anthropic.AsyncAnthropic:
    import anthropic

    client = anthropic.AsyncAnthropic(
        api_key=sdk.api_key, base_url=sdk.base_url, http_client=http_client, max_retries=0
    )
    remember_urls(client)
    return client


def _anthropic_class() -> type[anthropic.AsyncAnthropic]:
    import anthropic

    return anthropic.AsyncAnthropic


def _bedrock_class() -> type[Any]:
    from anthropic.lib.bedrock import AsyncAnthropicBedrock

    return AsyncAnthropicBedrock


def _http_class() -> type[httpx2.AsyncClient]:
    import anthropic

    return anthropic.DefaultAsyncHttpxClient


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; pass `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; pass include_raw=True to the stream")
    import msgspec
    from anthropic.types import RawMessageStreamEvent

    return construct_event(RawMessageStreamEvent, msgspec.json.decode(chunk.raw))
