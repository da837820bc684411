"""Build the routes of one target: stream, start, stop, resume, state, about, health, and the page."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Response

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.errors import ConfigError
from streamcore.graph.limits import RunLimits
from streamcore.graph.load import Graph
from streamcore.provider import AnyProvider
from streamcore.relay import Relay, open_log
from streamcore.sse import Describe
from streamcore.web.guard import limited, same_site
from streamcore.web.models import Problem
from streamcore.web.page import page_routes
from streamcore.web.page_token import page_token, remember_token
from streamcore.web.peers import Peers
from streamcore.web.service import Service
from streamcore.web.sessions import Sessions
from streamcore.web.targets import SERVED_LIMITS, HistoryLimit, ModelOverrides, ServedTarget, load_target
from streamcore.web.users import Auth, remember_user
from streamcore.web.warm_up import warm_up_target

CONVERSATION_MINUTES = 7 * 24 * 60
"""How long the relay's Redis keeps a conversation after its last run."""

_DESCRIPTIONS = {
    400: "The request is not valid; `detail` has the reason.",
    401: "The request has no valid credentials.",
    403: "The request was sent by a page of another site, or a GET may not start a run.",
    404: "There is no such conversation or run.",
    409: "The conversation has a run that has not ended, or waits for no answer.",
    413: "The input is too large.",
    429: "The limit of simultaneous answers is reached; Retry-After has the seconds until another try.",
    503: "Answers cannot be stored at the moment; Retry-After has the seconds until another try.",
}


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem, "description": _DESCRIPTIONS[code]} for code in codes}


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events; the last event is the end of the stream.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "headers": {"X-Session-Id": {"description": "The conversation's id.", "schema": {"type": "string"}}},
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
    anonymous: bool = False,
    name: str | None = None,
    client_variables: Collection[str] = (),
    cors: Collection[str] = (),
    max_input: int = 32_000,
    max_streams: int = 100,
    max_per_user: int | None = None,
    max_seconds: float | None = 600.0,
    limits: RunLimits = SERVED_LIMITS,
    history: HistoryLimit | None = None,
    allow_get: bool | None = None,
    trusted_proxies: Collection[str] = (),
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
        message_as: the variable, or key of the state, that a message becomes; by default it is inferred.
        prompts_dir: the directory of prompts.
        checkpointer: the store of conversations, see `streamcore.checkpoints`; overrides the graph's own. Defaults to
            the memory of the process, which keeps the last 10,000.
        auth: a FastAPI dependency for all routes but the page and `/health`. It raises `HTTPException`, or returns the
            user, a non-empty `str`: users see only their own conversations.
        anonymous: accept requests for which `auth` returns None; they share their conversations' names.
        name: the service. Services with different names share nothing, also on one Redis; workers of one service need
            the same one. Defaults to the target's name and a hash of its file's path.
        client_variables: names of variables, or of declared keys of a graph's state, that clients may set with
            `variables` of `POST /start`; none by default, and never those in `variables`.
        max_input: the most characters in a message and its variables; above, status 413.
        max_streams: the most answers that run at once in this worker; above, status 429.
        max_per_user: the same for each user that `auth` returns, over all workers; without a user, for each address.
            Defaults to a quarter of `max_streams`, and then does not count clients on this machine.
        max_seconds: seconds after which a run is ended as an error; None: no limit.
        limits: what one run may cost; by default 1,000,000 tokens, and of a graph 100 items of a map, 100 model calls,
            1,000 nodes.
        history: how much of a prompt's conversation is kept and sent; by default the last 100 turns.
        allow_get: whether `GET /stream?prompt=` may start a run; None: only for clients on this machine, for pages of
            this service (`Sec-Fetch-Site`, or the token of `GET /token`) or of `cors`. Any page can make a browser
            send a GET, and the answer costs money.
        trusted_proxies: addresses or networks of proxies, whose `X-Forwarded-For` names the client.
        relay: the store of answers for clients that reconnect: the URL of a log that several workers share
            (`redis://...`), or an open `streamcore.relay.Relay`, whose limits override these. Defaults to the memory of
            this process.
        grace: seconds without a reader after which an answer is cancelled.
        describe: returns the message that clients get for an error, see `streamcore.sse.public_message`.
        page: False leaves the page out.
        transport: what requests are sent over, see `streamcore.get_provider`.

    Raises:
        ConfigError: there is no such target or provider, or it is not valid.
    """
    served = load_target(
        target,
        ModelOverrides(provider, model, temperature, transport),
        given=variables or {},
        message_as=message_as,
        client_variables=client_variables,
        prompts_dir=prompts_dir,
        checkpointer=checkpointer,
        fallback=_memory(relay),
        history=history,
        limits=limits,
    )
    name = service_name(name, served)
    per_user = max(1, max_streams // 4) if max_per_user is None else max_per_user
    open_relay = relay if isinstance(relay, Relay) else _relay(relay, name, grace, max_streams, per_user, max_seconds)
    service = Service(
        served,
        open_relay,
        Sessions(served, open_relay, name, per_user),
        Peers(trusted_proxies, allow_get, cors),
        max_input=max_input,
        limit_local=max_per_user is not None,
        describe=describe,
    )
    routes = APIRouter(lifespan=_lifespan(served, None if open_relay is relay else open_relay))
    routes.include_router(_open_routes(service, page))
    user = None if auth is None else remember_user(auth, anonymous)
    routes.include_router(_guarded_routes(service, max_input, cors, user))
    return routes


def _open_routes(service: Service, page: bool) -> APIRouter:
    """Return the routes that need no user: the page and `/health`."""
    routes = APIRouter(route_class=limited(4096))
    if page:
        routes.include_router(page_routes())
    routes.add_api_route("/health", service.health)
    return routes


def _guarded_routes(service: Service, max_input: int, cors: Collection[str], user: Auth | None) -> APIRouter:
    """Return the routes that check the size, the origin and the user of a request."""
    guarded = APIRouter(
        route_class=limited(max_input * 4 + 4096),
        dependencies=[Depends(same_site(cors)), *([Depends(user)] if user is not None else [])],
        responses=_problems(*([401] if user is not None else []), 403, 503),
    )
    add = guarded.add_api_route
    add("/about", service.about)
    add("/token", page_token)
    token = [Depends(remember_token)]
    add("/stream", service.stream_new, response_class=Response, responses=_STREAM, dependencies=token)
    add("/stream/{session_id}", service.stream, response_class=Response, responses=_STREAM, dependencies=token)
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
    return guarded


def service_name(name: str | None, served: ServedTarget) -> str:
    """Return the name of a service; by default that of its target, with a hash of its file's path.

    Raises:
        ConfigError: the name has other characters than A-Z a-z 0-9 _ . -, or more than 64.
    """
    if name is None:
        path = hashlib.sha256(os.fsencode(served.path.resolve())).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', served.about.name)[:50]}-{path}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ConfigError(f"name= (--name) must be 1 to 64 characters of A-Z a-z 0-9 _ . -, not {name!r}")
    return name


def _relay(
    url: str | None, name: str, grace: float, max_streams: int, max_per_user: int, max_seconds: float | None
) -> Relay:
    log = open_log(url, name=name)
    return Relay(log, grace=grace, max_runs=max_streams, max_per_owner=max_per_user, max_seconds=max_seconds)


def _memory(relay: Relay | str | None) -> Checkpointer:
    """Return the default store of conversations: the relay's Redis if several workers share one, else memory."""
    if isinstance(relay, str) and relay != "memory:":
        return open_checkpointer({"type": "redis", "url": relay, "ttl": CONVERSATION_MINUTES})
    return MemoryCheckpointer()


def _lifespan(target: ServedTarget, relay: Relay | None) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Load the target's providers before the first request, and keep the relay open, unless it is the caller's."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        await warm_up_target(target)
        async with nullcontext() if relay is None else relay:
            yield

    return lifespan
