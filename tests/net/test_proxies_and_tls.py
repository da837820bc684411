"""Check that both transports treat proxies, certificates and timeouts alike: a real proxy, a private authority."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from streamcore import ConnectionFailed, Provider, StreamTimeout, get_provider, stream_request
from streamcore.net.aiohttp_client import AiohttpClient
from streamcore.testing import FaultServer
from streamcore.testing.faults.fault_server import ANSWER
from tests.private_ca import PrivateCA, new_private_ca
from tests.proxy_server import ProxyServer
from tests.support import DEADLINE, KEY, VENDORS, ask, first_short, patient, wire_of

UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=pytest.mark.long)
pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", UVLOOP])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run each test on asyncio's own event loop and on uvloop."""
    return request.param


both = pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
CLIENTS: dict[str, type[httpx2.AsyncClient]] = {"httpx2": httpx2.AsyncClient, "aiohttp": AiohttpClient}
WHOLE = "".join(ANSWER.tokens)
PASSWORD = "ada:correct-horse"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> PrivateCA:
    return new_private_ca(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_server(authority: PrivateCA, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """Serve whole answers over TLS, with a certificate that clients trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with FaultServer("none", tls=authority.server()) as server:
        yield server


def at(url: str, name: str = "openai", **settings: Any) -> Provider:
    """Return a provider whose server has this URL."""
    return get_provider(name, api_key=KEY, model="m", base_url=url + ("/v1" if name == "openai" else ""), **settings)


async def text_of(provider: Provider) -> str:
    return (await stream_request(ask(), provider=provider, max_retries=0).collect()).text


# Certificates


@both
@pytest.mark.parametrize("name", first_short(VENDORS))
async def test_the_authorities_of_ssl_cert_file_are_trusted(
    name: str, transport: str, authority: PrivateCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with FaultServer("none", wire=wire_of(name), tls=authority.server()) as server:
        path = "/v1" if name.startswith("openai") else ""
        url = f"https://localhost:{server.port}{path}"
        provider = get_provider(name, api_key=KEY, model="m", base_url=url, transport=transport)
        assert await text_of(provider) == WHOLE


@both
async def test_no_other_authority_is_trusted(transport: str, authority: PrivateCA) -> None:
    with FaultServer("none", tls=authority.server()) as server:
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate") as caught:
            await text_of(at(f"https://127.0.0.1:{server.port}", transport=transport))
        assert not caught.value.retryable
        assert server.requests == []


@both
async def test_a_certificate_for_another_host_is_refused(transport: str, tls_server: FaultServer) -> None:
    with ProxyServer(tls_server.port) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
            await text_of(at("https://other.test", transport=transport))
    assert tls_server.requests == []


@both
async def test_a_client_certificate_is_sent(transport: str, authority: PrivateCA) -> None:
    with FaultServer("none", tls=authority.server(client_certificates=True)) as server:
        url = f"https://127.0.0.1:{server.port}"
        async with CLIENTS[transport](verify=authority.client(certificate=True), timeout=None) as client:
            assert await text_of(at(url, http_client=client)) == WHOLE
        async with CLIENTS[transport](verify=authority.client(), timeout=None) as client:
            with pytest.raises(ConnectionFailed):
                await text_of(at(url, http_client=client))
        assert len(server.requests) == 1


# Proxies


@both
async def test_a_tunnel_through_a_proxy_with_a_password(
    transport: str, tls_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProxyServer(tls_server.port, password=PASSWORD) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        assert await text_of(at("https://vendor.test", transport=transport)) == WHOLE
    assert proxy.requests == ["CONNECT vendor.test:443"]
    assert all("proxy-authorization" not in request.headers for request in tls_server.requests)


@both
async def test_a_proxy_that_is_served_over_tls(
    transport: str, tls_server: FaultServer, authority: PrivateCA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProxyServer(tls_server.port, tls=authority.server()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{proxy.address}")
        assert await text_of(at("https://vendor.test", transport=transport)) == WHOLE
    assert proxy.requests == ["CONNECT vendor.test:443"]


@both
async def test_a_plain_request_through_a_proxy_with_a_password(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer("none") as server, ProxyServer(server.port, password=PASSWORD) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://{proxy.address}")
        assert await text_of(at("http://vendor.test:81", transport=transport)) == WHOLE
    assert proxy.requests == ["POST http://vendor.test:81/v1/chat/completions"]


@both
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refusing_proxy_is_an_error_without_its_password(
    scheme: str, transport: str, tls_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProxyServer(tls_server.port, password=PASSWORD) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://ada:wrong-battery@127.0.0.1:{proxy.port}")
        with pytest.raises(Exception, match=r"(?i)407|proxy") as caught:
            await text_of(at(f"{scheme}://vendor.test", transport=transport))
        assert proxy.requests == []
        assert proxy.refused >= 1
    assert type(caught.value).__name__ == ("ConnectionFailed" if scheme == "https" else "BadRequestError")
    assert "wrong-battery" not in str(caught.value)


@both
async def test_no_proxy_lists_the_hosts_without_a_proxy(
    transport: str, tls_server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ProxyServer(tls_server.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        monkeypatch.setenv("NO_PROXY", "other.test,127.0.0.1")
        assert await text_of(at(f"https://127.0.0.1:{tls_server.port}", transport=transport)) == WHOLE
        assert proxy.requests == []
        assert await text_of(at(f"https://localhost:{tls_server.port}", transport=transport)) == WHOLE
        assert proxy.requests == [f"CONNECT localhost:{tls_server.port}"]


@both
async def test_a_proxy_that_does_not_run_is_a_failed_connection(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer("connection-refused") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectionFailed) as caught:
            await text_of(at("https://vendor.test", transport=transport))
    assert caught.value.retryable


# Timeouts of a client


@both
@patient
async def test_the_connect_timeout_covers_the_handshake(transport: str, pace: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # connections are accepted by the system, and nothing is sent
        timeout = httpx2.Timeout(None, connect=0.2 * pace)
        async with CLIENTS[transport](timeout=timeout) as client:
            with pytest.raises(ConnectionFailed) as caught:
                await text_of(at(f"https://127.0.0.1:{mute.getsockname()[1]}", http_client=client))
    assert caught.value.retryable


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvloop looks names up itself
@both
@patient
async def test_the_connect_timeout_covers_the_lookup_of_a_name(
    transport: str, pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        over.wait(DEADLINE)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    async with CLIENTS[transport](timeout=httpx2.Timeout(None, connect=0.1 * pace)) as client:
        with pytest.raises(ConnectionFailed, match="ConnectTimeout") as caught:
            try:
                await text_of(at("http://slow.test", http_client=client))
            finally:
                over.set()
    assert caught.value.retryable


@both
@patient
async def test_the_read_timeout_ends_a_stalled_answer(transport: str, pace: float) -> None:
    with FaultServer("stall") as server:
        async with CLIENTS[transport](timeout=httpx2.Timeout(None, read=0.2 * pace)) as client:
            with pytest.raises(StreamTimeout, match="HTTP client's read timeout") as caught:
                await text_of(at(server.url, http_client=client))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "".join(ANSWER.tokens[:2])
