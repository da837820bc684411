"""Share the vendors' SDK clients: one for each setting, event loop and process; say what they send over."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from streamcore.concurrency.event_loop import running_on_trio
from streamcore.concurrency.resources import Close, known_resources, open_resources
from streamcore.errors import ConfigError, ProviderNotInstalled

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

TRANSPORTS = ("httpx2", "aiohttp")
VARIABLE = "STREAMCORE_TRANSPORT"
_CONNECT = 5.0  # seconds for one attempt to connect
_IDLE = 100  # connections that wait to be used again; how many may be open, the system says


def chosen_transport(given: str | None, own: object = None) -> str:
    """Return what a provider sends over: what it was given, else what the environment says, else httpx2.

    `own` is a client of the caller's, which sends in its own way.

    Raises:
        ConfigError: there is no such transport, or a client of the caller's besides.
        ProviderNotInstalled: with the command that installs aiohttp.
    """
    if own is not None:
        if given is not None:
            raise ConfigError(f"transport={given!r} and a client of your own say the same twice; give one of them")
        return "httpx2"
    name = given or os.environ.get(VARIABLE) or "httpx2"
    if name not in TRANSPORTS:
        where = f"the environment's {VARIABLE}" if given is None else "transport="
        raise ConfigError(f"{where} is one of {', '.join(map(repr, TRANSPORTS))}, not {name!r}")
    if name == "aiohttp" and find_spec("aiohttp") is None:
        raise ProviderNotInstalled(
            "transport 'aiohttp' needs the package 'aiohttp', which is not installed; run: pip install aiohttp"
        )
    return name


def new_http_client(transport: str, plain: type[httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """Make the client that sends over a transport, over httpx2 of the SDK's own class.

    As many streams may be open as the system has sockets for: a pool with a limit makes the next one wait in silence.
    Reads have no timeout here: `Stream` keeps clocks over them, and a second one would cost as much as these do.

    Raises:
        ConfigError: aiohttp is asked for under trio.
    """
    from httpx2 import Limits, Timeout

    made = plain
    if transport == "aiohttp":
        if running_on_trio():
            raise ConfigError(
                f"transport 'aiohttp' runs on asyncio only; under trio, take 'httpx2' (transport=, {VARIABLE})"
            )
        from streamcore.net.aiohttp_client import AiohttpClient as made  # noqa: N813
    limits = Limits(max_connections=None, max_keepalive_connections=_IDLE)
    return made(limits=limits, timeout=Timeout(None, connect=_CONNECT), follow_redirects=True)


async def shared_client(key: Hashable, make: Callable[[], tuple[T, Close]]) -> T:
    """Return the client for `key` on the running loop; `make` builds it, with the function that closes it.

    A process that was forked gets its own, since two processes must not write to one socket.
    """
    clients = (await open_resources()).clients
    if key not in clients:
        clients[key] = make()
    return cast("T", clients[key][0])


def remember_urls(client: object) -> None:
    """Have a client of an SDK put the URL of each endpoint together once, not for every request.

    The method is private to the SDKs; where one has none of this name, nothing changes.
    """
    known: Any = client
    if hasattr(known, "_prepare_url"):
        known._prepare_url = lru_cache(maxsize=8)(known._prepare_url)


class Resolved(Generic[T]):
    """A provider's shared client on the loop where it was asked for last: looked up once, for as long as it is open.

    All that an SDK reads of the environment is many variables; of these only what is given as `seen` is looked at
    before each request.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: tuple[object, Hashable, T] | None = None

    async def client(self, seen: Hashable, key: Callable[[], Hashable], make: Callable[[], tuple[T, Close]]) -> T:
        """Return the client; see `shared_client`."""
        resources, found = known_resources(), self._found
        if resources is not None and found is not None and found[0] is resources.clients and found[1] == seen:
            return found[2]
        client = await shared_client(key(), make)
        self._found = ((await open_resources()).clients, seen, client)
        return client


def environment(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that an SDK reads when its client is built, to be part of the client's key."""
    return tuple((name, os.environ[name]) for name in sorted(os.environ) if name.startswith(prefixes))


async def aclose_providers() -> None:
    """Close every shared client of the running loop now; the next call opens new ones.

    Services that live as long as their loop need not call it: `asyncio.run` and `trio.run` do the same at their end.
    """
    resources = known_resources()
    if resources is not None:
        await resources.close_clients()


@asynccontextmanager
async def lifespan(app: object = None) -> AsyncGenerator[None]:
    """Close every shared client when an application ends, as in `FastAPI(lifespan=streamcore.lifespan)`."""
    try:
        yield
    finally:
        await aclose_providers()
