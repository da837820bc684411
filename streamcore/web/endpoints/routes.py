"""Build the routes of the endpoints, whose errors have the form of their wire."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.routing import APIRoute

from streamcore.errors import ConfigError
from streamcore.relay import Relay
from streamcore.web.durable import DurableGraphs
from streamcore.web.endpoints.agui.routes import agui_routes
from streamcore.web.endpoints.agui.service import AguiEndpoint
from streamcore.web.endpoints.ai_sdk.routes import chat_routes
from streamcore.web.endpoints.catalog import Catalog
from streamcore.web.endpoints.problems import problem_of
from streamcore.web.endpoints.service import Endpoint, Limits
from streamcore.web.endpoints.slots import Slots
from streamcore.web.endpoints.stored import StoredAnswers
from streamcore.web.endpoints.stored_routes import StoredRoutes
from streamcore.web.flat_routes import flat_router
from streamcore.web.guard import limited
from streamcore.web.peers import Peers
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import Problem, RequestRefused, Wire, find_wire, wires

MAX_BODY = 16 * 2**20
"""The maximum number of bytes of a request, which may have images."""

DEFAULT_WIRE = "openai-chat"
"""The wire whose errors the list of models has."""


OTHER_ENDPOINTS = frozenset({"agui", "ai-sdk"})
"""The names of the endpoints that are no vendor's wire."""


def _route_class(wire: Wire) -> type[APIRoute]:
    """Return a class of routes that answer errors of dependencies in the form of the wire."""

    class WireRoute(limited(MAX_BODY)):  # type: ignore[misc]  # a class that a function returns
        def method_refused(self, why: str) -> Response:
            return _refused(wire, Problem("invalid", why, status=405), None)

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


def _refused(wire: Wire, problem: Problem, headers: Mapping[str, str] | None) -> Response:
    """Return an error in the form of a wire, with an id for the request."""
    identity = f"req_{secrets.token_hex(12)}"
    body = dumps(wire.error_body(problem, identity))
    given = {**(headers or {}), wire.request_id_header: identity}
    return Response(body, wire.status(problem), given, "application/json")


def no_such_path(path: str) -> Response:
    """Return the error for a path below `/v1/` that no endpoint has, in the form of the list of models."""
    paths = ", ".join(sorted(wire.path for wire in wires().values() if wire.path))
    problem = Problem("not_found", f"there is no {path[:200]!r}; the endpoints are {paths} and /v1/models")
    return _refused(find_wire(DEFAULT_WIRE), problem, None)


def endpoint_routes(
    endpoints: Sequence[tuple[Endpoint, StoredAnswers]], catalog: Catalog, dependencies: Sequence[Depends]
) -> APIRouter:
    """Return the routes of the endpoints, and of the list of models."""
    routers: list[APIRouter] = []
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
            responses={
                200: _CONTENT,
                **dict.fromkeys((400, 404, 408, 409, 413, 429, 500, 502, 503, 504), _ERROR),
                **_ERRORS,
            },
            openapi_extra={"requestBody": {"required": True, "content": _JSON}},
        )
        if wire.stored:
            kept = StoredRoutes(wire, stored)
            for at, handle, method in (
                (f"{path}/{{response_id}}", kept.get, "GET"),
                (f"{path}/{{response_id}}/cancel", kept.cancel, "POST"),
                (f"{path}/{{response_id}}", kept.delete, "DELETE"),
            ):
                own.add_api_route(
                    at,
                    handle,
                    methods=[method],
                    response_class=Response,
                    responses={200: _CONTENT, 404: _ERROR, **_ERRORS},
                )
        routers.append(own)
    return flat_router(*routers, _model_routes(catalog, dependencies))


def endpoint_name(path: str) -> str:
    """Return the name of the endpoint at a path below `/v1/`, as `chat-completions`."""
    return path.removeprefix("/v1/").replace("/", "-")


def chosen_endpoints(only: bool | Collection[str]) -> frozenset[str]:
    """Return the names of the endpoints to serve; True: all.

    Raises:
        ConfigError: there is no endpoint with such a name.
    """
    known = frozenset(endpoint_name(wire.path) for wire in wires().values() if wire.path) | OTHER_ENDPOINTS
    if only is True:
        return known
    for name in only or ():
        if name not in known:
            raise ConfigError(f"there is no endpoint {name!r}; there are: {', '.join(sorted(known))}")
    return frozenset(only or ())


def all_endpoints(
    catalog: Catalog,
    slots: Slots,
    peers: Peers,
    limits: Limits,
    relay: Relay,
    dependencies: Sequence[Depends],
    name: str,
    only: bool | Collection[str] = True,
    durable: DurableGraphs | None = None,
) -> APIRouter:
    """Return the routes of all wires that are installed and have a path, of `useChat` and of AG-UI.

    With `only`, those of these endpoints.

    Raises:
        ConfigError: no wire is installed, or an endpoint in `only` is not known.
    """
    if not only:
        return APIRouter()
    find_wire(DEFAULT_WIRE)
    chosen = chosen_endpoints(only)
    endpoints: list[tuple[Endpoint, StoredAnswers]] = []
    for _, wire in sorted(wires().items()):
        if wire.path is not None and endpoint_name(wire.path) in chosen:
            stored = StoredAnswers(wire, relay, limits.per_client)
            endpoints.append((Endpoint(wire, catalog, slots, peers, limits, stored), stored))
    routers = [endpoint_routes(endpoints, catalog, dependencies)]
    if "ai-sdk" in chosen:
        routers.append(chat_routes(catalog, relay, name, peers, limits, dependencies, MAX_BODY, durable))
    if "agui" in chosen:
        agui = AguiEndpoint(name, catalog, slots, peers, limits, relay, durable)
        routers.append(agui_routes(agui, MAX_BODY, dependencies))
    return flat_router(*routers)


_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
_CONTENT: dict[str, Any] = {
    "description": "The answer, or a stream of Server-Sent Events.",
    "content": {**_JSON, "text/event-stream": {"schema": {"type": "string"}}},
}
_ERROR: dict[str, Any] = {"description": "The error, in the form of the wire.", "content": _JSON}
_ERRORS: dict[int | str, dict[str, Any]] = {401: _ERROR, 403: _ERROR, "default": _ERROR}
"""The errors of every route; `default` also keeps out FastAPI's own form of errors about parameters."""


def _model_routes(catalog: Catalog, dependencies: Sequence[Depends]) -> APIRouter:
    routes = APIRouter(route_class=_route_class(find_wire(DEFAULT_WIRE)), dependencies=[*dependencies])
    created = int(time.time())

    async def models() -> dict[str, Any]:
        """Return the models that a client can name."""
        names = catalog.names()
        listed = [_model(name, created) for name in names]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"object": "list", "data": listed, "has_more": False, **ends}

    async def model(name: str) -> Any:
        """Return one model."""
        try:
            return _model(catalog.find(name).name, created)
        except RequestRefused as error:
            return _refused(find_wire(DEFAULT_WIRE), error.problem, None)

    routes.add_api_route("/v1/models", models, methods=["GET"], responses=_ERRORS)
    routes.add_api_route("/v1/models/{name:path}", model, methods=["GET"], responses={404: _ERROR, **_ERRORS})
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
