"""Answer the HTTP requests for one target; `router.py` has their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Header, HTTPException, Path, Query, Request, Response

from streamcore.errors import RunExists, RunNotFound, TooManyRuns
from streamcore.relay import Relay
from streamcore.relay.response import history_response, run_response
from streamcore.sse import Describe, EventId, Format, parse_event_id
from streamcore.web import models
from streamcore.web.files import FilesRefused, UserFile
from streamcore.web.guard import too_large
from streamcore.web.input_check import refuse_value, size_of
from streamcore.web.offers import Offers
from streamcore.web.peers import GET_REFUSED, Peers
from streamcore.web.sessions import Sessions
from streamcore.web.spending import check_spending
from streamcore.web.target import RunRequest, ServedTarget
from streamcore.web.users import owner

InFormat = Annotated[
    Format,
    Query(alias="format", description="text: tokens; json: chunks or a graph's events; html: fragments for HTMX."),
]
InPrompt = Annotated[str | None, Query(description="The message. Send a long one with POST /start.")]
InRun = Annotated[
    str | None, Query(pattern=models.ID, description="The run of the conversation to read; defaults to the last one.")
]
InId = Annotated[str, Path(pattern=models.ID)]
LastId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that the client received; browsers send it when they reconnect.",
    ),
]


class Service:
    """The target, its conversations and the limits."""

    def __init__(
        self,
        target: ServedTarget,
        relay: Relay,
        sessions: Sessions,
        peers: Peers,
        *,
        max_input: int,
        limit_local: bool,
        describe: Describe | None,
        offers: Offers,
        shows_cost: bool,
    ) -> None:
        self._target = target
        self._relay = relay
        self._sessions = sessions
        self._peers = peers
        self._max_input = max_input
        self._limit_local = limit_local
        self._describe = describe
        self._offers = offers
        self._shows_cost = shows_cost

    async def about(self, request: Request) -> models.About:
        """Return what is served."""
        update = {"keeps": bool(owner(request)), **await self._offers.about()}
        return self._target.about.model_copy(update=update)

    async def stream_new(
        self, request: Request, prompt: InPrompt = None, form: InFormat = "text", last_event_id: LastId = None
    ) -> Response:
        """Stream the answer to a message in a new conversation, which the header X-Session-Id names.

        A client that reconnects with a Last-Event-ID gets the rest of its run, and starts no second run.
        """
        return await self._stream(request, self._sessions.new_id(), RunRequest(prompt), form, last_event_id)

    async def stream(
        self,
        request: Request,
        session_id: InId,
        prompt: InPrompt = None,
        run: InRun = None,
        form: InFormat = "text",
        last_event_id: LastId = None,
    ) -> Response:
        """Stream the answer to `prompt`; without one, the conversation's last run from its beginning, ended or not.

        If the conversation has no run, a graph starts one. A client that reconnects with a Last-Event-ID gets the rest
        of its run, and starts no second run.
        """
        if run is not None and not last_event_id:
            return await self._read(request, session_id, run, None, form)
        return await self._stream(request, session_id, RunRequest(prompt), form, last_event_id)

    async def start(self, request: Request, body: models.Start) -> models.Started:
        """Start a run with a message of any length. The run continues without a reader, too."""
        session_id = body.session_id or self._sessions.new_id()
        why = self._offers.refuse_model(body.model)
        if why is not None:
            raise _invalid(why)
        files = await self._files(request, body)
        asked = RunRequest(body.prompt, body.variables, files=files, model=body.model)
        return await self._started(request, session_id, asked)

    async def _files(self, request: Request, body: models.Start) -> list[UserFile]:
        """Return the files of a message, those of an earlier one included.

        Raises:
            HTTPException: 400 or 413: they are not accepted.
        """
        earlier: Sequence[UserFile] = ()
        if body.files_of is not None:
            key = self._sessions.key(owner(request), body.files_of.session_id)
            earlier = await self._target.files(key, body.files_of.run)
            if not earlier:
                raise _invalid("the files of that message are not kept any more; add them again.")
        try:
            return await self._offers.read(body.files, earlier, body.model)
        except FilesRefused as error:
            raise too_large(str(error)) if error.too_large else _invalid(str(error)) from error

    async def resume(self, request: Request, session_id: InId, body: models.Resume) -> models.Started:
        """Answer the question that the conversation waits for; the graph continues."""
        if body.answer is None:
            raise _invalid("`answer` must not be null.")
        state = await self.state(request, session_id)
        if state.status == "running":
            raise busy()
        if state.question is None:
            raise HTTPException(409, "This conversation waits for no answer. Send a message instead.")
        return await self._started(request, session_id, RunRequest(resume=body.answer))

    async def stop(self, request: Request, session_id: InId) -> models.Stopped:
        """End the run as complete up to here, on any worker; return when the vendor's response is closed."""
        who = owner(request)
        run = await self._sessions.latest(who, session_id)
        if run is None:
            raise unknown(session_id)
        try:
            return models.Stopped(stopped=await self._relay.stop(run, who=who))
        except RunNotFound:  # it has just expired
            return models.Stopped(stopped=False)

    async def state(self, request: Request, session_id: InId) -> models.SessionState:
        """Return the state of a conversation."""
        who = owner(request)
        run = await self._sessions.latest(who, session_id)
        saved = await self._target.state(self._sessions.key(who, session_id))
        if saved is None and run is None:
            raise unknown(session_id)
        state = saved or models.SessionState(session_id=session_id, status="idle")
        update = {"session_id": session_id, "run": run}
        if run is not None and await self._sessions.is_running(run, who):
            update["status"] = "running"
        return state.model_copy(update=update)

    async def is_busy(self, who: str, session_id: str) -> bool:
        """Return whether a conversation has a run that has not ended."""
        run = await self._sessions.latest(who, session_id)
        return run is not None and await self._sessions.is_running(run, who)

    async def _started(self, request: Request, session_id: str, run_request: RunRequest) -> models.Started:
        run = await self._begin(request, session_id, run_request)
        return models.Started(session_id=session_id, run=run, stream=f"stream/{session_id}?run={run}")

    async def _begin(self, request: Request, session_id: str, run_request: RunRequest) -> str:
        self._check_may_start(request)
        who = owner(request)
        why = refuse_value([run_request.prompt, run_request.variables, run_request.resume])
        if why is None:
            self._check_size(run_request)
            why = await self._target.refuse(self._sessions.key(who, session_id), run_request)
        if why is not None:
            raise _invalid(why)
        await check_spending()
        counted = not who and (self._limit_local or not self._peers.is_local(request))
        address = self._peers.address(request) if counted else None
        try:
            asked = replace(run_request, counted=self._shows_cost)
            return await self._sessions.begin(who, session_id, asked, address)
        except RunExists as error:
            raise busy() from error
        except TooManyRuns as error:
            raise HTTPException(429, str(error), {"Retry-After": "2"}) from error

    def _check_size(self, run_request: RunRequest) -> None:
        """Refuse a message, with the variables or the answer that come with it, that is too long."""
        length = len(run_request.prompt or "")
        for other in (run_request.variables, run_request.resume):
            length += len(other) if isinstance(other, str) else size_of(other) if other else 0
        if length > self._max_input:
            raise too_large(f"A message may have at most {self._max_input} characters; this one has {length}.")

    async def _stream(
        self, request: Request, session_id: str, run_request: RunRequest, form: Format, last: str | None
    ) -> Response:
        event_id = parse_event_id(last) if last else None
        if last:  # never a second run; an id that is not ours finds no run
            return await self._read(request, session_id, event_id.run if event_id else "", event_id or EventId(), form)
        run = None if run_request.prompt else await self._sessions.latest(owner(request), session_id)
        if run is None and request.method == "HEAD":
            return self._head_of_new_run(request)
        if run is None:
            run = await self._begin(request, session_id, run_request)
        return await self._read(request, session_id, run, None, form)

    def _check_may_start(self, request: Request) -> None:
        if not self._peers.may_start(request):
            raise HTTPException(403, GET_REFUSED)

    def _head_of_new_run(self, request: Request) -> Response:
        """Answer HEAD where GET starts a run. HEAD starts none, since it must change nothing (RFC 9110, 9.2.1)."""
        self._check_may_start(request)
        response = Response(media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        del response.headers["Content-Length"]  # a stream has none
        return response

    async def _read(
        self, request: Request, session_id: str, run: str, event_id: EventId | None, form: Format
    ) -> Response:
        headers = {"X-Session-Id": session_id}
        who, describe = owner(request), self._describe
        if event_id is None and not self._sessions.owns(run):
            raise _expired()
        if event_id is not None and not self._sessions.owns(run):
            run = ""  # of another service, or of none: the client gets an end
        try:
            more: Mapping[str, Any] = {"who": who, "headers": headers, "describe": describe, "cost": self._shows_cost}
            if event_id is None:
                tag = request.headers.get("if-none-match") if request.method in ("GET", "HEAD") else None
                return await history_response(self._relay, run, form, if_none_match=tag, **more)
            return await run_response(self._relay, run, event_id, form, **more)
        except RunNotFound as error:
            raise _expired() from error


def unknown(session_id: str) -> HTTPException:
    """Return the error for a conversation that does not exist."""
    return HTTPException(404, f"There is no conversation {session_id!r}.")


def _invalid(why: str) -> HTTPException:
    """Return the error for a request that is not valid."""
    return HTTPException(400, f"The request is not valid: {why}")


def _expired() -> HTTPException:
    return HTTPException(404, "There is no such run, or it has expired. Send the message again.")


def busy() -> HTTPException:
    """Return the error for a conversation that has a run."""
    return HTTPException(409, "This conversation has a run that has not ended. Stop it, or wait for its end.")
