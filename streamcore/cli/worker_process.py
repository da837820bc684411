"""Run one worker of `streamcore serve --workers N` in its own process; end a worker that hangs."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType

import anyio

Serve = Callable[[socket.socket, Callable[[], None]], None]
"""Serves a listening socket until the process gets SIGTERM or SIGINT; calls its second argument once it serves, and
then every `SIGN_SECONDS` while its event loop turns."""

SIGN_SECONDS = 5.0
"""Seconds between two signs of life of a worker."""
HUNG_SECONDS = 60.0
"""Seconds without a sign of life after which a worker is ended; the leases of its runs ended before."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that the supervisor handles. It blocks them while it starts a worker, which unblocks them."""


def run_worker(serve: Serve, listening: socket.socket, news: Connection) -> None:
    """Serve until the supervisor sends SIGTERM, or ends.

    Args:
        serve: what the worker does; it handles SIGTERM and SIGINT while it serves.
        listening: the socket that all workers share.
        news: gets a byte once the worker serves, and for each further sign of life.
    """
    # Ctrl-C and the end of a terminal reach all processes; what they mean is decided by the supervisor.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGTERM, _exit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    if logging.lastResort is not None:  # what is not logged as JSON
        logging.lastResort.setFormatter(logging.Formatter("[%(process)d] %(message)s"))

    faulthandler.enable()  # the supervisor ends a hung worker with SIGABRT, which then writes its stacks
    os.set_blocking(news.fileno(), False)

    def serves() -> None:
        with suppress(BlockingIOError, BrokenPipeError):  # the supervisor reads no more
            os.write(news.fileno(), b".")

    serve(listening, serves)


def in_terminal() -> bool:
    """Return whether this process is used in a terminal, where somebody may debug or suspend it."""
    return sys.stdin is not None and sys.stdin.isatty()


async def end_if_hung(seconds: float = HUNG_SECONDS) -> None:
    """End this process with exit code 1, and write the stacks of its threads, if its event loop does not turn so long.

    Run it in a task. The stacks are written by a thread that needs neither the event loop nor the interpreter's lock.
    """
    try:
        while True:
            faulthandler.dump_traceback_later(seconds, exit=True)
            await anyio.sleep(seconds / 12)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal. Unlike SIG_IGN, this is not inherited by processes that a tool starts."""


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _end_with_supervisor() -> None:
    """Finish as on SIGTERM once the supervisor has ended, however it did."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)
