"""Keep what is open on an event loop, streams and clients, and close it at the end of the loop at the latest.

A stream is a chain of async generators. A loop that ends closes all generators that it knows at the same time: the
inner ones while the outer ones close them too, which fails with a RuntimeError. So the chain is hidden from the loop
(`generators.py`). The loop knows only one more generator, the guard, which closes each chain from its outer end and
then the clients.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from streamcore.concurrency.event_loop import task_starter
from streamcore.concurrency.generators import CLOSE_SECONDS as CLOSE_SECONDS

log = logging.getLogger("streamcore")

Close = Callable[[], Awaitable[object]]


class OpenResources:
    """The streams and clients that are open on one event loop in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.streams: set[AsyncGenerator[Any]] = set()
        self.clients: dict[Hashable, tuple[Any, Close]] = {}
        self.guard = self._guard()
        self._start_task = task_starter()

    async def close(self, stream: AsyncGenerator[Any]) -> None:
        """Close a stream, also while the caller is being cancelled; do nothing if it is already being closed."""
        if stream in self.streams:
            self.streams.discard(stream)
            with anyio.move_on_after(CLOSE_SECONDS, shield=True) as scope:
                await stream.aclose()
            if scope.cancelled_caught:
                log.warning("closing a stream took longer than %g s and was cancelled", CLOSE_SECONDS)

    def close_later(self, stream: AsyncGenerator[Any]) -> None:
        """Close a stream in the loop's next turn; may be called from a finalizer and from any thread."""
        self._start_task(self._close_and_log, stream)

    async def close_clients(self) -> None:
        """Close the shared clients; an error of one is logged, and the others are closed all the same."""
        clients, self.clients = self.clients, {}
        for client, close in reversed(clients.values()):  # what sends through another client is newer
            try:
                await close()
            except Exception:  # one client that cannot be closed must not keep the others open
                log.warning("closing %r failed", type(client).__name__, exc_info=True)

    async def _close_and_log(self, stream: AsyncGenerator[Any]) -> None:
        try:
            await self.close(stream)
        except Exception:  # the stream has no reader to whom this could be raised
            log.warning("closing an abandoned stream failed", exc_info=True)

    async def _guard(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self.pid == os.getpid():  # inherited sockets are closed by the parent process
                for stream in list(self.streams):
                    await self._close_and_log(stream)
                with anyio.CancelScope(shield=True):
                    await self.close_clients()


_current: RunVar[OpenResources] = RunVar("streamcore_open_resources")


async def open_resources() -> OpenResources:
    """Return the resources of the running loop, a new set at the first call; the loop's end closes them.

    A forked process gets a set of its own, since two processes must not write to one socket.
    """
    resources = known_resources()
    if resources is None:
        resources = OpenResources()
        _current.set(resources)
        # A loop closes each async generator that has begun. No task and no scope stays open for that.
        await anext(resources.guard)
    return resources


def known_resources() -> OpenResources | None:
    """Return the resources of the running loop, None if it never had any."""
    resources = _current.get(None)
    return resources if resources is not None and resources.pid == os.getpid() else None
