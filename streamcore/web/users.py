"""Turn what `auth` returns into the owner of a request's conversations."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Depends, HTTPException, Request

Auth = Callable[..., Any]
"""A FastAPI dependency: raises HTTPException, or returns the user, a non-empty `str`; None: the request has no user."""

log = logging.getLogger("streamcore")


def remember_user(auth: Auth, anonymous: bool) -> Callable[..., Awaitable[None]]:
    """Return a dependency that stores the user of a request; `anonymous`: requests without a user are accepted."""
    user_of_request = Depends(auth)

    async def remember(request: Request, user: Any = user_of_request) -> None:
        if isinstance(user, str) and user:
            request.state.owner = user
        elif user is None and anonymous:
            request.state.owner = ""
        elif user is None:
            raise HTTPException(401, "This service needs a user. Log in first.", {"WWW-Authenticate": "Bearer"})
        else:
            kind = "an empty str" if user == "" else f"a {type(user).__name__}"
            why = f"auth= of this service returned {kind}; it must return the user, a non-empty str, or None"
            log.error("%s. No request is answered until it does.", why)
            raise HTTPException(500, f"The service is not set up correctly: {why}.")

    return remember


def owner(request: Request) -> str:
    """Return the user that `auth` returned for a request; "" without `auth`."""
    user: str = getattr(request.state, "owner", "")
    return user
