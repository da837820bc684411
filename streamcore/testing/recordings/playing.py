"""Play the reads of a recorded exchange, each at its time."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import httpx2

from streamcore.testing.recordings.exchange import Exchange


async def play(exchange: Exchange) -> AsyncGenerator[bytes]:
    """Yield the reads of an exchange, each at its time after the start.

    Raises:
        httpx2.ReadError: the recorded connection broke here, or the recording's reader left.
    """
    start = anyio.current_time()
    for read in exchange.reads:
        wait = start + read.at - anyio.current_time()
        await anyio.sleep(max(0.0, wait))
        yield read.data
    if exchange.end == "broken":
        raise httpx2.ReadError("the connection broke here when this was recorded")
    if exchange.end == "left":
        raise httpx2.ReadError("the recording ends here: its reader left before the response was over")
