"""Choose the transport of an `httpx2.AsyncClient` through private names, which nothing else in streamcore uses.

A client makes one transport for itself and one for each proxy of the environment, in two private methods. The public
parameters `transport=` and `mounts=` replace them only if the caller reads the environment's proxies, and the hosts
that need none, as httpx2 does in a private function. `tests/net/test_private_names.py` says when a name disappears.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx2


class TransportClient(httpx2.AsyncClient):
    """An `httpx2.AsyncClient` that sends over what `new_transport` returns."""

    def new_transport(self, context: ssl.SSLContext, proxy: httpx2.Proxy | None) -> httpx2.AsyncBaseTransport:
        """Return a new transport; a subclass must override this."""
        raise NotImplementedError

    def _init_transport(self, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return settings.get("transport") or self.new_transport(_ssl_context(settings), None)

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *given: Any, **settings: Any) -> httpx2.AsyncBaseTransport:
        return self.new_transport(_ssl_context(settings), proxy)


def has_connections(client: httpx2.AsyncClient) -> bool:
    """Return True if a client has connections, in use or idle; of an unknown transport, return False."""
    return any(getattr(pool, "connections", ()) for pool in _pools(client))


def _pools(client: httpx2.AsyncClient) -> list[Any]:
    inner: Any = getattr(client, "inner", client)
    return [getattr(transport, "_pool", None) for transport in (inner._transport, *inner._mounts.values())]


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
