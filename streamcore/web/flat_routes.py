"""Put the routes of several routers into one, without nesting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter


def flat_router(
    *routers: APIRouter, lifespan: Callable[[Any], AbstractAsyncContextManager[None]] | None = None
) -> APIRouter:
    """Return a router with the routes of others, in their order.

    FastAPI looks for the route of each request again on every level of included routers. The routes keep what their own
    routers gave them: class, dependencies and responses. The others must have no included routers.
    """
    return APIRouter(routes=[route for router in routers for route in router.routes], lifespan=lifespan)
