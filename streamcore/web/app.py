"""Build the FastAPI app that serves prompts, graphs and models."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from streamcore import __version__
from streamcore.net.clients import lifespan
from streamcore.provider import AnyProvider
from streamcore.reports.report import Observer
from streamcore.web.endpoints.routes import no_such_path
from streamcore.web.guard import SAFE_HEADERS, SafeHeaders
from streamcore.web.observed import Observed, observers_of
from streamcore.web.router import Target, router

log = logging.getLogger("streamcore")


def create_app(
    target: Target | Sequence[Target] | None = None,
    *,
    provider: AnyProvider | None = None,
    cors: Collection[str] = (),
    allowed_hosts: Collection[str] = ("*",),
    observer: Observer | None = None,
    metrics: bool = False,
    **options: Any,
) -> FastAPI:
    """Return an app that streams prompts, graphs and models: a chat page at `/`, endpoints at `/v1/`.

    Args:
        target: a graph, the path of a graph's or a prompt's file, or a prompt's name; or several; or None, for a
            gateway to `allow_models`. See `router`.
        provider: a name or a ready provider; overrides what the files say.
        cors: the origins whose pages may send requests, as `https://example.org`; all others get status 403.
        allowed_hosts: the values of the header `Host` that are accepted. A service on loopback should name its own, so
            that no other site can reach it through its DNS.
        observer: a function that receives the events of all that requests begin; see the guide "Observing".
        metrics: True serves metrics for Prometheus at `/metrics`, without authentication.
        options: more arguments of `router`.

    Raises:
        ConfigError: there is no such target or provider, or it is not valid.
    """
    routes = router(target, provider=provider, cors=cors, **options)
    app = FastAPI(
        title="streamcore",
        version=__version__,
        lifespan=_with_clients(routes),
        docs_url=None,
        redoc_url=None,
        routes=routes.routes,  # `include_router` would build each of them a second time, at the first request
    )
    app.router.redirect_slashes = False  # a redirect would be built from the header Host
    app.add_exception_handler(Exception, _failed)
    if options.get("endpoints", True):
        app.add_exception_handler(404, _not_found)
    if "*" not in allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts), www_redirect=False)
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=["*"],  # the vendors' SDKs send many of their own
            expose_headers=["X-Session-Id", "x-request-id", "request-id", "retry-after", "x-should-retry"],
        )
    observers = observers_of(observer, metrics=metrics, routes=app.include_router)
    app.add_middleware(Observed, observers=observers)
    app.add_middleware(SafeHeaders)  # the outermost, for the responses of the others
    return app


def _with_clients(routes: APIRouter) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return a lifespan that closes the clients of providers after the lifespan of the routes."""

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncGenerator[None]:
        async with lifespan(app), routes.lifespan_context(app):
            yield

    return both


async def _not_found(request: Request, error: Exception) -> Response:
    """Answer a request for a path that is not there; below `/v1/`, in a form that the vendors' SDKs read."""
    assert isinstance(error, HTTPException)  # noqa: S101  the handler is for its status
    if request.url.path.startswith("/v1/") and error.detail == "Not Found":
        return no_such_path(request.url.path)
    return await http_exception_handler(request, error)


async def _failed(_request: Request, error: Exception) -> Response:
    """Answer a request that failed unexpectedly; the server logs the error, too."""
    reference = secrets.token_hex(4)
    log.error("a request failed (reference %s)", reference, exc_info=error)
    return JSONResponse({"detail": f"The service failed (reference {reference})."}, 500, SAFE_HEADERS)
