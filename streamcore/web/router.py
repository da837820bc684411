"""Build the routes of a service: those of its page, and the endpoints for clients of the vendors' APIs."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Response

from streamcore.checkpoints import Checkpointer
from streamcore.errors import ConfigError
from streamcore.graph.limits import RunLimits
from streamcore.graph.load import Graph
from streamcore.pricing.loading import load_prices
from streamcore.provider import AnyProvider
from streamcore.relay import Relay
from streamcore.relay.open import is_nats
from streamcore.sse import Describe
from streamcore.web.conversations import MAX_BYTES
from streamcore.web.durable import Durable, DurableGraphs, refuse_cost_limit
from streamcore.web.endpoints.catalog import Catalog
from streamcore.web.endpoints.keys import key_auth
from streamcore.web.endpoints.routes import all_endpoints
from streamcore.web.endpoints.service import Limits
from streamcore.web.endpoints.slots import Slots
from streamcore.web.files import FileOptions
from streamcore.web.flat_routes import flat_router
from streamcore.web.guard import limited, same_site
from streamcore.web.history import HistoryLimit
from streamcore.web.methods import complete_methods
from streamcore.web.models import Health, Problem
from streamcore.web.offers import Offers, offers_of
from streamcore.web.page import page_routes
from streamcore.web.page_options import PageOptions
from streamcore.web.page_service import PageService
from streamcore.web.page_token import page_token, remember_token
from streamcore.web.peers import Peers
from streamcore.web.service import Service
from streamcore.web.sessions import Sessions
from streamcore.web.spending import Spending, SpendingLimit, paid
from streamcore.web.spending_sums import MemorySums, RedisSums
from streamcore.web.stores import conversation_stores, most_per_user, open_relay
from streamcore.web.target import ModelOverrides, ServedTarget
from streamcore.web.targets import SERVED_LIMITS, load_target
from streamcore.web.users import Auth, remember_user
from streamcore.web.warm_up import warm_up_target

Target = str | Path | Graph
"""A graph, the path of a graph's or a prompt's file, or a prompt's name."""

_DESCRIPTIONS = {
    400: "The request is not valid; `detail` has the reason.",
    401: "The request has no valid credentials.",
    403: "The request was sent by a page of another site, or a GET may not start a run.",
    404: "There is no such conversation or run.",
    408: "The body of the request is too slow.",
    409: "The conversation has a run that has not ended, or waits for no answer.",
    413: "The input is too large.",
    429: "The limit of simultaneous answers, or of cost, is reached; Retry-After has the seconds until another try.",
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
    **_problems(400, 404, 408, 409, 413, 429),
}


def router(
    target: Target | Sequence[Target] | None = None,
    *,
    provider: AnyProvider | None = None,
    model: str | None = None,
    temperature: float | None = None,
    variables: Mapping[str, Any] | None = None,
    message_as: str | None = None,
    prompts_dir: str | Path | None = None,
    checkpointer: Checkpointer | Mapping[str, Any] | str | None = None,
    auth: Auth | None = None,
    anonymous: bool = False,
    name: str | None = None,
    client_variables: Collection[str] = (),
    cors: Collection[str] = (),
    max_input: int = 32_000,
    max_streams: int = 100,
    max_per_user: int | None = None,
    max_seconds: float | None = 600.0,
    max_cost: str | Decimal | float | None = None,
    limits: RunLimits = SERVED_LIMITS,
    history: HistoryLimit | None = None,
    allow_get: bool | None = None,
    trusted_proxies: Collection[str] = (),
    relay: Relay | str | None = None,
    grace: float = 60.0,
    describe: Describe | None = None,
    page: bool | PageOptions = True,
    files: bool | FileOptions = False,
    transport: str | None = None,
    endpoints: bool | Collection[str] = True,
    allow_models: Sequence[str] = (),
    api_keys: Collection[str] = (),
    durable: Durable | str | None = None,
) -> APIRouter:
    """Return the routes to prompts, graphs and models, to be mounted in an app.

    Mount it with a prefix; the page is then at `<prefix>/`, and the endpoints at `<prefix>/v1/`. Its lifespan becomes
    part of the app's.

    Args:
        target: a graph, the path of a graph's or a prompt's file, or a prompt's name; or several, of which the page
            shows the first, and the endpoints have all as models; or None, for a gateway to the allowed models.
        provider: a name or a ready provider; overrides what the files say.
        model: overrides what the files say.
        temperature: overrides what the files say.
        cors: the origins whose pages may send requests, as `https://example.org`; all others get 403.
        variables: values for the prompt's other variables, or for the graph's state.
        message_as: the variable, or key of the state, that a message becomes; by default it is inferred.
        prompts_dir: the directory of prompts.
        checkpointer: the store of conversations, or its URL, see `open_checkpointer`; overrides the graph's own.
            Defaults to the memory of the process, which keeps the last 10,000.
        auth: a FastAPI dependency for all routes but the page and `/health`. It raises `HTTPException`, or returns the
            user: a non-empty `str`, an `int`, a `UUID`, or an object whose attribute `id` is one of these. Users see
            only their own conversations.
        anonymous: accept requests for which `auth` returns None; they share their conversations' names.
        name: the service. Services with different names share nothing, also on one Redis; workers of one service need
            the same one. Defaults to the target's name and a hash of its file's path.
        client_variables: names of variables, or of declared keys of a graph's state, that clients may set with
            `variables` of `POST /start`; none by default, and never those in `variables`.
        max_input: the maximum number of characters in a message and its variables; above, status 413.
        max_streams: the maximum number of answers that run at once in this worker; above, status 429.
        max_per_user: the same for each user that `auth` returns, over all workers; without a user, for each address.
            Defaults to a quarter of `max_streams`, and then does not count clients on this machine.
        max_seconds: seconds after which a run is ended as an error; None: no limit.
        max_cost: the most US dollars that the answers of each user, else of each address, may cost in a period, as
            `5/day`; without a period, a day. Above, status 429. With the URL of a relay in Redis, over all workers.
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
        page: `PageOptions` describes the chat page; False leaves it out.
        files: True, or `FileOptions`: messages on the page may have files, where the target is a prompt, of the types
            that its provider's API takes.
        transport: what requests are sent over, see `streamcore.get_provider`.
        endpoints: False leaves out the endpoints (`/v1/chat/completions` and so on); a list of names (`messages`,
            as the guide's pages are called) serves only these.
        allow_models: patterns of `provider/model`, as `openai/*`, that clients of the endpoints may name. Their
            requests go to that provider as the environment configures it, with its key. Those that are names and no
            patterns can also be chosen on the page, if it shows a prompt.
        api_keys: the keys that clients must send, as `Authorization: Bearer` or `x-api-key`, instead of `auth`.
        durable: the database of durable runs, or `Durable(...)`: the runs of graphs that the page, `/api/chat` and
            `/agui` start go on when this process ends. They have no `grace`, and workers share `relay`.

    Raises:
        ConfigError: there is no such target or provider, or it is not valid; or there is nothing to serve.
    """
    load = partial(
        load_target,
        overrides=ModelOverrides(provider, model, temperature, transport),
        given=variables or {},
        message_as=message_as,
        client_variables=client_variables,
        prompts_dir=prompts_dir,
        **conversation_stores(checkpointer, relay, history, durable) | {"limits": limits},
    )
    targets, name = _loaded(target, load, name, alone=bool(endpoints and allow_models))
    spending, peers = _spending(max_cost, relay, name), Peers(trusted_proxies, allow_get, cors)
    parts = _Parts(
        targets,
        open_relay(relay, name if durable is None else "", grace, max_streams, max_per_user, max_seconds),
        peers,
        Limits(max_input, limit_local=max_per_user is not None, per_client=most_per_user(max_streams, max_per_user)),
        [Depends(same_site(cors)), *_auth(auth, api_keys, anonymous), *paid(spending, peers)],
        offers_of(targets, files, allow_models),
    )
    parts = _with_durable(parts, durable, max_cost, max_seconds)
    catalog = Catalog(_by_name(targets), allow_models, max_seconds=max_seconds, transport=transport, limits=limits)
    slots = Slots(max_streams, parts.limits.per_client, lambda: parts.relay.running)
    own = _own_routes(parts, slots, name, describe, given=page, asks_key=bool(api_keys))
    routes = parts.endpoints(catalog, slots, name, endpoints)
    return complete_methods(flat_router(routes, own, lifespan=_lifespan(parts, spending, relay)))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the routes of a service share."""

    targets: Sequence[ServedTarget]
    relay: Relay
    peers: Peers
    limits: Limits
    guards: Sequence[Any]
    """The dependencies that check the origin and the user of a request."""
    offers: Offers | None
    """What users of the page's target may choose."""
    durable: DurableGraphs | None = None

    def endpoints(self, catalog: Catalog, slots: Slots, name: str, only: bool | Collection[str]) -> APIRouter:
        """Return the routes of the endpoints, or of those in `only`."""
        return all_endpoints(catalog, slots, self.peers, self.limits, self.relay, self.guards, name, only, self.durable)


def _loaded(
    target: Target | Sequence[Target] | None, load: Callable[[Target], ServedTarget], name: str | None, *, alone: bool
) -> tuple[list[ServedTarget], str]:
    """Return the targets, and the service's name; `alone`: there may be none, since the service is a gateway.

    Raises:
        ConfigError: a target is not valid, or there is nothing to serve.
    """
    listed = (target,) if isinstance(target, str | Path | Graph) else target or ()
    if not (listed or alone):
        raise ConfigError("there is nothing to serve: name a prompt or a graph, or allow models (--allow-model)")
    targets = [load(one) for one in listed]
    return targets, service_name(name, next(iter(targets), None))


def _by_name(targets: Sequence[ServedTarget]) -> dict[str, ServedTarget]:
    named = {target.about.name: target for target in targets}
    if len(named) < len(targets):
        raise ConfigError("two of the targets have the same name, by which clients choose; rename one")
    return named


def _auth(auth: Auth | None, keys: Collection[str], anonymous: bool) -> list[Any]:
    """Return the dependencies that find out the user, none if everybody may use the service."""
    if keys and auth is not None:
        raise ConfigError("give either auth= or api_keys=, not both")
    found = key_auth(keys) if keys else auth
    return [] if found is None else [Depends(remember_user(found, anonymous))]


def _own_routes(
    parts: _Parts, slots: Slots, name: str, describe: Describe | None, *, given: bool | PageOptions, asks_key: bool
) -> APIRouter:
    """Return `/health`, and the routes of the first target and its page."""
    page = PageOptions() if given is True else given or None
    routers = [_open_routes(parts.relay, slots, page=page if parts.targets else None, asks_key=asks_key)]
    if parts.offers is not None:
        with_user = len(parts.guards) > 1
        routers.append(_guarded_routes(parts, parts.offers, name, describe, page or PageOptions(), with_user=with_user))
    return flat_router(*routers)


def _open_routes(relay: Relay, slots: Slots, *, page: PageOptions | None, asks_key: bool) -> APIRouter:
    """Return the routes that need no user: the page and `/health`."""

    async def health() -> Health:
        """Return that the service is up, and how busy it is. Needs no authentication, for load balancers."""
        return Health(running=relay.running + slots.running, max_running=relay.max_runs)

    routes = APIRouter(route_class=limited(4096))
    routes.add_api_route("/health", health)
    return routes if page is None else flat_router(page_routes(page, asks_key=asks_key), routes)


def _guarded_routes(
    parts: _Parts, offers: Offers, name: str, describe: Describe | None, page: PageOptions, *, with_user: bool
) -> APIRouter:
    """Return the routes of the page, which check the size, the origin and the user of a request."""
    target, relay, limits = parts.targets[0], parts.relay, parts.limits
    sessions = Sessions(target, relay, name, limits.per_client, parts.durable)
    service = Service(
        target,
        relay,
        sessions,
        parts.peers,
        max_input=limits.max_input,
        limit_local=limits.limit_local,
        describe=describe,
        offers=offers,
        shows_cost=page.show_usage,
    )
    most = limits.max_input * 4 + 4096
    responses = _problems(*([401] if with_user else []), 403, 503)

    def guarded_router(max_bytes: int) -> APIRouter:
        return APIRouter(route_class=limited(max_bytes), dependencies=[*parts.guards], responses=responses)

    guarded = guarded_router(most)
    add = guarded.add_api_route
    add("/about", service.about)
    add("/token", page_token)
    token = [Depends(remember_token)]
    add("/stream", service.stream_new, response_class=Response, responses=_STREAM, dependencies=token)
    add("/stream/{session_id}", service.stream, response_class=Response, responses=_STREAM, dependencies=token)
    with_files = guarded_router(most + (offers.files.body_bytes if offers.files else 0))
    problems = _problems(400, 408, 409, 413, 429)
    with_files.add_api_route("/start", service.start, methods=["POST"], status_code=201, responses=problems)
    add(
        "/resume/{session_id}",
        service.resume,
        methods=["POST"],
        status_code=202,
        responses=_problems(400, 404, 408, 409, 413, 429),
    )
    add("/stop/{session_id}", service.stop, methods=["POST"], responses=_problems(404))
    add("/state/{session_id}", service.state, responses=_problems(404))
    records = guarded_router(MAX_BYTES * 4)
    PageService(target, sessions, service, name, page).add_routes(guarded, records, _problems)
    return flat_router(guarded, with_files, records)


def service_name(name: str | None, served: ServedTarget | None) -> str:
    """Return the name of a service; by default that of its first target, with a hash of its file's path.

    Raises:
        ConfigError: the name has other characters than A-Z a-z 0-9 _ . -, or more than 64.
    """
    if name is None:
        if served is None:
            return "gateway"
        path = hashlib.sha256(os.fsencode(served.path.resolve())).hexdigest()[:8]
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', served.about.name)[:50]}-{path}"
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
        raise ConfigError(f"name= (--name) must be 1 to 64 characters of A-Z a-z 0-9 _ . -, not {name!r}")
    return name


def _spending(max_cost: str | Decimal | float | None, relay: Relay | str | None, name: str) -> Spending | None:
    """Return what limits the cost of each owner, None without a limit.

    Raises:
        ConfigError: the limit is not valid.
    """
    if max_cost is None:
        return None
    limit = SpendingLimit.of(max_cost)
    if isinstance(relay, str) and is_nats(relay):
        raise ConfigError(
            "max_cost (--max-cost) needs a Redis in which all workers add up costs, as relay='redis://host:6379/0' "
            "(--relay); NATS does not keep them"
        )
    if isinstance(relay, str) and relay != "memory:":
        return Spending(limit, RedisSums(relay, name, limit.seconds))
    return Spending(limit, MemorySums())


def _with_durable(parts: _Parts, durable: Durable | str | None, max_cost: object, max_seconds: float | None) -> _Parts:
    """Add the durable runs of the graphs, if there are to be any."""
    kept = Durable.of(durable)
    if kept is None:
        return parts
    refuse_cost_limit(kept, max_cost)
    graphs = DurableGraphs(kept, parts.targets, parts.relay, parts.limits.per_client, max_seconds)
    return replace(parts, durable=graphs)


def _lifespan(
    parts: _Parts, spending: Spending | None, relay: Relay | str | None
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Load the target's providers before the first request, and keep the relay open, unless it is the caller's.

    The list of prices is loaded, too, since that takes 0.3 s.
    """

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        for target in parts.targets:
            await warm_up_target(target)
        await load_prices()
        try:
            runs = nullcontext() if parts.durable is None else parts.durable.open()
            async with nullcontext() if parts.relay is relay else parts.relay, runs:
                yield
        finally:
            if spending is not None:
                await spending.aclose()

    return lifespan
