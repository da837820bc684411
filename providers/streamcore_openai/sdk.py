"""Share the `openai` SDK between both OpenAI APIs and the gateways: its client, its errors, its raw response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError
from streamcore.net.clients import SDKClient
from streamcore.net.http_errors import SDKErrors, request_id
from streamcore.net.raw_response import read_response
from streamcore.net.well_formed import send_well_formed
from streamcore.provider import ProviderSettings, Vendor
from streamcore.wire.decoder import StreamDecoder, Vocabulary
from streamcore_openai.sdk_private import adopted, construct_event, http_client_of, remember_urls, remove_custom_headers

if TYPE_CHECKING:
    import httpx2
    import openai

PLACEHOLDER_KEY = "none"
"""The key for servers that need none: the SDK requires one."""


class Connection:
    """Send requests of one vendor or gateway through `AsyncOpenAI` and stream their raw responses."""

    def __init__(
        self,
        vendor: Vendor,
        settings: ProviderSettings,
        *,
        modules: Sequence[str],
        gateway: bool = False,
        key_header: str | None = None,
    ) -> None:
        """Take the vendor, its settings, and the modules that the SDK imports with the first request."""
        self._vendor = vendor
        self._key_header = key_header
        self._sdk = SDKClient["openai.AsyncOpenAI"](
            vendor,
            settings,
            _build_for_gateway if gateway else _build,
            http_class=_http_class,
            adopt=adopted,
            http_of=http_client_of,
            modules=modules,
        )
        self.secrets, self.warm_up = self._sdk.secrets, self._sdk.warm_up

    @property
    def source(self) -> str:
        """The name of the server that answers, as `Opaque.source` has it."""
        return self._sdk.source()

    def stream(
        self,
        create: Callable[[openai.AsyncOpenAI], Callable[..., Any]],
        vocabulary: Callable[[str | None], Vocabulary],
        body: dict[str, Any],
        extra: Mapping[str, Any],
        include_raw: bool,
    ) -> AsyncGenerator[list[Chunk]]:
        """Send `body` and yield the chunks of the response.

        Args:
            create: returns the method of a client that sends the request.
            vocabulary: makes the decoder's vocabulary, given the id of the request.
            body: the arguments of that method.
            extra: additional keys for the JSON body.
            include_raw: give every chunk its event's JSON.
        """

        async def send() -> tuple[httpx2.Response, StreamDecoder]:
            await self._sdk.load()
            response = await self.send(create, _unchecked(body, extra))
            return response, StreamDecoder(vocabulary(request_id(response)), include_raw=include_raw)

        return read_response(send, self._sdk.secrets)

    async def send(
        self, create: Callable[[openai.AsyncOpenAI], Callable[..., Any]], arguments: dict[str, Any]
    ) -> httpx2.Response:
        """Send a request with one of the SDK's methods and return the response, which the caller reads and closes."""
        await self._sdk.load()
        import openai

        name, model = self._vendor.name, arguments["model"]
        with SDKErrors(openai.APIStatusError, openai.APIConnectionError, provider=name, model=model):
            client = await self._sdk.get()
            method, headers = create(client), self._headers(client)
            # The SDK's context is not left: that would close the response.
            sent = await send_well_formed(lambda given: method(**given, extra_headers=headers).__aenter__(), arguments)
            response: httpx2.Response = sent.http_response
        return response

    def _headers(self, client: openai.AsyncOpenAI) -> Mapping[str, Any]:
        """Return the additional headers; the key is moved to the server's own header for it."""
        if self._key_header is None or self._sdk.given:
            return self._sdk.headers
        import openai

        return {"Authorization": openai.Omit(), self._key_header: client.api_key, **self._sdk.headers}


def _unchecked(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method with all but the model in `extra_body`, which goes into the JSON as it is.

    The SDK looks at each message and part of its other arguments, to rename keys that `chat_body` has right: that takes
    a third of the time of the call.
    """
    import openai

    given = {key: value for key, value in body.items() if key not in _NAMED}
    required = {"messages": openai.omit} if "messages" in body else {}
    more = {**given, **body.get("extra_body", {}), **extra}
    return {**required, "model": body["model"], "stream": True, "extra_body": more}


_NAMED = frozenset({"model", "extra_body"})


def _http_class() -> type[httpx2.AsyncClient]:
    import openai

    return openai.DefaultAsyncHttpxClient


def _build(sdk: SDKClient[openai.AsyncOpenAI], http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """Return a client for OpenAI's own API, which reads `OPENAI_*`."""
    import openai

    try:
        client = openai.AsyncOpenAI(api_key=sdk.api_key, base_url=sdk.base_url, http_client=http_client, max_retries=0)
    except openai.OpenAIError as error:
        raise sdk.vendor.missing_key() from error
    remember_urls(client)
    return client


def _build_for_gateway(sdk: SDKClient[openai.AsyncOpenAI], http_client: httpx2.AsyncClient) -> openai.AsyncOpenAI:
    """Return a client for another server, which receives nothing that the SDK reads from `OPENAI_*`."""
    import openai

    key = sdk.find_key()
    if key is None and sdk.vendor.needs_key:
        raise sdk.vendor.missing_key()
    base_url = sdk.find_base_url()
    if base_url is None:  # the SDK would send the key to OpenAI
        raise ConfigError(
            f"provider {sdk.vendor.name!r} has no base URL; set {sdk.vendor.variable('BASE_URL')} or give base_url= "
            f"to get_provider({sdk.vendor.name!r}, ...)"
        )
    client = openai.AsyncOpenAI(
        api_key=key or PLACEHOLDER_KEY, base_url=base_url, http_client=http_client, max_retries=0
    )
    _remove_environment(client)
    remember_urls(client)
    return client


def _remove_environment(client: openai.AsyncOpenAI) -> None:
    """Remove the organization, project, keys and headers that the SDK read from `OPENAI_*`."""
    client.organization = None
    client.project = None
    client.admin_api_key = None
    client.webhook_secret = None
    remove_custom_headers(client)


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own event object for a chunk that has `raw`; several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; pass `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; pass include_raw=True to the stream")
    import msgspec
    from openai.types.chat import ChatCompletionChunk
    from openai.types.responses import ResponseStreamEvent

    value = msgspec.json.decode(chunk.raw)
    kind: Any = ResponseStreamEvent if "type" in value and "choices" not in value else ChatCompletionChunk
    return construct_event(kind, value)
