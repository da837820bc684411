"""Run blocking functions in threads, with a limit of threads for each purpose, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Purpose = Literal["nodes", "checkpoints", "tools", "durable"]

MAX_THREADS = 40
"""The maximum number of threads for one purpose; further calls of that purpose wait."""

_limiters: RunVar[dict[str, anyio.CapacityLimiter]] = RunVar("streamcore_threads")


async def run_in_thread(purpose: Purpose, function: Callable[[], T], *, abandon: bool = False) -> T:
    """Call a blocking function in a thread and return its result; slow calls delay only those of the same purpose.

    With `abandon`, a caller that is cancelled does not wait for the function, whose result is dropped.
    """
    try:
        limiters = _limiters.get()
    except LookupError:
        limiters = dict[str, anyio.CapacityLimiter]()
        _limiters.set(limiters)
    limiter = limiters.get(purpose)
    if limiter is None:
        limiter = limiters[purpose] = anyio.CapacityLimiter(MAX_THREADS)
    return await anyio.to_thread.run_sync(function, limiter=limiter, abandon_on_cancel=abandon)
