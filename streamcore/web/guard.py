"""Turn away what is too large, what cannot be kept, and pages of other sites that would spend the owner's tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from streamcore.errors import RelayError

log = logging.getLogger("streamcore")


def limited(max_bytes: int) -> type[APIRoute]:
    """Return the class of routes that read at most so many bytes of a body, whatever its headers say."""

    class LimitedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def limited_handle(request: Request) -> Response:
                count = 0

                async def receive() -> Message:
                    nonlocal count
                    message = await request.receive()
                    count += len(message.get("body", b""))
                    if count > max_bytes:
                        raise too_large(f"a request's body may have {max_bytes} bytes")
                    return message

                if int(request.headers.get("content-length", "0")) > max_bytes:
                    raise too_large(f"a request's body may have {max_bytes} bytes")
                try:
                    return await handle(Request(request.scope, receive))
                except RelayError as error:
                    log.warning("a request failed: %s", error)
                    raise HTTPException(503, "answers cannot be kept at the moment", {"Retry-After": "5"}) from error

            return limited_handle

    return LimitedRoute


def too_large(why: str) -> HTTPException:
    """Return the error for too much input."""
    return HTTPException(413, why)


def same_site(allowed: Collection[str]) -> Callable[[Request], None]:
    """Return a dependency that refuses requests which a page of another origin makes, unless it is allowed.

    CORS alone keeps such a page from reading the answer; the answer would be generated, and paid for, all the same.
    """

    def check(request: Request) -> None:
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site")
        if origin is not None and (origin in allowed or "*" in allowed):
            return
        if site is None:  # no browser, or an old one
            foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        else:
            foreign = site not in ("same-origin", "none")
        if foreign:
            raise HTTPException(403, f"pages of {origin or 'other sites'} may not ask here; see cors= of create_app")

    return check
