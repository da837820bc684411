"""Close what was left open: a stream whose reader is gone, and everything at the end of the event loop.

A stream is a chain of async generators. A loop that ends closes all the generators that it knows at the same time,
the inner ones while the outer ones do it too, which fails loudly. So the chain stays unknown to the loop, and one more
generator, the guard, which the loop knows, closes each chain from its outer end, and after them the clients.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Hashable
from contextlib import suppress
from contextvars import copy_context
from types import coroutine
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import RunVar

log = logging.getLogger("streamcore")

CLOSE_SECONDS = 2.0
"""How long closing a vendor's response may take when its reader is being cancelled, or the loop ends."""

T = TypeVar("T")
Close = Callable[[], Awaitable[object]]


class Held:
    """What is open on one event loop in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.streams: set[AsyncGenerator[Any]] = set()
        self.clients: dict[Hashable, tuple[Any, Close]] = {}
        self.guard = self._guard()
        self._start_later = _start_later()

    async def close(self, stream: AsyncGenerator[Any]) -> None:
        """Close a stream, also while being cancelled, unless somebody else has begun to."""
        if stream in self.streams:
            self.streams.discard(stream)
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await stream.aclose()

    def close_later(self, stream: AsyncGenerator[Any]) -> None:
        """Close a stream in the loop's next turn; may be called from a finalizer and from any thread."""
        self._start_later(self._close_abandoned, stream)

    async def close_clients(self) -> None:
        """Close the shared clients."""
        clients, self.clients = self.clients, {}
        for client, close in clients.values():
            try:
                await close()
            except Exception:  # one client that cannot be closed must not keep the others open
                log.warning("closing %r failed", type(client).__name__, exc_info=True)

    async def _close_abandoned(self, stream: AsyncGenerator[Any]) -> None:
        try:
            await self.close(stream)
        except Exception:  # nobody is left to be told
            log.warning("closing an abandoned stream failed", exc_info=True)

    async def _guard(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self.pid == os.getpid():  # sockets that a fork inherited are its parent's to close
                for stream in list(self.streams):
                    await self._close_abandoned(stream)
                with anyio.CancelScope(shield=True):
                    await self.close_clients()


_current: RunVar[Held] = RunVar("streamcore_held")


async def held_open() -> Held:
    """Return what is open on the running loop; its end (`asyncio.run`, `trio.run`) will close that.

    A process that was forked gets its own, since two processes must not write to one socket.
    """
    held = held_here()
    if held is None:
        held = Held()
        _current.set(held)
        # An async generator that has begun is closed by the loop when it ends. No task and no scope stay open.
        await anext(held.guard)
    return held


def held_here() -> Held | None:
    """Return what is open on the running loop, None if nothing ever was."""
    held = _current.get(None)
    return held if held is not None and held.pid == os.getpid() else None


def unregistered(start: Callable[[], Awaitable[T]], *, finalizer: bool = True) -> Awaitable[T]:
    """Call `start()`, to be awaited at once, while the async generators that begin in it stay unknown to the loop.

    Whoever calls this closes them. With `finalizer` the loop still closes one that is dropped all the same; without
    it such a one must end without waiting for anything, and nobody warns about it.
    """
    if finalizer and sys.get_asyncgen_hooks().firstiter is None:
        return start()  # this is done inside of another call like it
    return _unregistered(start, finalizer)


@coroutine
def _unregistered(start: Callable[[], Awaitable[T]], finalizer: bool) -> Generator[Any, Any, T]:
    steps: Any = None
    value: Any = None
    thrown: BaseException | None = None
    while True:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, hooks.finalizer if finalizer else None)
        try:
            if steps is None:
                steps = start().__await__()
            waiting = steps.send(value) if thrown is None else steps.throw(thrown)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            sys.set_asyncgen_hooks(*hooks)
            value = thrown = None  # a traceback that holds its own frame would keep streams alive
        try:
            value = yield waiting
        except BaseException as error:  # noqa: BLE001  raised where it belongs, in the next step
            thrown = error


_tasks: set[asyncio.Task[None]] = set()


def start_task(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start an async function on the running loop, outside of any task group; it must not raise."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        trio.lowlevel.spawn_system_task(function, context=copy_context())
    else:
        task = asyncio.get_running_loop().create_task(function())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def _start_later() -> Callable[..., None]:
    """Return a function that starts an async function, with its arguments, on the loop that is running now.

    After the loop has ended there is nothing to do.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()

        def spawn(*call: Any) -> None:
            with suppress(RuntimeError):  # the run is ending, and the guard's turn comes
                trio.lowlevel.spawn_system_task(*call)

        def on_trio(*call: Any) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(spawn, *call)

        return on_trio

    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def create(function: Callable[..., Any], *arguments: Any) -> None:
        task = loop.create_task(function(*arguments))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def on_asyncio(*call: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(create, *call)

    return on_asyncio
