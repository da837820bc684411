"""Send a request through the `mistralai` SDK and decode the bytes of its raw streaming response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from streamcore.chunk import Chunk
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, ProviderError
from streamcore.net.clients import Resolved, chosen_transport, environment, new_http_client
from streamcore.net.http_errors import TransportErrors, request_id, response_error
from streamcore.net.raw_response import read_response
from streamcore.provider import Vendor
from streamcore.request import Request
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.decoder import StreamDecoder
from streamcore_mistral.http import UnusedSyncClient, open_stream
from streamcore_mistral.request import WIRE, chat_body

if TYPE_CHECKING:
    import httpx2
    from mistralai.client import Mistral

VENDOR = Vendor(name="mistral", sdk="mistralai.client", install="mistralai", default_model="mistral-small-latest")


class MistralProvider:
    """The provider `mistral`; see `streamcore.get_provider` for its settings.

    Runs on asyncio only: the SDK hands its hooks to `asyncio.to_thread`.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(
        self,
        *,
        model: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        http_client: httpx2.AsyncClient | None = None,
        client: Mistral | None = None,
        headers: Mapping[str, str] | None = None,
        transport: str | None = None,
    ) -> None:
        VENDOR.require_sdk()
        self._transport = chosen_transport(transport, http_client or client)
        self._model = model
        self._api_key = api_key
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._given = client
        self._client: Mistral | None = client
        self._resolved = Resolved["Mistral"]()
        if client is None and http_client is not None:
            self._client = self._build(http_client)

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        _require_asyncio()
        model = self.model_for(request)
        return read_response(partial(self._send, request, model, chat_body(request, model, VENDOR)))

    async def _send(self, request: Request, model: str, body: dict[str, Any]) -> tuple[httpx2.Response, StreamDecoder]:
        """Return the SDK's raw response, and what decodes it."""
        key = self._api_key or VENDOR.from_environment("API_KEY")
        if key is None and self._given is None and VENDOR.from_environment("SA_TOKEN_PATH") is None:
            raise VENDOR.missing_key()
        client = self._client or await self._shared()
        with TransportErrors(provider=self.name, model=model):
            written = msgspec.json.encode({**body, "stream": True, **request.extra})
            response = await open_stream(client, written, self._headers)
            if response.status_code >= 400:
                raise await _refused(response, model)
        vocabulary = ChatVocabulary(WIRE, request_id=request_id(response))
        return response, StreamDecoder(vocabulary, include_raw=request.include_raw)

    def model_for(self, request: Request) -> str:
        """Return the model that a request goes to."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor holds answers to this schema."""
        return closed_schema(schema) is not None

    async def aclose(self) -> None:
        """Do nothing: clients are shared, and closed by the loop's end or by `aclose_providers()`."""

    def _build(self, http_client: httpx2.AsyncClient) -> Mistral:
        from mistralai.client import Mistral

        return Mistral(
            api_key=self._api_key,
            server_url=self._base_url or VENDOR.from_environment("BASE_URL"),
            client=UnusedSyncClient(),
            async_client=http_client,
        )

    async def _shared(self) -> Mistral:
        import httpx2

        def make() -> tuple[Mistral, Callable[[], Awaitable[object]]]:
            http = new_http_client(self._transport, httpx2.AsyncClient)  # the SDK's own allows 100 connections
            return self._build(http), http.aclose

        return await self._resolved.client(VENDOR.seen(), self._key, make)

    def _key(self) -> tuple[Hashable, ...]:
        return self.name, self._transport, self._api_key, self._base_url, environment("MISTRAL_")


def _require_asyncio() -> None:
    if running_on_trio():
        raise ConfigError(
            "provider 'mistral' needs asyncio: its SDK calls asyncio.to_thread. "
            "Under trio use another provider, or reach Mistral as provider 'openai' with base_url="
        )


async def _refused(response: httpx2.Response, model: str) -> ProviderError:
    """Return the error that an answer with status 400 or above holds, and close it."""
    try:
        text = (await response.aread()).decode("utf-8", "replace")
    finally:
        await response.aclose()
    try:
        body: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError):
        body = text
    return response_error(response, body, provider=VENDOR.name, model=model)


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; ask for it with `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; ask for it with include_raw=True")
    from mistralai.client.models import CompletionChunk

    return CompletionChunk.model_validate_json(chunk.raw)
