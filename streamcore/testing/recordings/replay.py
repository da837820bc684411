"""Play recordings instead of the network: an httpx2 transport, and the provider `replay` on top of it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
import httpx2

from streamcore.chunk import Chunk
from streamcore.errors import ConfigError
from streamcore.provider import Provider, Vendor, get_provider
from streamcore.request import Request
from streamcore.testing.recordings.exchange import Exchange, Pace, is_object
from streamcore.testing.recordings.matching import Player, UnrecordedRequest
from streamcore.testing.recordings.playing import play
from streamcore.testing.recordings.recording import Recording

VENDOR = Vendor(
    name="replay",
    sdk=None,
    install=None,
    default_model="as recorded",
    needs_key=False,
    environment="streamcore-replay",
)
VARIABLE = "STREAMCORE_REPLAY"
"""The environment variable with the path of the recording that `provider: replay` plays."""

_ENDPOINTS = {"anthropic": "/v1/messages", "mistral": "/v1/chat/completions", "openai-responses": "/responses"}
_NAMING_MODELS = re.compile(r"/v1[^/]*/(?:.*/)?models/([^/:]+):streamGenerateContent$|/model/([^/]+)/converse-stream$")
"""The endpoints whose URLs name the model: Google's and Bedrock's."""
PLACEHOLDER_KEY = "replayed-no-key"
"""What an SDK is given that insists on a key."""


class ReplayTransport(httpx2.AsyncBaseTransport):
    """Answer every request from a recording, as `AsyncClient(transport=ReplayTransport(recording))`.

    Args:
        recording: what to answer; `streamcore.testing.recordings.matching` defines what matches.
        pace: when each read comes: at once (0), as recorded, or so many a second.

    A request that is not recorded raises `UnrecordedRequest`. A recorded break raises `httpx2.ReadError`.
    """

    def __init__(self, recording: Recording, pace: Pace = 0) -> None:
        self._player = Player(recording.at_pace(pace).exchanges)

    @property
    def unplayed(self) -> tuple[Exchange, ...]:
        """The exchanges that nothing has asked for yet."""
        return self._player.unplayed

    @property
    def unrecorded(self) -> list[UnrecordedRequest]:
        """The errors of the requests that are not recorded."""
        return self._player.unrecorded

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        exchange = self._player.find(request.method, str(request.url), await request.aread())
        await anyio.lowlevel.checkpoint()
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in exchange.headers]
        return httpx2.Response(exchange.status, headers=headers, stream=_Body(exchange))


class _Body(httpx2.AsyncByteStream):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in play(self._exchange):
            yield data


class ReplayProvider:
    """The provider `replay`: a recording, through the real SDK of the provider that it was recorded from.

    Args:
        path: the recording's file; without it, the variable `STREAMCORE_REPLAY` names it.
        recording: the recording itself, instead of a file.
        pace: when each read comes: at once (0), `recorded`, or so many a second.
        model: what to ask for if a request names no model; by default what was recorded.
        speaks: the provider whose SDK is used, where the recording does not name it.
    """

    vendor: ClassVar[Vendor] = VENDOR
    name = VENDOR.name

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        recording: Recording | None = None,
        pace: Pace = 0,
        model: str | None = None,
        speaks: str | None = None,
    ) -> None:
        self._path = path
        self._recording = recording
        self._pace: Pace = pace
        self._model = model
        self._speaks = speaks
        self._transport: ReplayTransport | None = None

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        """Stream the recorded answer; see `Provider.stream`.

        Raises:
            ConfigError: there is no recording, it cannot be read, or it does not contain this request.
        """
        recording = self._loaded()
        if self._transport is None:
            self._transport = ReplayTransport(recording, self._pace)
        async with (
            httpx2.AsyncClient(transport=self._transport, trust_env=False) as http,
            aclosing(self._provider(recording, http).stream(request)) as chunks,
        ):
            async for read in chunks:
                yield read

    def model_for(self, request: Request) -> str | None:
        """Return the model that a request goes to."""
        return request.model or self._model or _recorded_model(self._loaded())

    def _loaded(self) -> Recording:
        if self._recording is None:
            path = self._path or os.environ.get(VARIABLE)
            if not path:
                raise ConfigError(
                    f"provider 'replay' has no recording; give path= to get_provider('replay', ...) or set {VARIABLE}"
                )
            self._recording = Recording.load(path)
        return self._recording

    def _provider(self, recording: Recording, http: httpx2.AsyncClient) -> Provider:
        speaks = self._speaks or recording.provider
        return get_provider(
            speaks,
            model=self._model or _recorded_model(recording),
            api_key=PLACEHOLDER_KEY,
            base_url=_base_url(recording, speaks),
            http_client=http,
        )

    async def aclose(self) -> None:
        """Do nothing: every stream closes its own client."""


def _recorded_model(recording: Recording) -> str | None:
    for exchange in recording.exchanges:
        body = exchange.request.body
        if is_object(body) and body.get("model") is not None:
            return str(body["model"])
        found = _NAMING_MODELS.search(urlsplit(exchange.request.url).path)
        if found:
            return unquote(found[1] or found[2])
    return None


def _base_url(recording: Recording, provider: str) -> str | None:
    """Return the base URL with which a provider asks the first recorded address, None if it is not one of its own."""
    if not recording.exchanges:
        return None
    url = urlsplit(recording.exchanges[0].request.url)
    path = url.path.removesuffix(_ENDPOINTS.get(provider, "/chat/completions"))
    return url._replace(path=_NAMING_MODELS.sub("", path), query="", fragment="").geturl()
