"""Build the routes of the endpoints, whose errors have the form of their wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.routing import APIRoute

from streamcore.relay import Relay
from streamcore.web.endpoints.agui.routes import agui_routes
from streamcore.web.endpoints.agui.service import AguiEndpoint
from streamcore.web.endpoints.ai_sdk.routes import chat_routes
from streamcore.web.endpoints.catalog import Catalog
from streamcore.web.endpoints.problems import problem_of
from streamcore.web.endpoints.service import Endpoint, Limits
from streamcore.web.endpoints.slots import Slots
from streamcore.web.endpoints.stored import StoredAnswers
from streamcore.web.endpoints.stored_routes import StoredRoutes
from streamcore.web.guard import limited
from streamcore.web.peers import Peers
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import Problem, Wire, find_wire, wires

MAX_BODY = 16 * 2**20
"""The most bytes of a request, which may have images."""

DEFAULT_WIRE = "openai-chat"
"""The wire whose errors the list of models has."""


def _route_class(wire: Wire) -> type[APIRoute]:
    """Return a class of routes that answer errors of dependencies in the form of the wire."""

    class WireRoute(limited(MAX_BODY)):  # type: ignore[misc]  # a class that a function returns
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_in_wire(request: Request) -> Response:
                try:
                    response: Response = await handle(request)
                except HTTPException as error:
                    return _refused(wire, problem_of(error), error.headers)
                except RequestValidationError as error:
                    first = error.errors()[0]
                    name = ".".join(map(str, first["loc"][1:]))
                    return _refused(wire, Problem("invalid", f"{name}: {first['msg']}", name or None), None)
                return response

            return handle_in_wire

    return WireRoute


def _refused(wire: Wire, problem: Problem, headers: Any) -> Response:
    return Response(dumps(wire.error_body(problem, None)), wire.status(problem), headers, "application/json")


def endpoint_routes(
    endpoints: Sequence[tuple[Endpoint, StoredAnswers]], catalog: Catalog, dependencies: Sequence[Depends]
) -> APIRouter:
    """Return the routes of the endpoints, and of the list of models."""
    routes = APIRouter()
    for endpoint, stored in endpoints:
        wire = endpoint.wire
        path = wire.path or ""
        own = APIRouter(route_class=_route_class(wire), dependencies=[*dependencies])
        own.add_api_route(
            path,
            endpoint.answer,
            methods=["POST"],
            response_class=Response,
            name=wire.name,
            responses={200: _CONTENT, 400: _ERROR, 401: _ERROR, 404: _ERROR, 429: _ERROR},
            openapi_extra={"requestBody": {"required": True, "content": _JSON}},
        )
        if wire.stored:
            kept = StoredRoutes(wire, stored)
            for at, handle, method in (
                (f"{path}/{{response_id}}", kept.get, "GET"),
                (f"{path}/{{response_id}}/cancel", kept.cancel, "POST"),
                (f"{path}/{{response_id}}", kept.delete, "DELETE"),
            ):
                own.add_api_route(at, handle, methods=[method], response_class=Response, responses={404: _ERROR})
        routes.include_router(own)
    routes.include_router(_model_routes(catalog, dependencies))
    return routes


def all_endpoints(
    catalog: Catalog,
    slots: Slots,
    peers: Peers,
    limits: Limits,
    relay: Relay,
    dependencies: Sequence[Depends],
    name: str,
) -> APIRouter:
    """Return the routes of every installed wire that has a path, and those of `useChat` and AG-UI.

    Raises:
        ConfigError: no wire is installed.
    """
    find_wire(DEFAULT_WIRE)
    endpoints: list[tuple[Endpoint, StoredAnswers]] = []
    for _, wire in sorted(wires().items()):
        if wire.path is not None:
            stored = StoredAnswers(wire, relay, limits.per_client)
            endpoints.append((Endpoint(wire, catalog, slots, peers, limits, stored), stored))
    routes = endpoint_routes(endpoints, catalog, dependencies)
    routes.include_router(chat_routes(catalog, relay, name, peers, limits, dependencies, MAX_BODY))
    agui = AguiEndpoint(name, catalog, slots, peers, limits, relay)
    routes.include_router(agui_routes(agui, MAX_BODY, dependencies))
    return routes


_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_CONTENT: dict[str, Any] = {
    "description": "The answer, or a stream of Server-Sent Events.",
    "content": {**_JSON, "text/event-stream": {"schema": {"type": "string"}}},
}
_ERROR: dict[str, Any] = {"description": "The error, in the form of the wire.", "content": _JSON}


def _model_routes(catalog: Catalog, dependencies: Sequence[Depends]) -> APIRouter:
    routes = APIRouter(route_class=_route_class(find_wire(DEFAULT_WIRE)), dependencies=[*dependencies])
    created = int(time.time())

    async def models() -> dict[str, Any]:
        """Return the models that a client can name."""
        names = catalog.names()
        listed = [_model(name, created) for name in names]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"object": "list", "data": listed, "has_more": False, **ends}

    async def model(name: str) -> dict[str, Any]:
        """Return one model."""
        try:
            return _model(catalog.find(name).name, created)
        except Exception as error:
            problem = problem_of(error)
            raise HTTPException(find_wire(DEFAULT_WIRE).status(problem), problem.message) from error

    routes.add_api_route("/v1/models", models, methods=["GET"])
    routes.add_api_route("/v1/models/{name:path}", model, methods=["GET"], responses={404: _ERROR})
    return routes


def _model(name: str, created: int) -> dict[str, Any]:
    """Return the description of a model, with the fields that any of the wires has."""
    shown = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "streamcore",
        "type": "model",
        "display_name": name,
        "created_at": shown,
    }
