"""Define the routes over one target: stream, start, stop, resume, state, health, and the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Response
from fastapi import Path as InPath

from streamcore.checkpoints import Checkpointer
from streamcore.errors import ThreadConflict
from streamcore.graph.load import Graph
from streamcore.provider import Provider
from streamcore.sse import Describe, Format, encode, sse_response
from streamcore.web import models
from streamcore.web.guard import limited, same_site, too_large
from streamcore.web.page import page_routes
from streamcore.web.sessions import Busy, Session, Sessions, TooMany
from streamcore.web.targets import Ask, Settings, Target, target_of

Auth = Callable[..., Any]
"""A FastAPI dependency: raises HTTPException, or returns who asks (a str; anything else is one and the same)."""

InputFormat = Annotated[Format, Query(description="text: tokens; json: chunks or events; html: fragments for HTMX.")]
InId = Annotated[str, InPath(pattern=models.SESSION_ID)]
LastId = Annotated[str | None, Header(alias="Last-Event-ID")]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of these statuses, for OpenAPI."""
    told = {
        400: "Nothing can be made of it.",
        403: "A page of another site asks.",
        404: "There is no such conversation.",
        409: "The conversation is being answered, or nothing waits for an answer.",
        413: "The input is too large.",
        429: "As many streams are open as may be; Retry-After says when to try again.",
    }
    return {code: {"model": models.Problem, "description": told[code]} for code in codes}


STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-Sent Events, to the last of them, which tells the end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "headers": {"X-Session-Id": {"description": "The conversation.", "schema": {"type": "string"}}},
    },
    **problems(400, 403, 409, 413, 429),
}


def router(
    target: str | Path | Graph,
    *,
    provider: str | Provider | None = None,
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
    describe: Describe | None = None,
    page: bool = True,
) -> APIRouter:
    """Return the routes to a prompt or a graph, to be mounted in an app; see `create_app`, which says what they are."""
    settings = Settings(provider, model, temperature)
    found = target_of(
        target,
        settings,
        given=variables or {},
        message_as=message_as,
        prompts_dir=prompts_dir,
        checkpointer=checkpointer,
    )
    routes = APIRouter()
    if page:
        routes.include_router(page_routes())
    service = Service(found, Sessions(found, max_streams), auth, max_input, describe)
    routes.include_router(service.open_routes())
    guards = [Depends(same_site(cors))]
    routes.include_router(service.routes(limited(max_input * 4 + 4096)), dependencies=guards)
    return routes


class Service:
    """What the routes share."""

    def __init__(
        self, target: Target, sessions: Sessions, auth: Auth | None, max_input: int, describe: Describe | None
    ) -> None:
        self._target = target
        self._sessions = sessions
        self._auth = auth or (lambda: None)
        self._max_input = max_input
        self._describe = describe

    def open_routes(self) -> APIRouter:
        """Return the route that asks nobody who they are, since load balancers cannot say."""
        routes = APIRouter()

        @routes.get("/health")
        async def health() -> models.Health:  # pyright: ignore[reportUnusedFunction]
            """Tell that the service is there."""
            return models.Health(open_streams=self._sessions.open_streams, max_streams=self._sessions.max_streams)

        return routes

    def routes(self, route_class: Any) -> APIRouter:
        """Return the routes that `auth` guards."""
        routes = APIRouter(route_class=route_class)
        who = Depends(self._auth)

        @routes.get("/about", responses=problems(403))
        async def about(_: Any = who) -> models.About:  # pyright: ignore[reportUnusedFunction]
            """Tell what is served."""
            return self._target.about

        @routes.get("/stream", response_class=Response, responses=STREAM)
        async def stream_new(  # pyright: ignore[reportUnusedFunction]
            prompt: str | None = None,
            format: InputFormat = "text",  # noqa: A002
            last_event_id: LastId = None,
            user: Any = who,
        ) -> Response:
            """Stream the answer to a message, in a conversation of its own."""
            session_id = self._sessions.new_id()
            return await self._stream(user, session_id, Ask(prompt), format, last_event_id)

        @routes.get("/stream/{session_id}", response_class=Response, responses=STREAM)
        async def stream(  # pyright: ignore[reportUnusedFunction]
            session_id: InId,
            prompt: str | None = None,
            format: InputFormat = "text",  # noqa: A002
            last_event_id: LastId = None,
            user: Any = who,
        ) -> Response:
            """Stream what `start` or `resume` asked, else the answer to `prompt`; a graph may go on without either.

            Who comes back with a Last-Event-ID gets the end of the run that it belongs to, and no second run.
            """
            return await self._stream(user, session_id, Ask(prompt), format, last_event_id)

        @routes.post("/start", status_code=201, responses=problems(400, 403, 409, 413))
        async def start(body: models.Start, user: Any = who) -> models.Begun:  # pyright: ignore[reportUnusedFunction]
            """Leave a message, which may be longer than a URL; the run begins with the stream."""
            ask = Ask(body.prompt, body.variables)
            self._check(ask)
            session_id = body.session_id or self._sessions.new_id()
            return self._leave(await self._sessions.get(owner(user), session_id), session_id, ask)

        @routes.post("/resume/{session_id}", status_code=202, responses=problems(403, 404, 409, 413))
        async def resume(  # pyright: ignore[reportUnusedFunction]
            session_id: InId, body: models.Resume, user: Any = who
        ) -> models.Begun:
            """Leave the answer to the question that waits; the run goes on with the stream."""
            state = await self._state(user, session_id)
            if state.question is None:
                raise HTTPException(409, "nothing waits for an answer in this conversation")
            if body.answer is None:
                raise HTTPException(409, "null is no answer")
            session = await self._sessions.get(owner(user), session_id)
            return self._leave(session, session_id, Ask(resume=body.answer))

        @routes.post("/stop/{session_id}", responses=problems(403, 404))
        async def stop(session_id: InId, user: Any = who) -> models.Stopped:  # pyright: ignore[reportUnusedFunction]
            """End the run well where it is; returns when the vendor's response is closed."""
            session = self._sessions.find(owner(user), session_id)
            if session is None:
                raise HTTPException(404, f"there is no conversation {session_id!r}")
            if session.live is None:
                return models.Stopped(stopped=False)
            await session.live.stop()
            return models.Stopped(stopped=True)

        @routes.get("/state/{session_id}", responses=problems(403, 404))
        async def state(session_id: InId, user: Any = who) -> models.SessionState:  # pyright: ignore[reportUnusedFunction]
            """Tell where a conversation stands."""
            return await self._state(user, session_id)

        return routes

    def _check(self, ask: Ask) -> None:
        if len(ask.prompt or "") > self._max_input:
            raise too_large(f"a message may have {self._max_input} characters; this one has {len(ask.prompt or '')}")
        why = self._target.refuse(ask)
        if why is not None:
            raise HTTPException(400, why)

    def _leave(self, session: Session, session_id: str, ask: Ask) -> models.Begun:
        if session.live is not None:
            raise HTTPException(409, "this conversation is being answered; stop it, or wait")
        session.pending = ask
        return models.Begun(session_id=session_id, stream=f"stream/{session_id}")

    async def _state(self, user: Any, session_id: str) -> models.SessionState:
        session = self._sessions.find(owner(user), session_id)
        found = await self._target.state(f"{owner(user)}/{session_id}")
        if found is None and session is None:
            raise HTTPException(404, f"there is no conversation {session_id!r}")
        state = found or models.SessionState(session_id=session_id, status="idle")
        running = {"status": "running"} if session is not None and session.live is not None else {}
        return state.model_copy(update={"session_id": session_id, **running})

    async def _stream(self, user: Any, session_id: str, ask: Ask, format: Format, last: str | None) -> Response:  # noqa: A002
        headers = {"X-Session-Id": session_id}
        if last:  # the place where a resumable stream will go on; until then there is only its end to tell
            return self._again(self._sessions.find(owner(user), session_id), format, headers)
        session = await self._sessions.get(owner(user), session_id)
        if not ask.prompt and session.pending is not None:
            ask = session.pending
        self._check(ask)
        try:
            live = self._sessions.begin(session, ask)
        except Busy as error:
            raise HTTPException(409, "this conversation is being answered; stop it, or wait") from error
        except TooMany as error:
            what = f"{self._sessions.max_streams} streams are open, and that is as many as may be; try again soon"
            raise HTTPException(429, what, {"Retry-After": "2"}) from error
        return sse_response(live, format, headers=headers, describe=self._describe)

    def _again(self, session: Session | None, format: Format, headers: Mapping[str, str]) -> Response:  # noqa: A002
        if session is not None and session.live is not None:
            raise HTTPException(409, "this conversation is being answered; stop it, or wait")
        ended = session.last if session is not None else None
        encoder = encode(format, ids=True, describe=self._describe)
        if ended is not None and ended.error is None:
            body = encoder.end(ended.partial)
        else:
            lost = ThreadConflict("the answer is lost; ask again") if ended is None else ended.error
            body = encoder.error(lost or ThreadConflict("the answer is lost; ask again"))
        return Response(body, headers={**headers, "Cache-Control": "no-store"}, media_type="text/event-stream")


def owner(user: Any) -> str:
    """Return whose conversations a client sees."""
    return user if isinstance(user, str) else ""
