"""Keep a bounded number of SDK clients, one for each key and settings; the least recently used is closed."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Hashable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Generic, TypeVar

from streamcore.concurrency.resources import Close, OpenResources, open_resources
from streamcore.errors import ConfigError

if TYPE_CHECKING:
    from streamcore.net.limited_client import LimitedClient

C = TypeVar("C")

log = logging.getLogger("streamcore")

MAX_CLIENTS = 64
"""How many shared SDK clients an event loop keeps, unless `STREAMCORE_MAX_CLIENTS` is set in the environment."""
VARIABLE = "STREAMCORE_MAX_CLIENTS"

_turns = itertools.count()


class CachedClient(Generic[C]):
    """A shared SDK client, while the cache has it; `client` is None afterwards."""

    __slots__ = ("client", "http", "used")

    def __init__(self, client: C, http: LimitedClient) -> None:
        self.client: C | None = client
        self.http = http
        self.used = next(_turns)

    def get(self) -> C | None:
        """Return the client, and note that it was used."""
        self.used = next(_turns)
        return self.client


async def cached_client(
    key: Hashable, make: Callable[[OpenResources], tuple[CachedClient[C], Close]]
) -> CachedClient[C]:
    """Return the client for `key` on the running loop, which `make` builds if there is none.

    If there are too many afterwards, those that were used least recently are closed, except those with open responses.
    """
    resources = await open_resources()
    if key not in resources.clients:
        resources.clients[key] = make(resources)
        await _close_surplus(resources, key)
    found: CachedClient[C] = resources.clients[key][0]
    return found


async def _close_surplus(resources: OpenResources, newest: Hashable) -> None:
    clients = resources.clients.items()
    cached: list[tuple[Hashable, CachedClient[object]]] = [
        (key, client) for key, (client, _) in clients if isinstance(client, CachedClient)
    ]
    idle: list[tuple[int, Hashable]] = sorted(
        ((client.used, key) for key, client in cached if not client.http.streaming and key != newest),
        key=lambda one: one[0],
    )
    for _, key in idle[: max(0, len(cached) - max_clients())]:
        entry, close = resources.clients.pop(key)
        client, entry.client = entry.client, None
        try:
            await close()
        except Exception:  # a client that cannot be closed must not fail the request of another key
            log.warning("closing %r failed", type(client).__name__, exc_info=True)


def max_clients() -> int:
    """Return how many SDK clients an event loop keeps.

    Raises:
        ConfigError: the environment's value is not a number of 1 or more.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return MAX_CLIENTS
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"the environment's {VARIABLE} must be a number of 1 or more, not {given!r}")
    return int(given)


def no_cookies() -> CookieJar:
    """Return a jar that keeps nothing: clients of different keys share it."""
    return CookieJar(DefaultCookiePolicy(allowed_domains=()))
