"""Give a recording's requests to respx as routes, the bodies in the recorded reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import httpx
import respx

from streamcore.testing.recordings.exchange import Exchange
from streamcore.testing.recordings.matching import Player
from streamcore.testing.recordings.playing import play


def mock(exchanges: Sequence[Exchange], router: respx.Router) -> list[respx.Route]:
    """Set a route for each address of the exchanges; see `Recording.mock`."""
    player = Player(exchanges)

    def answer(request: httpx.Request) -> httpx.Response:
        exchange = player.find(request.method, str(request.url), request.content)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in exchange.headers]
        return httpx.Response(exchange.status, headers=headers, stream=_Body(exchange))

    addresses = {(exchange.request.method, exchange.request.url): None for exchange in exchanges}
    return [router.route(method=method, url=url).mock(side_effect=answer) for method, url in addresses]


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for data in play(self._exchange):
            yield data
