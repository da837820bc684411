"""Determine which event loop is running, and start tasks on it outside any task group.

This is the only module that asks whether trio runs. trio is never imported here: a program that runs on it has.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import Any


def running_on_trio() -> bool:
    """Return True if the calling code runs in a trio task; on asyncio, and without a loop, return False."""
    return _asks_trio("in_trio_task")


def _asks_trio(question: str) -> bool:
    """Return the answer of a function of `trio.lowlevel`; False if trio is not imported, or still being imported.

    Another thread may be importing it, as an SDK does: then no loop of trio runs.
    """
    function: Callable[[], bool] | None = getattr(getattr(sys.modules.get("trio"), "lowlevel", None), question, None)
    return function is not None and function()


def loop_is_running() -> bool:
    """Return True if an event loop of asyncio or trio is running in the calling thread."""
    if _asks_trio("in_trio_run"):
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def running_loop() -> object:
    """Return an object that identifies the event loop of asyncio or trio that runs the calling task."""
    if running_on_trio():
        token: object = sys.modules["trio"].lowlevel.current_trio_token()
        return token
    return asyncio.get_running_loop()


_tasks: set[asyncio.Task[None]] = set()
"""The tasks that were started here and have not ended; asyncio itself keeps only weak references."""


def start_task(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start an async function on the running loop, outside any task group; the function must not raise."""
    if running_on_trio():
        sys.modules["trio"].lowlevel.spawn_system_task(function, context=copy_context())
    else:
        task = asyncio.get_running_loop().create_task(function())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


def task_starter() -> Callable[..., None]:
    """Return a function that starts an async function, with its arguments, on the loop that is running now.

    The returned function may be called from any thread, from a finalizer, and after the loop has ended: then it does
    nothing. The async function must not raise.
    """
    return _trio_starter() if running_on_trio() else _asyncio_starter()


def _trio_starter() -> Callable[..., None]:
    trio = sys.modules["trio"]
    token = trio.lowlevel.current_trio_token()

    def spawn(*call: Any) -> None:
        with suppress(RuntimeError):  # the run is ending; what is open is closed at its end
            trio.lowlevel.spawn_system_task(*call)

    def start(*call: Any) -> None:
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(spawn, *call)

    return start


def _asyncio_starter() -> Callable[..., None]:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def create(function: Callable[..., Any], *arguments: Any) -> None:
        task = loop.create_task(function(*arguments))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def start(*call: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(create, *call)

    return start
