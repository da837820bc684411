"""Build the FastAPI app that serves one prompt or graph."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from streamcore import __version__
from streamcore.graph.load import Graph
from streamcore.net.clients import lifespan
from streamcore.provider import AnyProvider
from streamcore.web.router import router


def create_app(
    target: str | Path | Graph,
    *,
    provider: AnyProvider | None = None,
    cors: Collection[str] = (),
    allowed_hosts: Collection[str] = ("*",),
    **options: Any,
) -> FastAPI:
    """Return an app that streams a prompt or a graph, with a chat page at `/`.

    Args:
        target: a graph, the path of a graph's or a prompt's file, or a prompt's name.
        provider: a name or a ready provider; overrides what the files say.
        cors: the origins whose pages may send requests, as `https://example.org`; all others get status 403.
        allowed_hosts: the values of the header `Host` that are accepted. A service on loopback should name its own, so
            that no other site can reach it through its DNS.
        options: more arguments of `router`.

    Raises:
        ConfigError: there is no such target or provider, or it is not valid.
    """
    routes = router(target, provider=provider, cors=cors, **options)
    app = FastAPI(title="streamcore", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(routes)
    if "*" not in allowed_hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed_hosts))
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "Last-Event-ID", "Authorization"],
            expose_headers=["X-Session-Id"],
        )
    return app
