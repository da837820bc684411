"""Send a request through the `google-genai` SDK and decode the bytes of its raw streaming response."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import msgspec

from streamcore.chunk import Chunk
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import AuthenticationError, ConfigError, ConnectionFailed, ProviderError
from streamcore.net.clients import SDKClient
from streamcore.net.http_errors import TransportErrors, request_id, response_error
from streamcore.net.raw_response import read_response
from streamcore.net.small_answer import read_count
from streamcore.net.well_formed import send_well_formed
from streamcore.provider import ProviderSettings, Vendor
from streamcore.request import Request
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.decoder import StreamDecoder
from streamcore_google.errors import refined
from streamcore_google.request import SCHEMAS, generate_body
from streamcore_google.sdk_private import (
    adopted,
    construct_response,
    http_client_of,
    is_vertex,
    open_stream,
    uses_credentials,
)
from streamcore_google.wire import GeminiDecoder, GeminiVocabulary

if TYPE_CHECKING:
    import httpx2
    from google.auth.credentials import Credentials
    from google.genai.client import AsyncClient

VENDOR = Vendor(
    name="google",
    sdk="google.genai",
    package="google-genai",
    install='-e ".[google]"',
    default_model="gemini-3.5-flash-lite",
    hosts=("googleapis.com",),  # signatures are valid on both platforms
    more_keys=("GEMINI_API_KEY",),
    substitute="gemini",
    telemetry_name="gcp.gen_ai",  # of either platform
)
_VERTEX_VARIABLES = ("GENAI_USE_ENTERPRISE", "GENAI_USE_VERTEXAI", "CLOUD_PROJECT", "CLOUD_LOCATION")
_COUNTED = frozenset({"contents", "systemInstruction", "tools", "generationConfig"})
"""What Vertex AI's endpoint that counts accepts of the keys of a request."""


class GoogleProvider:
    """Stream from Gemini models as the provider `google`; see `streamcore.get_provider` for the common settings.

    Args:
        vertexai: True sends to Vertex AI, False to the Gemini API; None leaves it to `GOOGLE_GENAI_USE_VERTEXAI`.
        project: the Google Cloud project, for Vertex AI; defaults to `GOOGLE_CLOUD_PROJECT`.
        location: the region of Vertex AI, such as `europe-west4`; defaults to `GOOGLE_CLOUD_LOCATION`, then `global`.
        credentials: credentials of `google-auth` for Vertex AI; None: the environment's own.
        settings: the settings of every provider. `client` is a `google.genai.Client`, or its `aio`.

    Vertex AI without an API key runs on asyncio only: the SDK reads credentials with `asyncio.to_thread`.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(
        self,
        *,
        vertexai: bool | None = None,
        project: str | None = None,
        location: str | None = None,
        credentials: Credentials | None = None,
        **settings: Unpack[ProviderSettings],
    ) -> None:
        self._model = settings.get("model")
        settings["client"] = given = _async_client(settings.get("client"))
        build = _Build(vertexai, project, location, credentials)
        self._uses_vertex = build.uses_vertex if given is None else partial(is_vertex, given)
        self._sdk = SDKClient["AsyncClient"](
            VENDOR,
            settings,
            build,
            http_class=_http_class,
            adopt=adopted,
            http_of=http_client_of,
            variables=_VERTEX_VARIABLES,
        )

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        model = self.model_for(request)
        vertex, source = self._uses_vertex(), self._sdk.source()
        path = f"{_model_path(model, vertex)}:streamGenerateContent?alt=sse"
        body = generate_body(request, model, VENDOR, source, vertex=vertex)
        return read_response(partial(self._send, request, model, path, body), self._sdk.secrets)

    async def _send(
        self, request: Request, model: str, path: str, body: dict[str, Any]
    ) -> tuple[httpx2.Response, StreamDecoder]:
        """Return the SDK's raw response and its decoder."""
        response = await self._request(model, path, body)
        vocabulary = GeminiVocabulary(request_id=request_id(response), source=self._sdk.source())
        return response, GeminiDecoder(vocabulary, include_raw=request.include_raw)

    async def _request(self, model: str, path: str, body: dict[str, Any]) -> httpx2.Response:
        """Send a request and return its response of status 200, which the caller reads and closes."""
        await self._sdk.load()
        client = await self._sdk.get()
        if running_on_trio() and uses_credentials(client):
            raise ConfigError(
                "provider 'google' needs asyncio for Vertex AI, where the SDK reads credentials with "
                "asyncio.to_thread. Under trio, give an API key"
            )
        with _GoogleErrors(provider=self.name, model=model):
            headers = self._sdk.headers
            response = await send_well_formed(
                lambda given: open_stream(client, path, msgspec.json.encode(given), headers), body
            )
            if response.status_code != 200:
                raise await _refused(response, model)
        return response

    async def count_tokens(self, request: Request) -> int:
        """Return how many tokens the prompt has; see `streamcore.count_tokens`."""
        model = self.model_for(request)
        vertex = self._uses_vertex()
        path = _model_path(model, vertex)
        body = generate_body(request, model, VENDOR, self._sdk.source(), vertex=vertex)
        if vertex:
            body = {key: value for key, value in body.items() if key in _COUNTED}
        else:  # else the instructions and the tools would be refused
            body = {"generateContentRequest": {"model": path, **body}}

        async def send() -> httpx2.Response:
            return await self._request(model, f"{path}:countTokens", body)

        return await read_count(send, "totalTokens", self._sdk.secrets, provider=self.name, model=model)

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


@dataclass(frozen=True)
class _Build:
    """Build a client of the SDK; equal ones share it."""

    vertexai: bool | None
    project: str | None
    location: str | None
    credentials: Credentials | None

    def __call__(self, sdk: SDKClient[AsyncClient], http_client: httpx2.AsyncClient) -> AsyncClient:
        from google import genai
        from google.genai.types import HttpOptions

        vertex = self.uses_vertex()
        key = sdk.api_key if vertex else sdk.find_key()
        if not vertex and key is None:
            raise VENDOR.missing_key()
        if vertex and key is None and VENDOR.find_key() is None and not self._project():
            raise ConfigError(
                "provider 'google' needs a project or an API key for Vertex AI; give project= to "
                "get_provider('google', ...), or set GOOGLE_CLOUD_PROJECT or GOOGLE_API_KEY"
            )
        options = HttpOptions(
            base_url=sdk.find_base_url(),
            httpx_async_client=http_client,
            # For the SDK's synchronous and live clients, which nothing uses: a certificate store takes 20 ms to load.
            client_args={"verify": _unused_tls()},
            async_client_args={"ssl": _unused_tls()},
        )
        try:
            client = genai.Client(
                vertexai=vertex,
                api_key=key,
                project=self.project,
                location=self.location,
                credentials=self.credentials,
                http_options=options,
            )
        except ValueError as error:
            raise ConfigError(f"provider 'google' cannot be set up: {error}") from error
        return client.aio

    def uses_vertex(self) -> bool:
        """Return whether the settings and the environment choose Vertex AI."""
        if self.vertexai is not None:
            return self.vertexai
        flags = (VENDOR.from_environment(name) for name in _VERTEX_VARIABLES[:2])
        return next((flag.lower() in ("true", "1") for flag in flags if flag is not None), False)

    def _project(self) -> str | None:
        return self.project or os.environ.get("GOOGLE_CLOUD_PROJECT")


@cache
def _unused_tls() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _http_class() -> type[httpx2.AsyncClient]:
    import httpx2

    return httpx2.AsyncClient


def _async_client(given: Any) -> Any:
    """Return the asynchronous part of a caller's `google.genai.Client`."""
    return getattr(given, "aio", given)


def _model_path(model: str, vertex: bool) -> str:
    """Return the path of a model: a name alone is one of Google's own models.

    Raises:
        ConfigError: a URL cannot contain the name.
    """
    if ".." in model or any(sign in model for sign in "?&#:") or not model.isprintable():
        raise ConfigError(f"{model!r} is not a model's name for provider 'google', as in 'gemini-3.5-flash'")
    if not vertex:
        return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"
    if model.startswith(("projects/", "publishers/", "models/")):
        return model
    publisher, slash, name = model.partition("/")
    return f"publishers/{publisher}/models/{name}" if slash else f"publishers/google/models/{model}"


class _GoogleErrors(TransportErrors):
    """Map the errors of the SDK, of `google-auth` and of httpx2 to streamcore's."""

    __slots__ = ()

    def __init__(self, *, provider: str, model: str) -> None:
        super().__init__(provider=provider, model=model)
        self._provider, self._model = provider, model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        from google.auth.exceptions import GoogleAuthError, TransportError

        provider, model = self._provider, self._model
        if isinstance(error, TransportError):
            raise ConnectionFailed(
                f"could not get credentials for Vertex AI ({type(error).__name__})", provider=provider, model=model
            ) from error
        if isinstance(error, GoogleAuthError):
            raise AuthenticationError(
                f"there are no valid credentials for Vertex AI ({type(error).__name__}: {error}); run 'gcloud auth "
                "application-default login', or give credentials= or an API key",
                provider=provider,
                model=model,
            ) from error
        super().__exit__(kind, error, traceback)


async def _refused(response: httpx2.Response, model: str) -> ProviderError:
    """Return the error in a response with another status than 200, and close the response."""
    from streamcore.net.error_body import with_short_body

    response = await with_short_body(response)
    text = response.content.decode("utf-8", "replace")
    try:
        body: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        body = text
    return refined(response_error(response, body, provider=VENDOR.name, model=model), body)


def typed(chunk: Chunk) -> Any:
    """Return the SDK's own `GenerateContentResponse` for a chunk that has `raw`; several may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; pass `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; pass include_raw=True to the stream")
    return construct_response(msgspec.json.decode(chunk.raw))
