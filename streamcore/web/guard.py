"""Refuse requests that are too large or come from other sites' pages; map a failed store to 503; add headers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamcore.errors import DurableError, RelayError
from streamcore.sse.response import BODY_SEND
from streamcore.web.methods import MethodsRoute

log = logging.getLogger("streamcore")


SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""What every response has: nothing is stored on the way, and nothing is taken for another type."""


class SafeHeaders:
    """ASGI middleware that adds `SAFE_HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            scope.setdefault(BODY_SEND, send)
            send = with_safe_headers(send)
        await self._app(scope, receive, send)


def with_safe_headers(send: Send) -> Send:
    """Return a function that sends messages, and adds `SAFE_HEADERS` to the response's start."""

    async def send_safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SAFE_HEADERS)
        await send(message)

    return send_safely


def limited(max_bytes: int) -> type[MethodsRoute]:
    """Return a class of routes that read at most `max_bytes` of a body, even if its headers state less."""

    class LimitedRoute(MethodsRoute):
        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault(BODY_SEND, send)
            await super().handle(scope, receive, with_safe_headers(send))

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def limited_handle(request: Request) -> Response:
                count = 0

                async def receive() -> Message:
                    nonlocal count
                    message = await request.receive()
                    count += len(message.get("body", b""))
                    if count > max_bytes:
                        raise too_large(f"The body of a request may have at most {max_bytes} bytes.")
                    return message

                length = request.headers.get("content-length", "0")
                if not length.isdecimal() or int(length[:20]) > max_bytes:
                    raise too_large(f"The body of a request may have at most {max_bytes} bytes.")
                try:
                    return await handle(Request(request.scope, receive))
                except (RelayError, DurableError) as error:
                    log.warning("a request failed: %s", error)
                    raise HTTPException(
                        503, "Answers cannot be stored at the moment. Try again later.", {"Retry-After": "5"}
                    ) from error

            return limited_handle

    return LimitedRoute


def too_large(why: str) -> HTTPException:
    """Return the error for input that is too large."""
    return HTTPException(413, why)


def same_site(allowed: Collection[str]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that refuses requests of pages of other origins that are not allowed.

    CORS only prevents such a page from reading the answer; the answer would still be generated, and cost money.
    """

    async def check(request: Request) -> None:  # a function that is not async would run in a thread
        origin = request.headers.get("origin")
        site = request.headers.get("sec-fetch-site")
        if origin is not None and (origin in allowed or "*" in allowed):
            return
        if site is None:  # not a browser, or an old one
            foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        else:
            foreign = site not in ("same-origin", "none")
        if foreign:
            raise HTTPException(
                403,
                f"Pages of {origin or 'other sites'} may not send requests; `cors=` of create_app allows an origin.",
            )

    return check
