"""Answer HEAD like GET, and other methods with status 405 and all methods of the path."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send


class MethodsRoute(APIRoute):
    """A route that knows the methods of all routes at its path.

    Attributes:
        path_methods: these methods, sorted; empty until `complete_methods` has been called: only the route's own.
    """

    path_methods: tuple[str, ...] = ()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        method: str = scope["method"]
        own = self.methods or set()
        if method not in own:
            allowed = self.path_methods or tuple(sorted(own))
            response = self.method_refused(f"{method} is not possible here; use {' or '.join(allowed)}")
            response.headers["Allow"] = ", ".join(allowed)
            await response(scope, receive, send)
            return
        await super().handle(scope, receive, _without_content(send) if method == "HEAD" else send)

    def method_refused(self, why: str) -> Response:
        """Return the response with status 405, in the form of the endpoint's other errors."""
        return JSONResponse({"detail": why}, 405)


def _without_content(send: Send) -> Send:
    """Return a function that sends messages without their content."""

    async def send_headers(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_headers


def complete_methods(router: APIRouter) -> APIRouter:
    """Let each path that answers GET answer HEAD, and let each route know its path's methods; return the router.

    HEAD has routes of its own, after all others: a method that is added to a route of FastAPI is also added to OpenAPI.
    The router must have no included routers.
    """
    found = [route for route in router.routes if isinstance(route, MethodsRoute)]
    router.routes.extend(_head_route(route) for route in found if "GET" in (route.methods or ()))
    _note_methods(route for route in router.routes if isinstance(route, MethodsRoute))
    return router


def _head_route(route: MethodsRoute) -> MethodsRoute:
    """Return a route that answers HEAD with what another one answers GET with."""
    head = copy.copy(route)
    head.methods, head.include_in_schema = {"HEAD"}, False
    return head


def _note_methods(routes: Iterable[MethodsRoute]) -> None:
    at: dict[str, list[MethodsRoute]] = defaultdict(list)
    for route in routes:
        at[route.path_format].append(route)
    for same_path in at.values():
        methods = tuple(sorted({method for route in same_path for method in route.methods or ()}))
        for route in same_path:
            route.path_methods = methods
