"""Build the routes of AG-UI."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.params import Depends
from fastapi.routing import APIRoute

from streamcore.sse.agui.encoder import problem_body
from streamcore.web.endpoints.agui.service import AguiEndpoint
from streamcore.web.endpoints.problems import problem_of
from streamcore.web.guard import limited
from streamcore.wire.encoding.wire import STATUSES, Problem


def agui_routes(endpoint: AguiEndpoint, max_body: int, dependencies: Sequence[Depends]) -> APIRouter:
    """Return the routes to start a run, and to stop one."""

    class AguiRoute(limited(max_body)):  # type: ignore[misc]  # a class that a function returns
        def method_refused(self, why: str) -> Response:
            return Response(problem_body(Problem("invalid", why)), 405, None, "application/json")

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_errors(request: Request) -> Response:
                try:
                    response: Response = await handle(request)
                except HTTPException as error:
                    problem = problem_of(error)
                    status = problem.status or STATUSES[problem.kind]
                    return Response(problem_body(problem), status, error.headers, "application/json")
                return response

            return handle_errors

    route: type[APIRoute] = AguiRoute
    routes = APIRouter(route_class=route, dependencies=[*dependencies])
    stream = {"description": "The events of the run.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
    error = {"description": "Why the run was refused.", "content": _JSON}
    body = {"requestBody": {"required": True, "content": _JSON}}
    routes.add_api_route(
        "/agui",
        endpoint.run,
        methods=["POST"],
        response_class=Response,
        name="agui",
        responses={200: stream, 400: error, 401: error, 404: error, 408: error, 409: error, 413: error, 429: error},
        openapi_extra=body,
    )
    routes.add_api_route(
        "/agui/stop",
        endpoint.stop,
        methods=["POST"],
        response_class=Response,
        name="agui-stop",
        responses={
            200: {"description": "Whether a run had to be stopped.", "content": _JSON},
            400: error,
            401: error,
            404: error,
        },
        openapi_extra=body,
    )
    return routes


_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
