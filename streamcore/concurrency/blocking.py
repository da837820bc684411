"""Run coroutines on a loop of their own for a caller who waits, also inside a running event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from streamcore.concurrency.event_loop import loop_is_running

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long a caller who was interrupted waits for the coroutine to end."""


class BlockingLoop:
    """An event loop of asyncio that runs one coroutine at a time, each to its end.

    It runs in the calling thread. If a loop is running there already, as in a notebook, it runs in another thread, with
    the context variables of the caller, and the running loop is blocked meanwhile.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine, or raise what it raises; it is cancelled if the caller is interrupted."""
        if not loop_is_running():
            return self._runner.run(coroutine)
        call = _Call(coroutine)
        return _in_thread(lambda: self._runner.run(call.run()), call.cancel)

    def close(self) -> None:
        """Close the loop; tasks that still run on it are cancelled."""
        if loop_is_running():
            _in_thread(self._runner.close)
        else:
            self._runner.close()


def _in_thread(function: Callable[[], T], cancel: Callable[[], object] = lambda: None) -> T:
    """Return the result of a function, which another thread runs; if the caller is interrupted, `cancel` ends it."""
    context, result = copy_context(), Future[T]()
    context.run(_forget_library)

    def work() -> None:
        try:
            found = context.run(function)
        except BaseException as error:  # noqa: BLE001  the caller raises it
            result.set_exception(error)
        else:
            result.set_result(found)

    try:
        # An executor loses sight of its thread if its caller is interrupted while the thread starts.
        threading.Thread(target=work, name="streamcore-sync").start()
        return result.result()
    except BaseException:
        if not result.done():
            cancel()
            wait([result], CLOSE_SECONDS)
        raise


def _forget_library() -> None:
    """Remove the name of the library whose loop runs in this thread; `anyio.run` keeps it in the context."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)


class _Call(Generic[T]):
    """A coroutine that another thread can cancel."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def run(self) -> T:
        """Run the coroutine."""
        self._task = asyncio.current_task()
        if self._cancelled:
            self._coroutine.close()
            raise asyncio.CancelledError
        return await self._coroutine

    def cancel(self) -> None:
        """Cancel the coroutine, also one that has not begun; called in another thread."""
        self._cancelled = True
        if self._task is not None:
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
