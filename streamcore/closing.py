"""Close an async generator whose owner was dropped, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger("streamcore")

CloseLater = Callable[[AsyncGenerator[Any]], None]

_closing: set[asyncio.Task[None]] = set()


def close_later() -> CloseLater:
    """Return a function that closes a generator on the loop that is running now, in its next turn.

    The function may be called from a finalizer and from any thread. It holds the generator until it is closed, so
    that the loop's own hook never sees it abandoned, which trio warns about. After the loop has ended there is
    nothing to do: loops close the generators they know.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        token = trio.lowlevel.current_trio_token()

        def on_trio(generator: AsyncGenerator[Any]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(trio.lowlevel.spawn_system_task, _aclose, generator)

        return on_trio

    loop = asyncio.get_running_loop()

    def start(generator: AsyncGenerator[Any]) -> None:
        task = loop.create_task(_aclose(generator))
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    def on_asyncio(generator: AsyncGenerator[Any]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(start, generator)

    return on_asyncio


async def _aclose(generator: AsyncGenerator[Any]) -> None:
    try:
        await generator.aclose()
    except Exception:  # nobody is left to be told
        log.warning("closing an abandoned stream failed", exc_info=True)
