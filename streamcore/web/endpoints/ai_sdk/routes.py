"""Build the routes of chats, whose errors are texts that the client shows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends

from streamcore.relay import Relay
from streamcore.web.durable import DurableGraphs
from streamcore.web.endpoints.ai_sdk.runs import ChatRuns
from streamcore.web.endpoints.ai_sdk.service import ChatEndpoint, refused
from streamcore.web.endpoints.catalog import Catalog
from streamcore.web.endpoints.problems import problem_of
from streamcore.web.endpoints.service import Limits
from streamcore.web.guard import limited
from streamcore.web.peers import Peers
from streamcore.wire.encoding.wire import Problem

PATH = "/api/chat"
"""The path that `useChat` sends to unless it is configured with another."""

_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A UI message stream of the AI SDK.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"description": "The error, as text.", "content": _TEXT} for code in codes}


def chat_routes(
    catalog: Catalog,
    relay: Relay,
    name: str,
    peers: Peers,
    limits: Limits,
    dependencies: Sequence[Depends],
    max_body: int,
    durable: DurableGraphs | None = None,
) -> APIRouter:
    """Return the routes of the chats of a service."""
    endpoint = ChatEndpoint(catalog, ChatRuns(relay, name, limits.per_client, durable), peers, limits)
    routes = APIRouter(route_class=_route_class(max_body), dependencies=[*dependencies])
    routes.add_api_route(
        PATH,
        endpoint.send,
        methods=["POST"],
        response_class=Response,
        name="ai-sdk",
        responses={**_STREAM, **_errors(400, 401, 404, 408, 409, 413, 429)},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
        },
    )
    nothing: dict[int | str, dict[str, Any]] = {204: {"description": "No answer runs in this chat."}}
    routes.add_api_route(
        f"{PATH}/{{chat_id:path}}/stream",
        endpoint.resume,
        methods=["GET"],
        response_class=Response,
        responses={**_STREAM, **nothing, **_errors(401)},
    )
    routes.add_api_route(f"{PATH}/{{chat_id:path}}/stop", endpoint.stop, methods=["POST"], responses=_errors(401, 503))
    return routes


def _route_class(max_body: int) -> Any:
    """Return a class of routes that answer errors of dependencies as text."""

    class ChatRoute(limited(max_body)):  # type: ignore[misc]  # a class that a function returns
        def method_refused(self, why: str) -> Response:
            return refused(Problem("invalid", why, status=405), None)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_as_text(request: Request) -> Response:
                try:
                    response: Response = await handle(request)
                except HTTPException as error:
                    return refused(problem_of(error), error.headers)
                except RequestValidationError as error:
                    first = error.errors()[0]
                    return refused(Problem("invalid", f"{first['loc'][-1]}: {first['msg']}"), None)
                return response

            return handle_as_text

    return ChatRoute
