"""Turn what `auth` returns into the owner of a request's conversations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fastapi import Depends, HTTPException, Request

Auth = Callable[..., Any]
"""A FastAPI dependency: raises HTTPException, or returns the user; None: the request has no user.

A user is a non-empty `str`, an `int`, a `UUID`, or an object whose attribute `id` is one of these.
"""

log = logging.getLogger("streamcore")


def remember_user(auth: Auth, anonymous: bool) -> Callable[..., Awaitable[None]]:
    """Return a dependency that stores the user of a request; `anonymous`: requests without a user are accepted."""
    user_of_request = Depends(auth)

    async def remember(request: Request, user: Any = user_of_request) -> None:
        if user is None and not anonymous:
            raise HTTPException(401, "This service needs a user. Log in first.", {"WWW-Authenticate": "Bearer"})
        request.state.owner = "" if user is None else _identity(user)

    return remember


def _identity(user: Any) -> str:
    """Return the name under which the user's conversations are kept."""
    for identity in (user, getattr(user, "id", None)):
        if isinstance(identity, str) and identity:
            return identity
        if isinstance(identity, int | UUID) and not isinstance(identity, bool):
            return str(identity)
    kind = "an empty str" if user == "" else f"a {type(user).__name__}"
    what = "the user's id (a non-empty str, an int or a UUID), an object whose attribute id is one, or None"
    why = f"auth= of this service returned {kind}; it must return {what}"
    log.error("%s. No request is answered until it does.", why)
    raise HTTPException(500, f"The service is not set up correctly: {why}.")


def owner(request: Request) -> str:
    """Return the user that `auth` returned for a request; "" without `auth`."""
    user: str = getattr(request.state, "owner", "")
    return user
