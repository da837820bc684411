"""Send a request through the `mistralai` SDK and decode the bytes of its raw streaming response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import msgspec

from streamcore.chunk import Chunk
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, ProviderError
from streamcore.net.clients import SDKClient
from streamcore.net.http_errors import TransportErrors, request_id, response_error
from streamcore.net.raw_response import read_response
from streamcore.net.well_formed import send_well_formed
from streamcore.provider import ProviderSettings, Vendor
from streamcore.request import Request
from streamcore.wire.chat import ChatVocabulary
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.decoder import StreamDecoder
from streamcore_mistral.http import UnusedSyncClient, open_stream
from streamcore_mistral.request import WIRE, chat_body

if TYPE_CHECKING:
    import httpx2
    from mistralai.client import Mistral

VENDOR = Vendor(
    name="mistral",
    sdk="mistralai.client",
    install='-e ".[mistral]"',
    default_model="mistral-small-latest",
    hosts=("mistral.ai",),
    telemetry_name="mistral_ai",
)


class MistralProvider:
    """Stream from Mistral's chat API as the provider `mistral`; see `streamcore.get_provider` for its settings.

    Runs on asyncio only: the SDK runs its hooks with `asyncio.to_thread`.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name
    wire: ClassVar[str] = WIRE
    """The wire of the requests, whose further parameters `Request.extra` takes."""

    def __init__(self, **settings: Unpack[ProviderSettings]) -> None:
        self._model = settings.get("model")
        self._sdk = SDKClient["Mistral"](
            VENDOR, settings, _build, http_class=_http_class, modules=["mistralai.client.chat"]
        )

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        _require_asyncio()
        model = self.model_for(request)
        body = chat_body(request, model, VENDOR, self._sdk.source())
        return read_response(partial(self._send, request, model, body), self._sdk.secrets)

    async def _send(self, request: Request, model: str, body: dict[str, Any]) -> tuple[httpx2.Response, StreamDecoder]:
        """Return the SDK's raw response and its decoder."""
        if not self._sdk.given and self._sdk.find_key() is None and VENDOR.from_environment("SA_TOKEN_PATH") is None:
            raise VENDOR.missing_key()
        await self._sdk.load()
        client = await self._sdk.get()
        with TransportErrors(provider=self.name, model=model):
            headers = self._sdk.headers
            response = await send_well_formed(
                lambda given: open_stream(client, msgspec.json.encode(given), headers),
                {**body, "stream": True, **request.extra},
            )
            if response.status_code >= 300:
                raise await _refused(response, model)
        vocabulary = ChatVocabulary(WIRE, request_id=request_id(response), source=self._sdk.source())
        return response, StreamDecoder(vocabulary, include_raw=request.include_raw)

    def model_for(self, request: Request) -> str:
        """Return the model that answers a request."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor enforces this schema."""
        return closed_schema(schema) is not None

    def secrets(self) -> list[str]:
        """Return what no error may show; see `Provider`."""
        return self._sdk.secrets()

    async def warm_up(self) -> None:
        """Import the SDK in a thread and build the client; see `streamcore.warm_up`."""
        await self._sdk.warm_up()

    async def aclose(self) -> None:
        """Do nothing: the end of the event loop or `aclose_providers()` closes the shared client."""


def _build(sdk: SDKClient[Mistral], http_client: httpx2.AsyncClient) -> Mistral:
    from mistralai.client import Mistral

    return Mistral(
        api_key=sdk.api_key, server_url=sdk.find_base_url(), client=UnusedSyncClient(), async_client=http_client
    )


def _http_class() -> type[httpx2.AsyncClient]:
    import httpx2

    return httpx2.AsyncClient


def _require_asyncio() -> None:
    if running_on_trio():
        raise ConfigError(
            "provider 'mistral' needs asyncio: its SDK calls asyncio.to_thread. "
            "Under trio, use another provider, or send to Mistral as provider 'openai' with base_url="
        )


async def _refused(response: httpx2.Response, model: str) -> ProviderError:
    """Return the error in a response with a status of 300 or above, and close the response."""
    from streamcore.net.error_body import with_short_body

    response = await with_short_body(response)
    text = response.content.decode("utf-8", "replace")
    try:
        body: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        body = text
    return response_error(response, body, provider=VENDOR.name, model=model)


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; pass `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; pass include_raw=True to the stream")
    from mistralai.client.models import CompletionChunk

    return CompletionChunk.model_validate_json(chunk.raw)
