"""Test `SDKClient` with the SDK of a third party, and the choice of a transport."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar, Unpack

import anyio
import httpx2
import pytest

from streamcore import (
    Chunk,
    ConfigError,
    MissingAPIKey,
    ProviderNotInstalled,
    Request,
    aclose_providers,
    get_provider,
    stream_request,
)
from streamcore.net.clients import SDKClient
from streamcore.net.limited_client import LimitedClient
from streamcore.provider import ProviderSettings, Vendor
from streamcore.testing import Simulator
from tests.snippets import blocks
from tests.support import ask

PAGE = Path(__file__).resolve().parents[2] / "docs" / "providers.md"
VENDOR = Vendor(name="acme-ai", sdk="httpx2", install="httpx2", base_url="http://acme.test", default_model="a1")


class AcmeSDK:
    """The client of a vendor's SDK: a key, an address, and the HTTP client that it sends through."""

    def __init__(self, key: str, url: str | None, http: httpx2.AsyncClient, *, retries: int) -> None:
        self.key, self.url, self.http, self.retries = key, url, http, retries


def build(sdk: SDKClient[AcmeSDK], http_client: httpx2.AsyncClient) -> AcmeSDK:
    key = sdk.find_key()
    if key is None:
        raise sdk.vendor.missing_key()
    return AcmeSDK(key, sdk.find_base_url(), http_client, retries=0)


def adopt(client: AcmeSDK) -> AcmeSDK:
    return AcmeSDK(client.key, client.url, client.http, retries=0)


class AcmeProvider:
    """A provider as a third party writes it."""

    name = VENDOR.name

    def __init__(self, **settings: Unpack[ProviderSettings]) -> None:
        self.sdk = SDKClient(
            VENDOR, settings, build, http_class=lambda: httpx2.AsyncClient, adopt=adopt, variables=("REGION",)
        )

    async def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
        yield []

    async def aclose(self) -> None: ...


async def client_of(**settings: Any) -> AcmeSDK:
    return await AcmeProvider(**settings).sdk.get()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_AI_API_KEY", "from-the-environment")


@pytest.mark.anyio
async def test_providers_with_the_same_settings_share_a_client() -> None:
    first, second = AcmeProvider(), AcmeProvider()
    client = await first.sdk.get()
    assert await second.sdk.get() is client
    assert await first.sdk.get() is client
    assert await client_of(api_key="another") is not client
    assert await client_of(base_url="http://elsewhere.test") is not client
    await aclose_providers()
    assert client.http.is_closed
    again = await first.sdk.get()
    assert again is not client
    assert not again.http.is_closed
    await aclose_providers()


@pytest.mark.anyio
async def test_a_request_waits_for_an_import_that_another_one_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    name = f"slow_sdk_{anyio_backend_name}"
    (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(0.2)\nWHOLE = True\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    whole: list[bool] = []

    async def load() -> None:
        sdk = SDKClient(VENDOR, {}, build, http_class=lambda: httpx2.AsyncClient, modules=[name])
        await sdk.load()
        whole.append(sys.modules[name].WHOLE)

    async with anyio.create_task_group() as group:
        group.start_soon(load)
        while name not in sys.modules:  # noqa: ASYNC110  nothing reports it
            await anyio.sleep(0.001)
        group.start_soon(load)
    assert whole == [True, True]


class SlowClient(httpx2.AsyncClient):
    """A client that is slow to build, as one is that reads certificates."""

    threads: ClassVar[list[threading.Thread]] = []

    def __init__(self, **settings: Any) -> None:
        self.threads.append(threading.current_thread())
        time.sleep(0.05)
        super().__init__(**settings)


@pytest.mark.anyio
async def test_an_http_client_is_built_once_and_does_not_hold_the_event_loop() -> None:
    SlowClient.threads.clear()
    clients: set[httpx2.AsyncClient] = set()

    async def get(key: str) -> None:
        sdk = SDKClient(VENDOR, {"api_key": key, "transport": "httpx2"}, build, http_class=lambda: SlowClient)
        http = (await sdk.get()).http
        assert isinstance(http, LimitedClient)
        clients.add(http.inner)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(get, f"key {number}")
    assert len(clients) == len(SlowClient.threads) == 1
    assert SlowClient.threads[0] is not threading.main_thread()
    await aclose_providers()


@pytest.mark.anyio
@pytest.mark.parametrize("variable", ["API_KEY", "BASE_URL", "REGION"])
async def test_a_changed_variable_needs_another_client(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = AcmeProvider()
    client = await provider.sdk.get()
    monkeypatch.setenv(f"ACME_AI_{variable}", "changed")
    assert await provider.sdk.get() is not client
    await aclose_providers()


@pytest.mark.anyio
async def test_key_and_base_url_come_from_the_caller_the_environment_or_the_vendor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = await client_of()
    assert (client.key, client.url, client.retries) == ("from-the-environment", "http://acme.test", 0)
    monkeypatch.setenv("ACME_AI_BASE_URL", "http://environment.test")
    assert (await client_of()).url == "http://environment.test"
    client = await client_of(api_key="given", base_url="http://given.test")
    assert (client.key, client.url) == ("given", "http://given.test")
    monkeypatch.delenv("ACME_AI_API_KEY")
    with pytest.raises(MissingAPIKey, match="ACME_AI_API_KEY"):
        await client_of()
    await aclose_providers()


@pytest.mark.anyio
async def test_a_callers_clients_are_neither_shared_nor_closed() -> None:
    async with httpx2.AsyncClient() as http:
        client = await client_of(http_client=http)
        assert isinstance(client.http, LimitedClient)
        assert client.http.inner is http
        assert await client_of(http_client=http) is not client
        own = AcmeSDK("own", None, http, retries=5)
        adopted = await client_of(client=own)
        assert (adopted.key, adopted.retries) == ("own", 0)
        await aclose_providers()
        assert not http.is_closed


@pytest.mark.anyio
async def test_a_client_can_be_closed_by_the_sdk() -> None:
    closed: list[str] = []

    async def close(client: AcmeSDK) -> None:
        closed.append(client.key)
        await client.http.aclose()

    sdk = SDKClient(VENDOR, {}, build, http_class=lambda: httpx2.AsyncClient, close=close)
    await sdk.get()
    await aclose_providers()
    assert closed == ["from-the-environment"]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="'acme-ai' has no setting 'modle'; did you mean 'model'"):
        AcmeProvider(modle="m")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="must be one of 'auto', 'httpx2', 'aiohttp', not 'carrier pigeon'"):
        AcmeProvider(transport="carrier pigeon")
    with pytest.raises(ConfigError, match="cannot be combined with your own client"):
        AcmeProvider(transport="httpx2", http_client=httpx2.AsyncClient())
    missing = Vendor(name="none", sdk="no_such_module_anywhere", install="none-sdk")
    with pytest.raises(ProviderNotInstalled, match="pip install none-sdk"):
        SDKClient(missing, {}, build, http_class=lambda: httpx2.AsyncClient)


@pytest.mark.anyio
async def test_the_provider_of_the_documentation_works(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = next(code for code in blocks(PAGE, "python") if "class AcmeProvider" in code)
    module = f"acme_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    monkeypatch.setenv("ACME_API_KEY", "key-of-acme-0123456789")
    monkeypatch.setenv("ACME_BASE_URL", simulator.base_url("openai"))
    for _ in range(2):
        provider = get_provider(f"{module}:AcmeProvider")
        assert (await stream_request(ask(), provider=provider).collect()).complete
    asked = simulator.requests[-1]
    assert (asked.body["model"], asked.headers["authorization"]) == ("acme-1", "Bearer key-of-acme-0123456789")
    assert simulator.connections == 1
    await aclose_providers()
