"""Play the reads of a recorded exchange at their times."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import httpx2

from streamcore.testing.recordings.exchange import Exchange


async def play(exchange: Exchange) -> AsyncGenerator[bytes]:
    """Yield the reads of an exchange at their times after the start.

    Raises:
        httpx2.ReadError: if the recorded connection broke here, or the recorded reader closed the response.
    """
    start = anyio.current_time()
    for read in exchange.reads:
        wait = start + read.at - anyio.current_time()
        await anyio.sleep(max(0.0, wait))
        yield read.data
    if exchange.end == "broken":
        raise httpx2.ReadError("the connection broke here when this was recorded")
    if exchange.end == "left":
        raise httpx2.ReadError("the recording ends here: its reader closed the response before it was complete")
