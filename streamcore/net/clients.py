"""Build the vendors' SDK clients, and share them: one per settings, loop and process."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.request import getproxies
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread

from streamcore.concurrency.collection import collection_paused
from streamcore.concurrency.event_loop import running_loop
from streamcore.concurrency.resources import Close, OpenResources, known_resources, open_resources
from streamcore.errors import ConfigError
from streamcore.net.client_cache import CachedClient, cached_client
from streamcore.net.credentials import SHORTEST_SECRET, header_secrets, proxy_secrets, url_secrets
from streamcore.net.transports import MODULES, chosen_transport, new_http_client, transport_here
from streamcore.provider import (
    AnyProvider,
    ProviderSettings,
    Vendor,
    check_settings,
    environment_provider,
    get_provider,
    provider_names,
)
from streamcore.provider import vendor as vendor_named

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")
C = TypeVar("C")

_loops: WeakKeyDictionary[httpx2.AsyncClient, object] = WeakKeyDictionary()
"""The event loop on which each HTTP client of a caller was used last."""
_building: WeakKeyDictionary[OpenResources, anyio.Lock] = WeakKeyDictionary()
"""For each event loop, the lock under which its HTTP clients are built, so that each is built once."""
_imported: set[str] = set()
"""The modules whose import has ended."""
_importing = threading.Lock()


class SDKClient(Generic[C]):
    """Hold the SDK client that a provider sends through: the caller's, or one shared by the streams of an event loop.

    A provider over a vendor's SDK makes one in its constructor and awaits `get()` before each request. It checks the
    settings, builds clients when they are first needed, and closes the shared ones when the event loop ends or
    `aclose_providers()` is called. A client or `http_client` of the caller's is neither shared nor closed.

    Args:
        vendor: the description of the provider.
        settings: what the provider's constructor was given.
        build: makes an SDK client that sends through an httpx2 client, with `api_key` and `base_url` of this object,
            and with the SDK's own retries off: streamcore retries. Clients are shared between providers whose `build`
            is the same function, so it is a module's function, not a lambda.
        http_class: returns the class of httpx2 client that the SDK uses; called late, so that it may import the SDK.
        adopt: returns the caller's SDK client with its retries off; defaults to the client itself.
        close: closes a client that `build` made; defaults to closing the httpx2 client.
        variables: the suffixes of further environment variables whose change needs another client, such as
            `AUTH_TOKEN` for `<NAME>_AUTH_TOKEN`; `API_KEY` and `BASE_URL` always count.
        http_of: returns the httpx2 client of the caller's SDK client, whose proxies may have credentials.
        modules: modules that the SDK imports with the first request.

    Raises:
        ProviderNotInstalled: the SDK, or aiohttp for that transport, is missing.
        ConfigError: a setting is unknown, `http_client` is no `httpx2.AsyncClient`, or the transport cannot be used.
    """

    def __init__(
        self,
        vendor: Vendor,
        settings: ProviderSettings,
        build: Callable[[SDKClient[C], httpx2.AsyncClient], C],
        *,
        http_class: Callable[[], type[httpx2.AsyncClient]],
        adopt: Callable[[C], C] | None = None,
        close: Callable[[C], Awaitable[object]] | None = None,
        variables: Sequence[str] = (),
        http_of: Callable[[C], httpx2.AsyncClient] | None = None,
        modules: Sequence[str] = (),
    ) -> None:
        vendor.require_sdk()
        check_settings(vendor.name, settings)
        _check_client(vendor, settings)
        given: C | None = settings.get("client")
        self.vendor = vendor
        self.api_key = settings.get("api_key")
        """The key that the caller gave; None leaves it to the environment and the SDK."""
        self.base_url = settings.get("base_url")
        """The base URL that the caller gave; None leaves it to the environment and the SDK."""
        self.headers = dict(settings.get("headers") or {})
        """Additional headers for every request."""
        self.given = given is not None
        """True if the caller gave a client of the SDK, which has its own key."""
        self._http_client = _checked_http_client(vendor.name, settings.get("http_client"))
        self._transport = chosen_transport(settings.get("transport"), self._http_client or given)
        self._build = build
        self._http_class = http_class
        self._close = close
        self._http_of = http_of
        self._modules = (*(() if vendor.sdk is None else (vendor.sdk,)), *modules)
        self._loaded = False
        self._variables = ("BASE_URL", *variables)
        self._own: C | None = given if given is None or adopt is None else adopt(given)
        self._shared: tuple[object, Hashable, CachedClient[C]] | None = None

    def find_key(self) -> str | None:
        """Return the caller's key, else the environment's; None leaves it to what else the SDK reads."""
        return self.api_key or self.vendor.find_key()

    def find_base_url(self) -> str | None:
        """Return the caller's base URL, else the environment's, else the vendor's default."""
        return self.base_url or self.vendor.from_environment("BASE_URL") or self.vendor.base_url

    def source(self) -> str:
        """Return the name of the server that answers, for `Opaque.source`; see `Vendor.source`."""
        given = getattr(self._own, "base_url", None)
        return self.vendor.source(self.find_base_url() if given is None else str(given))

    def secrets(self) -> list[str]:
        """Return what no error may show: the key, the headers, the credentials of base URL and proxies."""
        own: Any = self._own
        headers: Mapping[str, object] = getattr(own, "default_headers", None) or {}
        keys = [self.find_key(), *(getattr(own, name, None) for name in ("api_key", "auth_token"))]
        found = {key for key in keys if isinstance(key, str) and len(key) >= SHORTEST_SECRET}
        found |= header_secrets(self.headers, all_names=True) | header_secrets(
            {name: value for name, value in headers.items() if isinstance(value, str)}
        )
        found |= url_secrets(str(getattr(own, "base_url", None) or self.find_base_url() or "")) | proxy_secrets()
        http = self._callers_http_client()
        if http is not None:
            from streamcore.net.httpx2_private import client_proxies

            found |= {secret for url in client_proxies(http) for secret in url_secrets(url)}
        return list(found)

    async def get(self) -> C:
        """Return the client to send through.

        Raises:
            MissingAPIKey: `build` needs a key, and there is none.
            ConfigError: the transport does not run on this event loop, or the caller's client has connections of
                another one.
        """
        if self._own is None and self._http_client is not None:
            from streamcore.net.limited_client import LimitedClient

            self._own = self._build(self, LimitedClient(self._http_client))
        if self._own is not None:
            self._check_loop()
            return self._own
        # An SDK reads many variables; before each request only these are compared.
        seen = (self.vendor.find_key(), *(self.vendor.from_environment(suffix) for suffix in self._variables))
        resources, shared = known_resources(), self._shared
        if resources is not None and shared is not None and shared[0] is resources.clients and shared[1] == seen:
            client = shared[2].get()
            if client is not None:
                return client
        transport = transport_here(self._transport)
        await self._open_pool(transport)
        cached = await cached_client(self._key(transport), partial(self._make, transport))
        self._shared = ((await open_resources()).clients, seen, cached)
        return cast("C", cached.get())

    def _callers_http_client(self) -> httpx2.AsyncClient | None:
        return self._http_client if self._own is None or self._http_of is None else self._http_of(self._own)

    def _check_loop(self) -> None:
        """Raise ConfigError if the caller's HTTP client has connections of another event loop.

        A connection works on its own loop only: elsewhere it fails with an error of the loop, or waits forever.
        """
        http = self._callers_http_client()
        if http is None:
            return
        http, loop = getattr(http, "inner", http), running_loop()
        known = _loops.get(http)
        if known is loop:
            return
        if known is not None:
            from streamcore.net.httpx2_private import has_connections

            if has_connections(http):
                name = "http_client" if self._http_client is not None else "client"
                raise ConfigError(
                    f"the {name} of provider {self.vendor.name!r} has connections of another event loop, on which it "
                    "was used before. Each call of streamcore.sync and of asyncio.run has a loop of its own: make a "
                    f"client for each, or leave {name}= out; streamcore then opens and closes its own clients"
                )
        _loops[http] = loop

    async def warm_up(self, *modules: str) -> None:
        """Import the SDK in a thread and build the client, so that the first request need not.

        Args:
            modules: more modules to import.

        Raises:
            MissingAPIKey: `build` needs a key, and there is none.
        """
        await self.load(*modules)
        await self.get()

    async def load(self, *modules: str) -> None:
        """Import the SDK in a thread unless it is imported: that takes up to a second, and the event loop runs on.

        Every request awaits this before its first use of the SDK. `modules` are imported, too.
        """
        if self._loaded and not modules:
            return
        missing = _missing(*self._modules, *modules)
        if missing:
            await anyio.to_thread.run_sync(partial(_import_all, missing), abandon_on_cancel=True)
        self._loaded = True

    def _make(self, transport: str, resources: OpenResources) -> tuple[CachedClient[C], Close]:
        """Build a client to share, with the function that closes it."""
        from streamcore.net.limited_client import LimitedClient

        pool_key = self._pool_key(transport)
        if pool_key not in resources.clients:  # the clients were closed since `_open_pool`
            pool = new_http_client(transport, self._http_class())
            resources.clients[pool_key] = pool, pool.aclose
        http_client = LimitedClient(resources.clients[pool_key][0], own=True)
        client, close = self._build(self, http_client), self._close
        return CachedClient(client, http_client), http_client.aclose if close is None else lambda: close(client)

    async def _open_pool(self, transport: str) -> None:
        """Build the HTTP client that all keys of a vendor share, if there is none.

        It is built in a thread: reading the certificates takes up to half a second, and the event loop runs on.
        """
        resources, pool_key = await open_resources(), self._pool_key(transport)
        if pool_key in resources.clients:
            return
        async with _building.setdefault(resources, anyio.Lock()):
            if pool_key not in resources.clients:
                pool = await anyio.to_thread.run_sync(_new_pool, transport, self._http_class())
                resources.clients[pool_key] = pool, pool.aclose

    def _pool_key(self, transport: str) -> Hashable:
        return (self._http_class(), transport, *sorted(getproxies().items()))

    def _key(self, transport: str) -> Hashable:
        prefix = self.vendor.variable("")
        return (
            self._build,
            prefix,
            transport,
            self.api_key,
            self.find_base_url(),
            *environment(prefix, *self.vendor.more_keys),
        )


def _check_client(vendor: Vendor, settings: ProviderSettings) -> None:
    """Check a client of the caller's before anything is sent.

    Raises:
        ConfigError: it is not of the vendor's SDK, its `close` is a plain function, as in the SDKs' synchronous
            clients, or there is another setting that it has itself.
    """
    client: object = settings.get("client")
    if client is None:
        return
    kind: type = client.__class__  # of a proxy, the class of what it wraps
    sdk = _package(vendor.sdk)
    packages = {_package(base.__module__) for base in kind.__mro__}
    if sdk not in packages and (packages == {"builtins"} or packages & _sdks()):
        raise ConfigError(
            f"client= of provider {vendor.name!r} is a client of the package {sdk!r}, not a "
            f"{_package(kind.__module__)}.{kind.__qualname__}"
        )
    close = getattr(client, "close", None)
    if callable(close) and not iscoroutinefunction(close):
        raise ConfigError(
            f"client= of provider {vendor.name!r} is a {kind.__name__}, which is synchronous; give the SDK's "
            f"asynchronous client, such as Async{kind.__name__}"
        )
    both = [name for name in ("api_key", "http_client") if settings.get(name) is not None]
    if both:
        raise ConfigError(
            f"provider {vendor.name!r} has {' and '.join(f'{name}=' for name in both)} and client=, which has its own; "
            "give one or the other"
        )


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _sdks() -> set[str]:
    """Return the packages of all SDKs."""
    vendors = [vendor_named(name) for name in provider_names()]
    return {_package(one.sdk) for one in vendors if one is not None and one.sdk is not None}


def _checked_http_client(name: str, given: object) -> httpx2.AsyncClient | None:
    """Return the caller's HTTP client; httpx's own client looks the same, but its errors cannot be mapped."""
    if given is None:
        return None
    from httpx2 import AsyncClient

    if not isinstance(given, AsyncClient):
        kind = type(given)
        raise ConfigError(
            f"the http_client of provider {name!r} must be an httpx2.AsyncClient, not a "
            f"{_package(kind.__module__)}.{kind.__qualname__}; httpx2 has the API of httpx"
        )
    return given


def _new_pool(transport: str, sdk_class: type[httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """Return a new HTTP client; what sends its requests is imported as an SDK is."""
    missing = _missing(MODULES[transport])
    if missing:
        _import_all(missing)
    return new_http_client(transport, sdk_class)


def _missing(*modules: str) -> list[str]:
    """Return those of some modules that `_import_all` has not imported."""
    return [module for module in modules if module not in _imported]


def _import_all(modules: Sequence[str]) -> None:
    """Import modules, one thread at a time.

    SDKs have circular imports: a thread that imports a part of one, while another imports the whole, finds modules that
    are not complete. For the same reason it does not suffice that a module is in `sys.modules`.
    """
    with _importing, collection_paused():
        for module in modules:
            import_module(module)
            _imported.add(module)


async def warm_up(*providers: AnyProvider) -> None:
    """Load what the first request to these providers needs: imports, in a thread, and clients.

    An SDK takes up to a second to import, and the first request would block the event loop for that long. Await this
    when a service starts. `create_app` and `router` do it for the
    providers of what they serve.

    Args:
        providers: names, mappings or providers, as `get_provider` takes them; by default, the environment's provider.

    Raises:
        ProviderNotFound: there is no such provider.
        ProviderNotInstalled: the SDK is missing.
        MissingAPIKey: the provider needs a key, and there is none.
    """
    named = environment_provider()
    for given in providers or ((named,) if named else ()):
        provider = get_provider(given) if isinstance(given, str | Mapping) else given
        load: Callable[[], Awaitable[None]] | None = getattr(provider, "warm_up", None)
        if load is not None:
            await load()


async def shared_client(key: Hashable, make: Callable[[], tuple[T, Close]]) -> T:
    """Return the client for `key` on the running loop; `make` builds it, with the function that closes it.

    A forked process gets its own clients, since two processes must not write to one socket.
    """
    clients = (await open_resources()).clients
    if key not in clients:
        clients[key] = make()
    return cast("T", clients[key][0])


def environment(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return the variables with these prefixes, which an SDK reads when its client is built, as part of a key."""
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
