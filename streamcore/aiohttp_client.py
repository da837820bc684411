"""Keep the old import path of `streamcore.net.aiohttp_client`."""

from streamcore.net.aiohttp_client import *  # noqa: F403
