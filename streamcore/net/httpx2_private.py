"""Change transports and connection pools of an `httpx2.AsyncClient` through private names, which only this file uses.

A client makes one transport for itself and one for each proxy of the environment, in two private methods. The public
parameters `transport=` and `mounts=` replace them only if the caller reads the environment's proxies, and the hosts
that need none, as httpx2 does in a private function. `tests/net/test_private_names.py` says when a name disappears.

A transport has one connection pool of httpcore2, which looks through all its requests and connections whenever a
request begins or ends, so that the cost of opening streams grows with the square of their number.
`use_several_pools` divides them among pools. A pool opens its connections with a network backend, which httpcore2 lets
its callers choose and httpx2 does not: `use_network_backend`.
"""

from __future__ import annotations

import base64
import copy
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self
from urllib.parse import quote

import anyio.abc
import httpcore2
import httpx2

from streamcore.net.asyncio_stream import AsyncioStream

POOL_REQUESTS = 250
"""How many requests one connection pool has at once, until the next pool is used."""
_IDLE_CONNECTIONS = 5  # kept open by each pool after the first
_SENT = httpx2.ByteStream(b"")
_POOL_STATE = ("_connections", "_max_keepalive_connections", "_requests")


class TransportClient(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` that sends over what `new_transport` returns."""

    def new_transport(self, context: ssl.SSLContext, proxy: httpx2.Proxy | None) -> httpx2.AsyncBaseTransport:
        """Return a new transport; a subclass must override this."""
        raise NotImplementedError

    def _init_transport(self, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return settings.get("transport") or self.new_transport(_ssl_context(settings), None)

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return self.new_transport(_ssl_context(settings), proxy)


def use_several_pools(client: httpx2.AsyncClient) -> None:
    """Let each transport of a client, those of proxies included, send over several connection pools once one is full.

    They have the settings of the transport's own pool. Transports of other libraries stay as they are.
    """
    for transport in _transports(client):
        pool = getattr(transport, "_pool", None)
        if all(hasattr(pool, name) for name in _POOL_STATE):
            transport._pool = ConnectionPools(pool)


class ConnectionPools:
    """Connection pools of httpcore2 in place of one: a request goes to the first that has fewer than `POOL_REQUESTS`.

    A connection that becomes idle makes space in its pool, so the next request finds it there. An empty last pool is
    closed when the one before it is half empty.
    """

    def __init__(self, first: Any) -> None:
        self.pools = [first]
        self._proxy_headers = getattr(first, "_proxy_headers", ())

    @property
    def connections(self) -> list[Any]:
        """The connections of all pools."""
        return [connection for pool in self.pools for connection in pool.connections]

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return its response."""
        pools = self.pools
        if len(pools) > 1 and not pools[-1]._requests and 2 * len(pools[-2]._requests) <= POOL_REQUESTS:
            await pools.pop().aclose()
        for pool in pools:
            if len(pool._requests) < POOL_REQUESTS:
                break
        else:
            pool = self._one_more()
        response = await pool.handle_async_request(request)
        request.headers, request.stream = [], _SENT  # an open response keeps its request
        return response

    def _one_more(self) -> Any:
        """Return a new pool with the settings of the first, its TLS context and proxy included."""
        pool = copy.copy(self.pools[0])
        pool._connections, pool._requests = [], []
        pool._max_keepalive_connections = min(_IDLE_CONNECTIONS, pool._max_keepalive_connections)
        self.pools.append(pool)
        return pool

    async def aclose(self) -> None:
        """Close the connections of all pools."""
        for pool in self.pools:
            await pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def use_network_backend(
    client: httpx2.AsyncClient, new: Callable[[httpcore2.AsyncNetworkBackend], httpcore2.AsyncNetworkBackend]
) -> None:
    """Let a client's transports open their connections with what `new` returns for the backend that they have."""
    for pool in _pools(client):
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore2.AsyncNetworkBackend):
            pool._network_backend = new(backend)


def byte_stream(stream: httpcore2.AsyncNetworkStream) -> anyio.abc.ByteStream | None:
    """Return the stream of anyio below a connection of httpcore2; None if it has none, as on trio."""
    found = getattr(stream, "_stream", None)
    return found if isinstance(found, anyio.abc.ByteStream) else None


def use_asyncio_stream(stream: httpcore2.AsyncNetworkStream) -> AsyncioStream | None:
    """Let a new connection on asyncio use an `AsyncioStream`, and return it; None if it cannot."""
    found = byte_stream(stream)
    transport: Any = getattr(found, "_transport", None)
    protocol: Any = getattr(found, "_protocol", None)
    if transport is None or protocol is None or transport.is_closing():
        return None
    if getattr(protocol, "is_at_eof", True) or getattr(protocol, "read_queue", True):  # before reading was paused
        return None
    changed: Any = stream
    changed._stream = found = AsyncioStream(transport)
    return found


def has_connections(client: httpx2.AsyncClient) -> bool:
    """Return True if a client has connections, in use or idle; of an unknown transport, return False."""
    return any(getattr(pool, "connections", ()) for pool in _pools(client))


def _pools(client: httpx2.AsyncClient) -> list[Any]:
    return [getattr(transport, "_pool", None) for transport in _transports(client)]


def _transports(client: httpx2.AsyncClient) -> list[Any]:
    inner: Any = getattr(client, "inner", client)
    return [inner._transport, *inner._mounts.values()]


def client_proxies(client: httpx2.AsyncClient) -> list[str]:
    """Return the URLs of a client's own proxies, with their credentials; none that an unknown transport has."""
    found: list[str] = []
    for pool in _pools(client):
        for name, value in getattr(pool, "_proxy_headers", ()):
            if name.lower() == b"proxy-authorization":
                found.append(f"http://{_basic(value)}@proxy")
    return found


def _basic(value: bytes) -> str:
    """Return user and password of an Authorization header, quoted as in a URL."""
    try:
        plain = base64.b64decode(value.partition(b" ")[2]).decode("utf-8", "replace")
    except ValueError:
        return ""
    return ":".join(quote(part, safe="") for part in plain.split(":", 1))


def _ssl_context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    return httpx2.create_ssl_context(
        **{name: settings[name] for name in ("verify", "cert", "trust_env") if name in settings}
    )
