"""Observe what requests begin, inside the trace of their client."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fastapi import APIRouter, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streamcore.observe import Observer, observe
from streamcore.web.methods import MethodsRoute, complete_methods


class Observed:
    """An ASGI middleware: what a request begins is observed, and continues the trace of its header `traceparent`."""

    def __init__(self, app: ASGIApp, observers: tuple[Observer, ...]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":  # what the service itself begins, as durable runs
            with observe(*self._observers):
                await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        header = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        with observe(*self._observers):
            if not header or "opentelemetry" not in sys.modules:
                await self._app(scope, receive, send)
                return
            from streamcore.telemetry.context import continued

            with continued(header.decode("latin-1")):
                await self._app(scope, receive, send)


def observers_of(given: Observer | None, *, metrics: bool, routes: Callable[[APIRouter], None]) -> tuple[Observer, ...]:
    """Return the observers of an app; with `metrics`, also add the route `/metrics`.

    Raises:
        ConfigError: a package for metrics is not installed.
    """
    found = () if given is None else (given,)
    if not metrics:
        return found
    from streamcore.telemetry.prometheus import PrometheusMetrics

    counted = PrometheusMetrics()
    router = APIRouter(route_class=MethodsRoute)

    async def metrics_text() -> Response:
        """Return the metrics in Prometheus' text format. Needs no authentication; it has numbers and names only."""
        return Response(counted.text(), media_type=counted.content_type)

    router.add_api_route("/metrics", metrics_text, include_in_schema=False)
    routes(complete_methods(router))
    return (*found, counted.observer)
