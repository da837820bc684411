"""Send a request to Bedrock's `ConverseStream`, signed by `botocore`, and decode the frames of its response."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Unpack, cast
from urllib.parse import quote

import msgspec

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError, ProviderError
from streamcore.net.clients import SDKClient
from streamcore.net.http_errors import TransportErrors, request_id, response_error
from streamcore.net.raw_response import read_response
from streamcore.net.well_formed import send_well_formed
from streamcore.provider import ProviderSettings, Vendor, check_settings
from streamcore.request import Request
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.event_stream import CONTENT_TYPE, EventStreamDecoder
from streamcore.wire.lenient import is_object, mapping, text
from streamcore_bedrock.access import BEARER, Account, forget_access, shared_access, signature
from streamcore_bedrock.request import SCHEMAS, converse_body
from streamcore_bedrock.wire import ConverseVocabulary, event_name

if TYPE_CHECKING:
    import httpx2

VENDOR = Vendor(
    name="bedrock",
    sdk="botocore",
    install='-e ".[bedrock]"',
    default_model="global.anthropic.claude-haiku-4-5-20251001-v1:0",
    needs_key=False,  # botocore finds credentials in many places; an API key of Bedrock is only one of them
    hosts=("amazonaws.com", "amazonaws.com.cn", "api.aws"),
    price_list_id="aws",
    telemetry_name="aws.bedrock",
    cache_apart=True,
)
_MODULES = ("botocore.session", "botocore.auth", "botocore.awsrequest")
_DEFAULT = 5.0  # seconds, of httpx2
_READ_SECONDS = 600.0
"""The read timeout if the caller's HTTP client has only httpx2's default; the vendors' SDKs have the same."""


class BedrockSettings(ProviderSettings, total=False):
    """The settings of the provider `bedrock`: those of every provider, and three of AWS."""

    region: str | None
    """The AWS region; defaults to `AWS_REGION`, then to what botocore reads: `AWS_DEFAULT_REGION`, the profile."""
    profile: str | None
    """The profile in AWS's configuration files; defaults to `AWS_PROFILE`."""
    session: Any
    """A session of botocore or boto3, whose credentials and region are used."""


class BedrockProvider:
    """Stream from every model of Bedrock as the provider `bedrock`; see `streamcore.get_provider` for its settings.

    Besides those of every provider it has `region`, `profile` and `session` (of botocore or boto3). `api_key` is an API
    key of Bedrock; without one, requests are signed with the credentials that botocore finds.

    Raises:
        ConfigError: `client` is given: botocore's clients are synchronous; give `session=`.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(self, **settings: Unpack[BedrockSettings]) -> None:
        check_settings(VENDOR.name, settings, "region", "profile", "session")
        if settings.get("client") is not None:
            raise ConfigError(
                "provider 'bedrock' takes no client=, since botocore's clients are synchronous; give session=, a "
                "session of botocore or boto3, and http_client= to send through"
            )
        common = {name: settings.get(name) for name in ProviderSettings.__optional_keys__}
        self._model = settings.get("model")
        self._region = settings.get("region")
        self._profile = settings.get("profile")
        self._session = settings.get("session")
        self._sdk = SDKClient["httpx2.AsyncClient"](
            VENDOR, cast("ProviderSettings", common), _build, http_class=_http_class, modules=_MODULES
        )
        self._used: tuple[str, ...] = ()
        """The credentials that signed the last request."""

    def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the answer; see `Provider.stream`."""
        model = self.model_for(request)
        body = converse_body(request, model, VENDOR, self._sdk.source())
        return read_response(partial(self._send, request, model, body), self.secrets)

    async def _send(
        self, request: Request, model: str, body: dict[str, Any]
    ) -> tuple[httpx2.Response, EventStreamDecoder]:
        """Return the response and its decoder."""
        await self._sdk.load()
        client = await self._sdk.get()
        send = partial(self._send_body, client, model)
        with TransportErrors(provider=self.name, model=model):
            response = await send_well_formed(lambda given: send(msgspec.json.encode(given)), body)
        if response.status_code >= 300:
            if response.status_code == 403:
                forget_access(self._account())
            raise await _refused(response, model)
        vocabulary = ConverseVocabulary(model=model, request_id=request_id(response), source=self._sdk.source())
        return response, EventStreamDecoder(vocabulary, include_raw=request.include_raw)

    async def _send_body(self, client: httpx2.AsyncClient, model: str, body: bytes) -> httpx2.Response:
        """Send a body, with the API key of Bedrock or with a signature."""
        key, account = self._key(), self._account()
        access = await shared_access(account)
        base_url = account.base_url
        endpoint = (await access.resolved()).endpoint if base_url is None or key is None else base_url
        url = f"{endpoint.rstrip('/')}/model/{quote(model, safe='')}/converse-stream"
        headers = {"content-type": "application/json", "accept": CONTENT_TYPE, **self._sdk.headers}
        request = client.build_request("POST", url, content=body, headers=headers, timeout=_timeout(client))
        if key is not None:
            request.headers["authorization"] = f"Bearer {key}"
        else:
            credentials = await access.credentials()
            parts = (credentials.access_key, credentials.secret_key, credentials.token)
            self._used = tuple(part for part in parts if part)
            request.headers.update(signature(str(request.url), body, await access.resolved(), credentials, headers))
        return await client.send(request, stream=True, follow_redirects=False)

    def _account(self) -> Account:
        signs = self._key() is None
        return Account(self._region, self._profile, self._sdk.find_base_url(), self._session, signs)

    def _key(self) -> str | None:
        return self._sdk.find_key() or os.environ.get(BEARER) or None

    def model_for(self, request: Request) -> str:
        """Return the model that answers a request."""
        return VENDOR.resolve_model(request, self._model)

    def takes_schema(self, schema: Mapping[str, Any]) -> bool:
        """True if the vendor enforces this schema; some of its models refuse any, and then get it in words."""
        return closed_schema(schema, SCHEMAS) is not None

    def secrets(self) -> list[str]:
        """Return what no error may show; see `Provider`."""
        names = (BEARER, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        found = (*self._used, *(os.environ.get(name) for name in names))
        return [*self._sdk.secrets(), *(secret for secret in found if secret)]

    async def warm_up(self) -> None:
        """Import botocore in a thread and find region and credentials; see `streamcore.warm_up`."""
        await self._sdk.warm_up()
        account = self._account()
        if account.signs:
            await (await shared_access(account)).credentials()

    async def aclose(self) -> None:
        """Do nothing: the end of the event loop or `aclose_providers()` closes the shared client."""


def _build(sdk: SDKClient[httpx2.AsyncClient], http_client: httpx2.AsyncClient) -> httpx2.AsyncClient:
    return http_client


def _http_class() -> type[httpx2.AsyncClient]:
    import httpx2

    return httpx2.AsyncClient


def _timeout(client: httpx2.AsyncClient) -> httpx2.Timeout:
    """Return the timeouts of the client; a caller's client that has only httpx2's default gets a longer one."""
    import httpx2

    default = client.timeout == httpx2.Timeout(_DEFAULT)
    return httpx2.Timeout(_READ_SECONDS, connect=_DEFAULT) if default else client.timeout


async def _refused(response: httpx2.Response, model: str) -> ProviderError:
    """Return the error in a response with a status of 300 or above; the name of the error is in a header."""
    from streamcore.net.error_body import with_short_body

    response = await with_short_body(response)
    content = response.content.decode("utf-8", "replace")
    try:
        body: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError):
        body = content
    kind = response.headers.get("x-amzn-errortype", "").partition(":")[0]
    if is_object(body):
        message = text(body.get("message")) or text(body.get("Message"))
        named = {"type": kind} if kind else {}
        body = {**body, **({"message": message} if message else {}), **named}
    return response_error(response, body, provider=VENDOR.name, model=model)


def typed(chunk: Chunk) -> dict[str, Any]:
    """Return the event of a chunk that has `raw`, in the form in which botocore gives it: its name and its fields.

    Several chunks may come from one event.

    Raises:
        ValueError: the chunk has no `raw`; pass `include_raw=True`.
    """
    if chunk.raw is None:
        raise ValueError("this chunk has no raw event; pass include_raw=True to the stream")
    fields = {key: value for key, value in mapping(msgspec.json.decode(chunk.raw)).items() if key != "p"}
    return {event_name(chunk.raw, chunk.event or ""): fields}
