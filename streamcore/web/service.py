"""Answer the requests over one target; `router.py` says under which paths."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, HTTPException, Path, Query, Request, Response

from streamcore.errors import RunExists, RunNotFound, TooManyRuns
from streamcore.relay import Relay
from streamcore.relay.response import run_response
from streamcore.sse import Describe, EventId, Format, parse_event_id
from streamcore.web import models
from streamcore.web.guard import too_large
from streamcore.web.sessions import Sessions, key_of
from streamcore.web.targets import Ask, Target

InFormat = Annotated[
    Format,
    Query(alias="format", description="text: tokens; json: chunks or a graph's events; html: fragments for HTMX."),
]
InPrompt = Annotated[str | None, Query(description="The message; a long one goes by POST to start.")]
InRun = Annotated[
    str | None, Query(pattern=models.RUN, description="Which run of the conversation; without, the last one.")
]
InId = Annotated[str, Path(pattern=models.SESSION_ID)]
LastId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="What a browser that lost its connection sends.")
]


class Service:
    """Know the target, its conversations and the limits."""

    def __init__(self, target: Target, relay: Relay, max_input: int, describe: Describe | None) -> None:
        self._target = target
        self._relay = relay
        self._sessions = Sessions(target, relay)
        self._max_input = max_input
        self._describe = describe

    async def health(self) -> models.Health:
        """Tell that the service is there; asks nobody who they are, since load balancers cannot say."""
        return models.Health(running=self._relay.running, max_running=self._relay.max_runs)

    async def about(self) -> models.About:
        """Tell what is served."""
        return self._target.about

    async def stream_new(
        self, request: Request, prompt: InPrompt = None, form: InFormat = "text", last_event_id: LastId = None
    ) -> Response:
        """Stream the answer to a message, in a conversation of its own, which X-Session-Id names.

        Who comes back with a Last-Event-ID gets the rest of the run that was lost, and no second run.
        """
        return await self._stream(request, self._sessions.new_id(), Ask(prompt), form, last_event_id)

    async def stream(
        self,
        request: Request,
        session_id: InId,
        prompt: InPrompt = None,
        run: InRun = None,
        form: InFormat = "text",
        last_event_id: LastId = None,
    ) -> Response:
        """Stream the answer to `prompt`; without one, the conversation's last run from its beginning, over or not.

        Where there is no run either, a graph begins one. Who comes back with a Last-Event-ID gets the rest of the run
        that was lost, and no second run.
        """
        if run is not None and not last_event_id:
            return await self._read(request, session_id, run, None, form)
        return await self._stream(request, session_id, Ask(prompt), form, last_event_id)

    async def start(self, request: Request, body: models.Start) -> models.Begun:
        """Begin a run with a message, which may be longer than a URL; it goes on whether it is listened to or not."""
        session_id = body.session_id or self._sessions.new_id()
        return await self._begun(request, session_id, Ask(body.prompt, body.variables))

    async def resume(self, request: Request, session_id: InId, body: models.Resume) -> models.Begun:
        """Answer the question that waits; the run goes on."""
        if body.answer is None:
            raise HTTPException(400, "null is no answer")
        state = await self.state(request, session_id)
        if state.status == "running":
            raise _busy()
        if state.question is None:
            raise HTTPException(409, "nothing waits for an answer in this conversation")
        return await self._begun(request, session_id, Ask(resume=body.answer))

    async def stop(self, request: Request, session_id: InId) -> models.Stopped:
        """End the run well where it is, whichever worker runs it; returns when the vendor's response is closed."""
        who = owner(request)
        run = await self._sessions.latest(who, session_id)
        if run is None:
            raise _unknown(session_id)
        try:
            return models.Stopped(stopped=await self._relay.stop(run, who=who))
        except RunNotFound:  # it has expired just now
            return models.Stopped(stopped=False)

    async def state(self, request: Request, session_id: InId) -> models.SessionState:
        """Tell where a conversation stands."""
        who = owner(request)
        run = await self._sessions.latest(who, session_id)
        found = await self._target.state(key_of(who, session_id))
        if found is None and run is None:
            raise _unknown(session_id)
        state = found or models.SessionState(session_id=session_id, status="idle")
        update = {"session_id": session_id, "run": run}
        if run is not None and await self._is_running(run, who):
            update["status"] = "running"
        return state.model_copy(update=update)

    async def _is_running(self, run: str, who: str) -> bool:
        try:
            return (await self._relay.status(run, who=who)).state == "running"
        except RunNotFound:
            return False

    async def _begun(self, request: Request, session_id: str, ask: Ask) -> models.Begun:
        run = await self._begin(request, session_id, ask)
        return models.Begun(session_id=session_id, run=run, stream=f"stream/{session_id}?run={run}")

    async def _begin(self, request: Request, session_id: str, ask: Ask) -> str:
        if len(ask.prompt or "") > self._max_input:
            raise too_large(f"a message may have {self._max_input} characters; this one has {len(ask.prompt or '')}")
        why = await self._target.refuse(key_of(owner(request), session_id), ask)
        if why is not None:
            raise HTTPException(400, why)
        try:
            return await self._sessions.begin(owner(request), session_id, ask)
        except RunExists as error:
            raise _busy() from error
        except TooManyRuns as error:
            raise HTTPException(429, str(error), {"Retry-After": "2"}) from error

    async def _stream(self, request: Request, session_id: str, ask: Ask, form: Format, last: str | None) -> Response:
        event_id = parse_event_id(last) if last else None
        if last:  # never a second run; a place that is none of ours finds nothing
            return await self._read(request, session_id, event_id.run if event_id else "", event_id or EventId(), form)
        run = None if ask.prompt else await self._sessions.latest(owner(request), session_id)
        if run is None:
            run = await self._begin(request, session_id, ask)
        return await self._read(request, session_id, run, None, form)

    async def _read(
        self, request: Request, session_id: str, run: str, event_id: EventId | None, form: Format
    ) -> Response:
        headers = {"X-Session-Id": session_id}
        who, describe = owner(request), self._describe
        try:
            return await run_response(self._relay, run, event_id, form, who=who, headers=headers, describe=describe)
        except RunNotFound as error:
            raise HTTPException(404, "there is no such run, or it is too old; ask again") from error


def owner(request: Request) -> str:
    """Return whose conversations a request is about, as `auth` found; "" where nobody asks."""
    found: str = getattr(request.state, "owner", "")
    return found


def _unknown(session_id: str) -> HTTPException:
    return HTTPException(404, f"there is no conversation {session_id!r}")


def _busy() -> HTTPException:
    return HTTPException(409, "this conversation is being answered; stop it, or wait")
