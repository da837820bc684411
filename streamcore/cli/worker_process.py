"""Run one worker of `streamcore serve --workers N` in its own process."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import FrameType

Serve = Callable[[socket.socket, Callable[[], None]], None]
"""Serves a listening socket until the process gets SIGTERM or SIGINT; calls its second argument once it serves."""

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that the supervisor handles. It blocks them while it starts a worker, which unblocks them."""


def run_worker(serve: Serve, listening: socket.socket, news: Connection) -> None:
    """Serve until the supervisor sends SIGTERM, or ends.

    Args:
        serve: what the worker does; it handles SIGTERM and SIGINT while it serves.
        listening: the socket that all workers share.
        news: is written to once the worker serves.
    """
    # Ctrl-C and the end of a terminal reach all processes; what they mean is decided by the supervisor.
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGTERM, _exit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    if logging.lastResort is not None:  # what is not logged as JSON
        logging.lastResort.setFormatter(logging.Formatter("[%(process)d] %(message)s"))

    def serves() -> None:
        news.send_bytes(b"serves")
        news.close()

    serve(listening, serves)


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
