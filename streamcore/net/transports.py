"""Choose what requests are sent over, aiohttp or httpx2, and build the HTTP clients for it."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, ProviderNotInstalled, install_command
from streamcore.net.client_cache import no_cookies

if TYPE_CHECKING:
    import httpx2

AUTO = "auto"
TRANSPORTS = (AUTO, "httpx2", "aiohttp")
VARIABLE = "STREAMCORE_TRANSPORT"
AUTO_VARIABLE = "STREAMCORE_AUTO_TRANSPORT"
"""What `auto` means, if it is `httpx2`; the pytest plugin sets it, so that mocks of httpx2 see every request."""
MODULES = {"httpx2": "streamcore.net.httpx2_private", "aiohttp": "streamcore.net.aiohttp_client"}
"""For each transport, the module that imports what sends its requests."""
LOWEST_AIOHTTP, ABOVE_AIOHTTP = (3, 14, 4), (4,)
"""The versions of aiohttp that are supported, as in the extra `aiohttp`."""
_CONNECT_SECONDS = 5.0
_IDLE_CONNECTIONS = 100  # kept open for the next request; the number of connections in use has no limit


def chosen_transport(given: str | None, client: object = None) -> str:
    """Return the transport of a provider: `given`, else the environment's `STREAMCORE_TRANSPORT`, else `auto`.

    `client` is a client of the caller's, which has its own transport.

    Raises:
        ConfigError: there is no such transport, or both `given` and `client` are set.
        ProviderNotInstalled: aiohttp is requested and missing or too old; the message has the command that installs it.
    """
    if client is not None:
        if given is not None:
            raise ConfigError(f"transport={given!r} cannot be combined with your own client; give one of them")
        return "httpx2"
    name = given or os.environ.get(VARIABLE) or AUTO
    if name not in TRANSPORTS:
        where = f"the environment's {VARIABLE}" if given is None else "transport="
        raise ConfigError(f"{where} must be one of {', '.join(map(repr, TRANSPORTS))}, not {name!r}")
    if name == "aiohttp" and not aiohttp_usable():
        found = aiohttp_version()
        state = "is not installed" if found is None else f"is installed in version {found}, which is not supported"
        raise ProviderNotInstalled(
            f"transport 'aiohttp' needs the package 'aiohttp', which {state}; run: {install_command('aiohttp')}"
        )
    return name


def transport_here(chosen: str) -> str:
    """Return what requests are sent over on the running event loop; `auto` becomes aiohttp wherever that can be used.

    That is on asyncio, if a supported version of aiohttp is installed and no proxy of the environment needs httpx2.

    Raises:
        ConfigError: aiohttp was chosen, and trio runs.
    """
    if chosen == "httpx2":
        return chosen
    on_trio = running_on_trio()
    if chosen == "aiohttp":
        if on_trio:
            raise ConfigError(
                f"transport 'aiohttp' runs on asyncio only; under trio, use 'auto' or 'httpx2' (transport=, {VARIABLE})"
            )
        return chosen
    if on_trio or os.environ.get(AUTO_VARIABLE) == "httpx2" or not aiohttp_usable() or not _aiohttp_knows_proxies():
        return "httpx2"
    return "aiohttp"


def aiohttp_usable() -> bool:
    """Return True if a supported version of aiohttp is installed."""
    return _supported(aiohttp_version())


@cache
def aiohttp_version() -> str | None:
    """Return the installed version of aiohttp, None if it is not installed. Does not import it."""
    from importlib import metadata

    try:
        return metadata.version("aiohttp")
    except metadata.PackageNotFoundError:
        return None


def _supported(version: str | None) -> bool:
    numbers = tuple(int(part) for part in (version or "").split(".")[:3] if part.isdecimal())
    return LOWEST_AIOHTTP <= numbers < ABOVE_AIOHTTP


def _aiohttp_knows_proxies() -> bool:
    """Return True if aiohttp can use every proxy of the environment; SOCKS proxies it cannot."""
    return all(
        urlsplit(url if "://" in url else f"http://{url}").scheme in ("http", "https")
        for name, url in getproxies().items()
        if name in ("http", "https", "all")
    )


def new_http_client(transport: str, sdk_class: type[httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """Return a client that sends over the transport: `sdk_class` for httpx2, ours for aiohttp.

    The number of open streams has no limit: a pool with a limit would make the next stream wait without a sign. Reads
    have no timeout: the clocks of `Stream` cover them, and a second timeout would cost as much as the clocks do.
    """
    from httpx2 import Limits, Timeout

    client_class = sdk_class
    if transport == "aiohttp":
        from streamcore.net.aiohttp_client import AiohttpClient as client_class  # noqa: N813
    limits = Limits(max_connections=None, max_keepalive_connections=_IDLE_CONNECTIONS)
    client = client_class(
        limits=limits,
        timeout=Timeout(None, connect=_CONNECT_SECONDS),
        follow_redirects=False,  # the request has a key and a prompt, which are for this server only
        cookies=no_cookies(),
    )
    if transport != "aiohttp":
        from streamcore.net.httpx2_private import use_network_backend, use_several_pools
        from streamcore.net.network_backend import NetworkBackend

        use_network_backend(client, NetworkBackend)
        use_several_pools(client)
    return client
