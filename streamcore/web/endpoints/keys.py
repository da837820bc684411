"""Accept the API keys of an operator's list, from `Authorization: Bearer` or `x-api-key`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection

from fastapi import HTTPException, Request

from streamcore.errors import ConfigError


def key_of(request: Request) -> str | None:
    """Return the key that a client sends; None without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("x-api-key") or None


def key_auth(keys: Collection[str]) -> Callable[[Request], Awaitable[str]]:
    """Return an `auth` that accepts these keys; each key is a user of its own.

    Raises:
        ConfigError: a key is empty, or has blanks.
    """
    if not keys or any(not key or key.split() != [key] for key in keys):
        raise ConfigError("api_keys= (--api-key, STREAMCORE_API_KEYS) must be keys without blanks, at least one")
    digests = {hashlib.sha256(key.encode()).digest(): f"key-{_short(key)}" for key in keys}

    async def check(request: Request) -> str:  # a function that is not async would run in a thread
        given = hashlib.sha256((key_of(request) or "").encode()).digest()
        found = None
        for digest, user in digests.items():  # all of them, so that the time says nothing
            if hmac.compare_digest(digest, given):
                found = user
        if found is None:
            raise HTTPException(
                401,
                "This service needs an API key, as `Authorization: Bearer KEY` or `x-api-key: KEY`.",
                {"WWW-Authenticate": "Bearer"},
            )
        return found

    return check


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:12]
