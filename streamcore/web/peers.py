"""Find out who sends a request: the real peer, the client behind a trusted proxy, and whether a page of ours does."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from streamcore.errors import ConfigError
from streamcore.web.page_token import has_token

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Network

    from fastapi import Request

GET_REFUSED = (
    "A GET request from here cannot start a run, since any page could make a browser send it. Send the message with "
    "POST /start and read the stream of its run, add the token of GET /token as &token=, or let the operator set "
    "allow_get=True (--allow-get)."
)


class Peers:
    """The proxies that the operator trusts, and whether GET may start runs.

    Args:
        trusted_proxies: addresses or networks, as `10.0.0.0/8`, whose `X-Forwarded-For` is believed.
        allow_get: whether a GET request may start a run; None: only from loopback, or with proof that a page of this
            service or a client that is no browser sends it.
        origins: the origins whose pages may send requests.

    Raises:
        ConfigError: an address is not valid.
    """

    def __init__(self, trusted_proxies: Collection[str], allow_get: bool | None, origins: Collection[str]) -> None:
        self._trusted = [_network(one) for one in trusted_proxies]
        self._allow_get = allow_get
        self._origins = origins

    def address(self, request: Request) -> str:
        """Return the address of the client: the peer's, or the one that a trusted proxy names; of IPv6 the /64."""
        peer = request.client.host if request.client is not None else ""
        if self._trusts(peer):
            forwarded = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
            for hop in reversed([one.strip() for one in forwarded if one.strip()]):
                peer = hop
                if not self._trusts(hop):
                    break
        found = _address(peer)
        if found is None:
            return "" if self._trusts(peer) else peer[:64]
        return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)

    def is_local(self, request: Request) -> bool:
        """Return whether the client is on this machine: the peer is loopback, is no proxy, and has forwarded nothing.

        `Host` does not count, since a proxy may send any.
        """
        peer = request.client.host if request.client is not None else ""
        found = _address(peer)
        forwarded = any(
            name in ("forwarded", "via", "x-real-ip") or name.startswith("x-forwarded-") for name in request.headers
        )
        return found is not None and found.is_loopback and not forwarded and not self._trusts(peer)

    def may_start(self, request: Request) -> bool:
        """Return whether this request may start a run, which costs money."""
        if request.method not in ("GET", "HEAD") or self._allow_get is True:
            return True
        if self._allow_get is False:
            return False
        headers = request.headers
        origin = headers.get("origin")
        if headers.get("sec-fetch-site") == "same-origin" or (
            origin is not None and (origin in self._origins or "*" in self._origins)
        ):
            return True
        if headers.get("authorization", "").lower().startswith("bearer "):
            return True  # a page of another site cannot add this header without asking first
        if has_token(request):
            return True
        return self.is_local(request) and (_is_loopback_name(headers.get("host", "")) or not _is_browser(request))

    def _trusts(self, peer: str) -> bool:
        found = _address(peer)
        return found is not None and any(found in network for network in self._trusted)


def _is_browser(request: Request) -> bool:
    """Return whether a browser sends the request: all name themselves so, and pages cannot change it."""
    return "mozilla/" in request.headers.get("user-agent", "").lower() or "referer" in request.headers


def _is_loopback_name(host: str) -> bool:
    """Return whether `Host` names loopback: to such names browsers say which site sends a request."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    found = _address(name.strip("[]"))
    return name.lower() == "localhost" or (found is not None and found.is_loopback)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigError(
            f"trusted_proxies (--trusted-proxy) must be addresses or networks, as 10.0.0.0/8, not {text!r}"
        ) from error
