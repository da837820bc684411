"""Share the vendors' SDK clients: one for each setting, event loop and process, closed when the loop ends."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from anyio.lowlevel import RunVar

log = logging.getLogger("streamcore")

T = TypeVar("T")
Close = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class _Clients:
    """The clients of one loop in one process."""

    pid: int
    clients: dict[Hashable, tuple[Any, Close]] = field(default_factory=dict[Hashable, tuple[Any, Close]])
    guard: AsyncGenerator[None] | None = None


_current: RunVar[_Clients] = RunVar("streamcore_clients")


async def shared_client(key: Hashable, make: Callable[[], tuple[T, Close]]) -> T:
    """Return the client for `key` on the running loop; `make` builds it, with the function that closes it.

    A process that was forked gets its own, since two processes must not write to one socket.
    """
    held = _current.get(None)
    if held is None or held.pid != os.getpid():
        held = _Clients(os.getpid())
        _current.set(held)
    if held.guard is None:
        # An async generator that has begun is closed by the loop when it ends (`asyncio.run`, `trio.run`); this one
        # waits for that moment. No task and no scope stay open.
        held.guard = _guard(held)
        await anext(held.guard)
    if key not in held.clients:
        held.clients[key] = make()
    return cast("T", held.clients[key][0])


def environment(*prefixes: str) -> tuple[tuple[str, str], ...]:
    """Return the variables that an SDK reads when its client is built, to be part of the client's key."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith(prefixes)))


async def aclose_providers() -> None:
    """Close every shared client of the running loop now; the next call opens new ones.

    Services that live as long as their loop need not call it: `asyncio.run` and `trio.run` do the same at their end.
    """
    held = _current.get(None)
    if held is not None and held.pid == os.getpid():
        await _close(held)


@asynccontextmanager
async def lifespan(app: object = None) -> AsyncGenerator[None]:
    """Close every shared client when an application ends, as in `FastAPI(lifespan=streamcore.lifespan)`."""
    try:
        yield
    finally:
        await aclose_providers()


async def _guard(held: _Clients) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        await _close(held)


async def _close(held: _Clients) -> None:
    clients, held.clients = held.clients, {}
    for client, close in clients.values():
        try:
            await close()
        except Exception:  # one client that cannot be closed must not keep the others open
            log.warning("closing %r failed", type(client).__name__, exc_info=True)
