"""Share the vendors' SDK clients: one for each setting, event loop and process, closed when the loop ends."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from streamcore.closing import Close, held_here, held_open

T = TypeVar("T")


async def shared_client(key: Hashable, make: Callable[[], tuple[T, Close]]) -> T:
    """Return the client for `key` on the running loop; `make` builds it, with the function that closes it.

    A process that was forked gets its own, since two processes must not write to one socket.
    """
    clients = (await held_open()).clients
    if key not in clients:
        clients[key] = make()
    return cast("T", clients[key][0])


def environment(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that an SDK reads when its client is built, to be part of the client's key."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(prefixes)))


async def aclose_providers() -> None:
    """Close every shared client of the running loop now; the next call opens new ones.

    Services that live as long as their loop need not call it: `asyncio.run` and `trio.run` do the same at their end.
    """
    held = held_here()
    if held is not None:
        await held.close_clients()


@asynccontextmanager
async def lifespan(app: object = None) -> AsyncGenerator[None]:
    """Close every shared client when an application ends, as in `FastAPI(lifespan=streamcore.lifespan)`."""
    try:
        yield
    finally:
        await aclose_providers()
