"""Test that the shared clients on httpx2 send over several connection pools, none of which has many requests."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import ConnectionFailed, Provider, Stream, aclose_providers, get_provider, stream_request
from streamcore.concurrency.resources import open_resources
from streamcore.errors import ProviderError
from streamcore.net import httpx2_private, transports
from streamcore.net.httpx2_private import POOL_REQUESTS, ConnectionPools, client_proxies, has_connections
from streamcore.net.open_files import limit, raise_limit
from streamcore.net.transports import new_http_client
from streamcore.testing import Answer, FaultServer, Simulator
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.faults.spoiled import begun, chunked
from streamcore.testing.faults.steps import Hold, Send, Step
from tests.private_ca import new_private_ca
from tests.proxy_server import ProxyServer
from tests.support import DEADLINE, KEY, ask, eventually, provider_at, require

pytestmark = pytest.mark.anyio
SIZE = 3
PASSWORD = "ada:correct-horse"
BEGUN: list[Step] = [Send(chunked(*begun("openai-chat", ANSWER))), Hold()]
Begin = Callable[[], Awaitable[httpx2.Response]]
WITHOUT_LIMITS: dict[str, Any] = {"max_retries": 0, "timeouts": {"first_token": DEADLINE, "stall": DEADLINE}}


@pytest.fixture(autouse=True)
def small_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx2_private, "POOL_REQUESTS", SIZE)
    monkeypatch.setattr(transports, "_CONNECT_SECONDS", DEADLINE)


def at(url: str, name: str = "openai") -> Provider:
    return get_provider(name, api_key=KEY, model="m", base_url=url, transport="httpx2")


async def http_client() -> httpx2.AsyncClient:
    """Return the one HTTP client that streams share on this event loop."""
    clients = (await open_resources()).clients.values()
    (client,) = [client for client, _ in clients if isinstance(client, httpx2.AsyncClient)]
    return client


async def pools_of(*, proxy: bool = False) -> ConnectionPools:
    """Return the pools of the direct transport, or those of the environment's proxy."""
    client: Any = await http_client()
    proxies: list[Any] = [transport for transport in client._mounts.values() if transport is not None]
    transport: Any = proxies[0] if proxy else client._transport
    assert isinstance(transport._pool, ConnectionPools)
    return transport._pool


async def requests_of(*, proxy: bool = False) -> list[int]:
    """Return how many requests each pool has."""
    return [len(pool._requests) for pool in (await pools_of(proxy=proxy)).pools]


@asynccontextmanager
async def opened(provider: Provider, count: int) -> AsyncGenerator[list[Stream]]:
    """Open streams at once, and read the first chunk of each."""
    streams = [stream_request(ask(), provider=provider, **WITHOUT_LIMITS) for _ in range(count)]

    async def read(stream: Stream) -> None:
        assert await stream.next_batch() is not None

    async with AsyncExitStack() as stack:
        for stream in streams:
            await stack.enter_async_context(stream)
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(read, stream)
        yield streams


async def test_streams_at_once_fill_one_pool_after_the_other() -> None:
    with FaultServer(BEGUN) as server:
        async with opened(at(server.url), 3 * SIZE):
            assert [len(pool.connections) for pool in (await pools_of()).pools] == [SIZE] * 3
            assert server.open == server.connections == 3 * SIZE
            assert has_connections(await http_client())
        await aclose_providers()
        await eventually(lambda: not server.open, "all connections were closed")


@asynccontextmanager
async def client_at(simulator: Simulator) -> AsyncGenerator[tuple[Begin, ConnectionPools]]:
    """Return a function that begins a response, which the caller reads, and the pools of its client."""
    async with new_http_client("httpx2", httpx2.AsyncClient) as client:
        transport: Any = client
        pools: ConnectionPools = transport._transport._pool
        pools.pools[0]._keepalive_expiry = DEADLINE
        url = f"{simulator.base_url('openai')}/chat/completions"
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}

        async def begin() -> httpx2.Response:
            return await client.send(client.build_request("POST", url, json=body), stream=True)

        yield begin, pools


async def test_requests_one_after_the_other_use_one_connection(simulator: Simulator) -> None:
    async with client_at(simulator) as (begin, pools):
        for _ in range(2 * SIZE):
            await (await begin()).aread()
            assert len(pools.pools) == len(pools.connections) == 1
    assert simulator.connections == 1


async def test_an_idle_connection_of_any_pool_is_used_again(simulator: Simulator) -> None:
    async with client_at(simulator) as (begin, pools):
        responses = [await begin() for _ in range(3 * SIZE)]
        connections = pools.connections
        for number in range(3 * SIZE):
            await responses[number].aread()
            responses.append(await begin())
            assert pools.connections == connections
    assert simulator.connections == 3 * SIZE


async def test_empty_pools_keep_few_connections_and_are_closed(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx2_private, "_IDLE_CONNECTIONS", 1)
    async with client_at(simulator) as (begin, pools):
        for response in [await begin() for _ in range(3 * SIZE)]:
            await response.aread()
        assert [len(pool.connections) for pool in pools.pools] == [SIZE, 1, 1]
        for number_of_pools in (2, 1, 1):
            await (await begin()).aread()
            assert len(pools.pools) == number_of_pools
        await eventually(lambda: len(simulator.clients) == SIZE, "the connections of the other pools were closed")
        assert simulator.connections == 3 * SIZE
    await eventually(lambda: not simulator.clients, "all connections were closed")


async def test_a_failed_or_cancelled_request_leaves_no_trace_in_its_pool() -> None:
    with FaultServer("connection-refused") as closed, FaultServer("bad-request") as bad, FaultServer("mute") as mute:
        for server, error in ((closed, ConnectionFailed), (bad, ProviderError)):
            for _ in range(2 * SIZE):
                with pytest.raises(error):
                    await stream_request(ask(), provider=at(server.url), max_retries=0).collect()
        async with anyio.create_task_group() as group:
            for _ in range(2 * SIZE):
                group.start_soon(stream_request(ask(), provider=at(mute.url), **WITHOUT_LIMITS).collect)
            await eventually(lambda: len(mute.requests) == 2 * SIZE, "every request was sent")
            assert await requests_of() == [SIZE, SIZE]
            group.cancel_scope.cancel()
        assert await requests_of() == [0, 0]
        with pytest.raises(ConnectionFailed):
            await stream_request(ask(), provider=at(closed.url), max_retries=0).collect()
        assert await requests_of() == [0]
    await aclose_providers()


async def test_every_pool_uses_the_proxy_and_the_certificates_of_the_environment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = new_private_ca(tmp_path_factory.mktemp("authority"))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with FaultServer(BEGUN, tls=authority.server()) as server, ProxyServer(server.port, password=PASSWORD) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with opened(at("https://vendor.test"), 2 * SIZE):
            assert await requests_of(proxy=True) == [SIZE, SIZE]
            assert await requests_of() == [0]
        assert proxy.requests == ["CONNECT vendor.test:443"] * 2 * SIZE
        assert proxy.refused == 0
        assert client_proxies(await http_client()) == [f"http://{PASSWORD}@proxy"]
        async with opened(at(f"https://127.0.0.1:{server.port}"), 2 * SIZE):
            assert await requests_of() == [SIZE, SIZE]
        assert len(proxy.requests) == 2 * SIZE
        await aclose_providers()


async def test_every_pool_has_the_socket_options_of_the_sdk() -> None:
    with FaultServer(
        [Send(chunked(*begun("anthropic-messages", ANSWER))), Hold()], wire="anthropic-messages"
    ) as server:
        async with opened(at(server.url, "anthropic"), 2 * SIZE):
            streams = [connection._connection._network_stream for connection in (await pools_of()).connections]
            sockets = [stream.get_extra_info("socket") for stream in streams]
            assert len(sockets) == 2 * SIZE
            assert all(one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for one in sockets)
        await aclose_providers()


async def test_a_client_of_the_callers_has_its_own_pool(simulator: Simulator) -> None:
    async with httpx2.AsyncClient(timeout=None) as given:
        client: Any = given
        pool = client._transport._pool
        async with opened(provider_at(simulator, "openai", http_client=given), 2 * SIZE):
            assert client._transport._pool is pool
            assert len(pool.connections) == 2 * SIZE


@pytest.fixture
def many_open_files() -> Iterator[None]:
    """Raise the limit of open files until the test ends; each stream needs two."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    require((limit() or 1 << 20) > 7000, "fewer than 7,000 files may be open")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("many_open_files")
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_three_thousand_streams_at_once_are_all_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx2_private, "POOL_REQUESTS", POOL_REQUESTS)
    streams, opening = 3000, anyio.CapacityLimiter(20)
    running, whole, all_running = 0, 0, anyio.Event()

    async def read(provider: Provider) -> None:
        nonlocal running, whole
        async with stream_request(ask(), provider=provider, **WITHOUT_LIMITS) as stream:
            async with opening:
                assert await stream.next_batch() is not None
            running += 1
            if running == streams:
                assert await requests_of() == [POOL_REQUESTS] * (streams // POOL_REQUESTS)
                all_running.set()
            await all_running.wait()
            answer = await stream.collect()
            whole += answer.complete

    with Simulator(Answer.of("ok")) as simulator:
        async with anyio.create_task_group() as group:
            for _ in range(streams):
                group.start_soon(read, provider_at(simulator, "openai"))
        assert simulator.connections == streams
        await aclose_providers()
    assert whole == streams
