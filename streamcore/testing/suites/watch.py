"""Check that code leaves nothing open: no task, socket or file, and no message to stderr or a hook."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import warnings
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

from streamcore.concurrency.event_loop import running_on_trio

_TURNS = 10  # of the event loop, in which a dropped object may still close itself


class LeftBehind(AssertionError):  # noqa: N818
    """Something was left open, or an error was reported outside of the caller; the message lists what."""


@asynccontextmanager
async def nothing_left_behind() -> AsyncGenerator[None]:
    """Raise at the end of the block if tasks, sockets or files that it opened are open still, or an error was reported.

    Reported errors are those that reach the event loop's exception handler or `sys.unraisablehook`, and warnings of
    resources that were not closed and of coroutines that were not awaited.

    Raises:
        LeftBehind: something is open or was reported.
    """
    with quiet() as problems:
        tasks = _tasks()
        with _loop_watched(problems):
            yield
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
            gc.collect()  # an object that is freed here reports its error here
            for _ in range(_TURNS):
                await anyio.lowlevel.checkpoint()
        problems += [f"still running: {task}" for task in _tasks() - tasks]


@contextmanager
def quiet() -> Generator[list[str]]:
    """Do the same without a running loop, for files, sockets and errors; yield the list of the errors so far.

    Raises:
        LeftBehind: something is open or was reported.
    """
    problems: list[str] = []
    before = _open_files()
    hook = sys.unraisablehook
    if _frozen_before():
        gc.collect()  # of what is frozen below, nothing is collected later
    gc.freeze()  # so that the collection at the end visits the block's objects only, which is fast
    sys.unraisablehook = lambda args: problems.append(f"unraisable: {args.exc_value!r} in {args.object!r}")
    try:
        with warnings.catch_warnings(record=True) as warned:
            for category in (ResourceWarning, RuntimeWarning):
                warnings.simplefilter("always", category)
            yield problems
            gc.collect()
    finally:
        sys.unraisablehook = hook
        if not _frozen_before():
            gc.unfreeze()
    problems += [f"warning: {warning.message}" for warning in warned]
    problems += [f"still open: {what}" for what in sorted(_open_files() - before)]
    if problems:
        raise LeftBehind("\n".join(["left behind:", *problems]))


@functools.cache
def _frozen_before() -> bool:
    """Return True if the process has frozen objects before the first block: then it wants them to stay frozen.

    It is found out once, since the interpreter counts the frozen objects one by one.
    """
    return gc.get_freeze_count() > 0


@contextmanager
def _loop_watched(problems: list[str]) -> Generator[None]:
    """Collect what reaches asyncio's exception handler; trio raises such errors."""
    if running_on_trio():
        yield
        return
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problems.append(f"event loop: {context.get('message')} {context.get('exception')!r}")

    loop.set_exception_handler(report)
    try:
        yield
    finally:
        loop.set_exception_handler(handler)


def _tasks() -> set[object]:
    """Return the tasks of the running loop."""
    if not running_on_trio():
        return set(asyncio.all_tasks())
    import trio

    found: set[object] = set()
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            found.add(task)
            for nursery in task.child_nurseries:
                waiting.extend(nursery.child_tasks)
    return found


def _open_files() -> set[str]:
    """Return the open files and sockets of this process; none where the system does not list them.

    The null device is left out: uvloop opens it with the first connection of a loop, and keeps it.
    """
    found: set[str] = set()
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            for name in os.listdir(folder):  # noqa: PTH208  a Path for each would cost more than it reads
                try:
                    target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
                except OSError:  # the one that listing opened, gone already; or no links on this system
                    continue
                if target != os.devnull:
                    found.add(f"{name} -> {target}")
            break
    return found
