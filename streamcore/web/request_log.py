"""Say in the log which request failed or was refused: its route and its user, never what it asked."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from fastapi import HTTPException, Request

from streamcore.sse.public import failure_fields
from streamcore.web.users import owner

log = logging.getLogger("streamcore")

_request: ContextVar[tuple[Request, str] | None] = ContextVar("streamcore_request", default=None)


@contextmanager
def answering(request: Request, path: str) -> Generator[None]:
    """Remember the request that this task answers, and the path of its route."""
    token = _request.set((request, path))
    try:
        yield
    finally:
        _request.reset(token)


def log_failed_request(error: Exception, text: str, unexpected: Exception | None = None) -> None:
    """Write a warning about a request that failed before its answer began.

    Args:
        error: the error.
        text: what the log says about it.
        unexpected: the error whose traceback helps.
    """
    route, who = _asked()
    extra = {**failure_fields(error), "route": route, "owner": who}
    log.warning("%s failed: %s", route or "a request", text, exc_info=unexpected, extra=extra)


def log_refused_request(error: HTTPException) -> None:
    """Write that a limit of the service refused a request (429); other refusals are the client's own fault."""
    if error.status_code == 429:
        route, who = _asked()
        extra = {"event": "refusal", "status": 429, "route": route, "owner": who}
        log.info("%s was refused%s: %s", *(route or "a request", _by(who), error.detail), extra=extra)


def _asked() -> tuple[str | None, str | None]:
    """Return the route and the user of the request that this task answers."""
    found = _request.get()
    return (None, None) if found is None else (f"{found[0].method} {found[1]}", owner(found[0]) or None)


def _by(who: str | None) -> str:
    return f" to {who!r}" if who else ""
