"""Refuse requests that are too large, too slow or of other sites' pages; map a failed store to 503; add headers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from http import HTTPStatus
from typing import Any

import anyio
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamcore.errors import CheckpointError, DurableError, RelayError
from streamcore.net.well_formed import well_formed_json
from streamcore.sse.response import BODY_SEND
from streamcore.web.methods import MethodsRoute
from streamcore.web.request_log import answering, log_failed_request, log_refused_request

log = logging.getLogger("streamcore")


SAFE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""What every response has: nothing is stored on the way, and nothing is taken for another type."""

SILENT_SECONDS, BODY_SECONDS = 30.0, 600.0
"""How long a body may pause, and how long it may take in all."""


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
            headers = MutableHeaders(scope=message)
            headers.update(SAFE_HEADERS)
            if message["status"] == HTTPStatus.REQUEST_TIMEOUT:
                headers["Connection"] = "close"  # the rest of the body is not awaited (RFC 9110, 15.5.9)
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
                length = request.headers.get("content-length", "0")
                if not length.isdecimal() or int(length[:20]) > max_bytes:
                    raise _too_long(max_bytes)
                with answering(request, self.path):
                    try:
                        return await handle(Request(request.scope, _Body(request.receive, max_bytes).receive))
                    except RequestValidationError as error:
                        raise RequestValidationError(_without_input(error)) from None
                    except HTTPException as error:
                        log_refused_request(error)
                        raise
                    except (RelayError, DurableError, CheckpointError) as error:
                        log_failed_request(error, f"{type(error).__name__}: {error}")
                        what = "The conversation" if isinstance(error, CheckpointError) else "Answers"
                        how = "be saved or loaded" if isinstance(error, CheckpointError) else "be stored"
                        text = f"{what} cannot {how} at the moment. Try again later."
                        raise HTTPException(503, text, {"Retry-After": "5"}) from error

            return limited_handle

    return LimitedRoute


def _without_input(error: RequestValidationError) -> list[dict[str, Any]]:
    """Return what is not valid, without the client's values, some of which cannot be sent (NaN, for example).

    The names of unknown fields remain, well-formed.
    """
    found: list[dict[str, Any]] = well_formed_json(
        [{name: value for name, value in one.items() if name not in ("input", "ctx")} for one in error.errors()]
    )
    return found


class _Body:
    """Receive the body of one request, as much and as long as is allowed."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._max = max_bytes
        self._count = 0
        self._deadline = anyio.current_time() + BODY_SECONDS
        self._complete = False

    async def receive(self) -> Message:
        """Receive a part of the body, or what follows it.

        Raises:
            HTTPException: the body is too large (413) or too slow (408).
        """
        if self._complete:
            return await self._receive()
        try:
            with anyio.fail_after(min(SILENT_SECONDS, self._deadline - anyio.current_time())):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408,
                f"The body of the request is too slow: it may pause for {SILENT_SECONDS:g} seconds, and take "
                f"{BODY_SECONDS:g} in all. Send it again.",
            ) from None
        self._count += len(message.get("body", b""))
        if self._count > self._max:
            raise _too_long(self._max)
        self._complete = not message.get("more_body", False)
        return message


def _too_long(max_bytes: int) -> HTTPException:
    return too_large(f"The body of a request may have at most {max_bytes} bytes.")


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
            foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
        else:
            foreign = site not in ("same-origin", "none")
        if foreign:
            raise HTTPException(
                403,
                f"Pages of {origin or 'other sites'} may not send requests; `cors=` of create_app allows an origin.",
            )

    return check
