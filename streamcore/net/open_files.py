"""Raise this process's limit of open files, of which each connection is one, and say what to do where it is reached."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from typing import cast

if sys.platform != "win32":
    import resource  # here, since where it is needed no file can be opened any more


def raise_limit() -> bool:
    """Raise the soft limit of open files to the hard one, as every process may; return True if it was raised.

    Many systems start processes with a soft limit of 1,024 for the sake of programs that call `select()`, which event
    loops do not.
    """
    if sys.platform == "win32":
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft == hard:
        return False
    with suppress(ValueError, OSError):  # macOS refuses infinity
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return True
    return False


def limit() -> int | None:
    """Return how many files this process may have open; None where the system has no such limit."""
    if sys.platform == "win32":
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def is_out_of_files(error: BaseException | None) -> bool:
    """Return True if an error, its cause, or a member of a group says that no file can be opened any more."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno in (errno.EMFILE, errno.ENFILE):
            return True
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += cast("tuple[BaseException, ...]", link.exceptions)  # pyright: ignore[reportUnknownMemberType]
    return False


def out_of_files() -> str:
    """Raise the limit if that is allowed, and return the message for a connection that could not be opened."""
    reached = limit()
    said = "" if reached is None else f" of {reached:,}"
    message = f"could not connect: this process has reached its limit{said} open files, and a stream needs one"
    if raise_limit():
        return f"{message}; the limit is {limit():,} now, so try again"
    return f"{message}; raise the hard limit (`ulimit -Hn 65536`, LimitNOFILE= of a systemd service) and start again"
