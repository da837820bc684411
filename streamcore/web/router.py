"""Put the routes over one target together: stream, start, stop, resume, state, about, health, and the page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.graph.load import Graph
from streamcore.provider import AnyProvider
from streamcore.relay import Relay, open_log
from streamcore.sse import Describe
from streamcore.web.guard import limited, same_site
from streamcore.web.models import Problem
from streamcore.web.page import page_routes
from streamcore.web.service import Service
from streamcore.web.targets import ModelOverrides, target_of

Auth = Callable[..., Any]
"""A FastAPI dependency: raises HTTPException, or returns who asks (a str; anything else is one and the same)."""

CONVERSATION_MINUTES = 7 * 24 * 60
"""How long a conversation is kept beside the relay after its last run."""

_TOLD = {
    400: "Nothing can be made of it.",
    401: "Who asks has not said who that is.",
    403: "A page of another site asks.",
    404: "There is no such conversation.",
    409: "The conversation is being answered, or nothing waits for an answer.",
    503: "Answers cannot be kept at the moment; Retry-After says when to try again.",
    413: "The input is too large.",
    429: "As many answers are on their way as may be; Retry-After says when to try again.",
}


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem, "description": _TOLD[code]} for code in codes}


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events; the last of them tells the end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "headers": {"X-Session-Id": {"description": "The conversation.", "schema": {"type": "string"}}},
    },
    **_problems(400, 404, 409, 413, 429),
}


def router(
    target: str | Path | Graph,
    *,
    provider: AnyProvider | None = None,
    model: str | None = None,
    temperature: float | None = None,
    variables: Mapping[str, Any] | None = None,
    message_as: str | None = None,
    prompts_dir: str | Path | None = None,
    checkpointer: Checkpointer | Mapping[str, Any] | None = None,
    auth: Auth | None = None,
    cors: Collection[str] = (),
    max_input: int = 32_000,
    max_streams: int = 100,
    max_per_user: int | None = None,
    relay: Relay | str | None = None,
    grace: float = 60.0,
    describe: Describe | None = None,
    page: bool = True,
    transport: str | None = None,
) -> APIRouter:
    """Return the routes to a prompt or a graph, to be mounted in an app.

    Mount it with a prefix; the page is then at `<prefix>/`. Its lifespan becomes part of the app's.

    Args:
        target: a graph, the path of a graph's or a prompt's file, or a prompt's name.
        provider: a name or a ready provider; overrides what the files say.
        model: overrides what the files say.
        temperature: overrides what the files say.
        cors: the origins whose pages may send requests, as `https://example.org`; all others get 403.
        variables: values for the prompt's other variables, or for the graph's state.
        message_as: the variable, or key of the state, that a message becomes; found by itself where it is clear.
        prompts_dir: where a prompt is looked for.
        checkpointer: what keeps conversations, see `streamcore.checkpoints`; goes before a graph's own. Without one,
            the memory of the process, for the last 10,000.
        auth: a FastAPI dependency for everything but the page and `/health`. It raises `HTTPException`, or returns who
            asks, a `str`: people see their own conversations only.
        max_input: characters in a message (413 above).
        max_streams: answers that are on their way at once in this worker (429 above).
        max_per_user: the same for one of those whom `auth` names, over all workers.
        relay: where answers are kept for those who lose their connection: the URL of a log that several workers share
            (`redis://...`), or an open `streamcore.relay.Relay`, whose limits then go before these; without, the
            memory of this process.
        grace: seconds without a reader after which an answer is cancelled.
        describe: what an error says to the client, see `streamcore.sse.public_message`.
        page: False leaves the page out.
        transport: what to send over, see `streamcore.get_provider`.

    Raises:
        ConfigError: there is no such target or provider, or it is wrong.
    """
    opened = relay if isinstance(relay, Relay) else _relay(relay, grace, max_streams, max_per_user)
    found = target_of(
        target,
        ModelOverrides(provider, model, temperature, transport),
        given=variables or {},
        message_as=message_as,
        prompts_dir=prompts_dir,
        checkpointer=checkpointer,
        fallback=_memory(relay),
    )
    service = Service(found, opened, max_input, describe)
    routes = APIRouter(lifespan=None if opened is relay else _opening(opened))
    if page:
        routes.include_router(page_routes())
    routes.add_api_route("/health", service.health)
    guarded = APIRouter(
        route_class=limited(max_input * 4 + 4096),
        dependencies=[Depends(same_site(cors)), *([Depends(_owned_by(auth))] if auth is not None else [])],
        responses=_problems(*([401] if auth is not None else []), 403, 503),
    )
    add = guarded.add_api_route
    add("/about", service.about)
    add("/stream", service.stream_new, response_class=Response, responses=_STREAM)
    add("/stream/{session_id}", service.stream, response_class=Response, responses=_STREAM)
    add("/start", service.start, methods=["POST"], status_code=201, responses=_problems(400, 409, 413, 429))
    add(
        "/resume/{session_id}",
        service.resume,
        methods=["POST"],
        status_code=202,
        responses=_problems(400, 404, 409, 413, 429),
    )
    add("/stop/{session_id}", service.stop, methods=["POST"], responses=_problems(404))
    add("/state/{session_id}", service.state, responses=_problems(404))
    routes.include_router(guarded)
    return routes


def _relay(url: str | None, grace: float, max_streams: int, max_per_user: int | None) -> Relay:
    return Relay(open_log(url), grace=grace, max_runs=max_streams, max_per_owner=max_per_user)


def _memory(relay: Relay | str | None) -> Checkpointer:
    """Return what keeps conversations when nothing else is said: what several workers share, if they share anything."""
    if isinstance(relay, str) and relay != "memory:":
        return open_checkpointer({"type": "redis", "url": relay, "ttl": CONVERSATION_MINUTES})
    return MemoryCheckpointer()


def _opening(relay: Relay) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        async with relay:
            yield

    return lifespan


def _owned_by(auth: Auth) -> Callable[..., None]:
    asks = Depends(auth)

    def remember(request: Request, user: Any = asks) -> None:
        request.state.owner = user if isinstance(user, str) else ""

    return remember
