"""Answer the requests over one target; `router.py` says under which paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, HTTPException, Path, Query, Request, Response

from streamcore.errors import StreamInterrupted
from streamcore.sse import Describe, Format, encode, sse_response
from streamcore.web import models
from streamcore.web.guard import too_large
from streamcore.web.sessions import Busy, Session, Sessions, TooMany
from streamcore.web.targets import Ask, Target

InFormat = Annotated[
    Format,
    Query(alias="format", description="text: tokens; json: chunks or a graph's events; html: fragments for HTMX."),
]
InPrompt = Annotated[str | None, Query(description="The message; a long one goes by POST to start.")]
InId = Annotated[str, Path(pattern=models.SESSION_ID)]
LastId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="What a browser that lost its connection sends.")
]
BUSY = "this conversation is being answered; stop it, or wait"


class Service:
    """Know the target, its conversations and the limits."""

    def __init__(self, target: Target, sessions: Sessions, max_input: int, describe: Describe | None) -> None:
        self._target = target
        self._sessions = sessions
        self._max_input = max_input
        self._describe = describe

    async def health(self) -> models.Health:
        """Tell that the service is there; asks nobody who they are, since load balancers cannot say."""
        return models.Health(open_streams=self._sessions.open_streams, max_streams=self._sessions.max_streams)

    async def about(self) -> models.About:
        """Tell what is served."""
        return self._target.about

    async def stream_new(
        self, request: Request, prompt: InPrompt = None, form: InFormat = "text", last_event_id: LastId = None
    ) -> Response:
        """Stream the answer to a message, in a conversation of its own, which X-Session-Id names."""
        return await self._stream(request, self._sessions.new_id(), Ask(prompt), form, last_event_id)

    async def stream(
        self,
        request: Request,
        session_id: InId,
        prompt: InPrompt = None,
        form: InFormat = "text",
        last_event_id: LastId = None,
    ) -> Response:
        """Stream what `start` or `resume` asked, else the answer to `prompt`; a graph may go on without either.

        Who comes back with a Last-Event-ID gets the end of the run that was lost, and no second run.
        """
        return await self._stream(request, session_id, Ask(prompt), form, last_event_id)

    async def start(self, request: Request, body: models.Start) -> models.Begun:
        """Leave a message, which may be longer than a URL; the run begins when the stream is asked for."""
        ask = Ask(body.prompt, body.variables)
        self._check(ask)
        session_id = body.session_id or self._sessions.new_id()
        return self._leave(await self._sessions.get(owner(request), session_id), session_id, ask)

    async def resume(self, request: Request, session_id: InId, body: models.Resume) -> models.Begun:
        """Leave the answer to the question that waits; the run goes on when the stream is asked for."""
        if body.answer is None:
            raise HTTPException(400, "null is no answer")
        state = await self.state(request, session_id)
        session = await self._sessions.get(owner(request), session_id)
        if session.live is None and state.question is None:
            raise HTTPException(409, "nothing waits for an answer in this conversation")
        return self._leave(session, session_id, Ask(resume=body.answer))

    async def stop(self, request: Request, session_id: InId) -> models.Stopped:
        """End the run well where it is; returns when the vendor's response is closed."""
        session = self._sessions.find(owner(request), session_id)
        if session is None:
            raise _unknown(session_id)
        live, session.pending = session.live, None
        if live is not None:
            await live.stop()
        return models.Stopped(stopped=live is not None)

    async def state(self, request: Request, session_id: InId) -> models.SessionState:
        """Tell where a conversation stands."""
        session = self._sessions.find(owner(request), session_id)
        found = await self._target.state(f"{owner(request)}/{session_id}")
        if found is None and session is None:
            raise _unknown(session_id)
        state = found or models.SessionState(session_id=session_id, status="idle")
        running = {"status": "running"} if session is not None and session.live is not None else {}
        return state.model_copy(update={"session_id": session_id, **running})

    def _check(self, ask: Ask) -> None:
        if len(ask.prompt or "") > self._max_input:
            raise too_large(f"a message may have {self._max_input} characters; this one has {len(ask.prompt or '')}")
        why = self._target.refuse(ask)
        if why is not None:
            raise HTTPException(400, why)

    def _leave(self, session: Session, session_id: str, ask: Ask) -> models.Begun:
        if session.live is not None:
            raise HTTPException(409, BUSY)
        session.pending = ask
        return models.Begun(session_id=session_id, stream=f"stream/{session_id}")

    async def _stream(self, request: Request, session_id: str, ask: Ask, form: Format, last: str | None) -> Response:
        headers = {"X-Session-Id": session_id}
        if last:  # the place where a resumable stream will go on; until then there is only its end to tell
            return self._again(self._sessions.find(owner(request), session_id), form, headers, last)
        session = await self._sessions.get(owner(request), session_id)
        if not ask.prompt and session.pending is not None:
            ask = session.pending
        self._check(ask)
        try:
            live = self._sessions.begin(session, ask)
        except Busy as error:
            raise HTTPException(409, BUSY) from error
        except TooMany as error:
            what = f"{self._sessions.max_streams} streams are open, and that is as many as may be; try again soon"
            raise HTTPException(429, what, {"Retry-After": "2"}) from error
        return sse_response(live, form, headers=headers, describe=self._describe)

    def _again(self, session: Session | None, form: Format, headers: Mapping[str, str], last: str) -> Response:
        """Tell a client that lost its connection how its run ended."""
        if session is not None and session.live is not None:
            raise HTTPException(409, BUSY)
        ended = session.last if session is not None else None
        after = int(last) if last.isdecimal() and len(last) < 16 else 0
        encoder = encode(form, ids=True, after=after, describe=self._describe)
        if ended is None:
            body = encoder.error(StreamInterrupted("nothing is known of this answer any more; ask again"))
        elif ended.error is not None:
            body = encoder.error(ended.error)
        else:
            body = encoder.end(ended.partial)
        return Response(body, headers={**headers, "Cache-Control": "no-store"}, media_type="text/event-stream")


def owner(request: Request) -> str:
    """Return whose conversations a request is about, as `auth` found; "" where nobody asks."""
    found: str = getattr(request.state, "owner", "")
    return found


def _unknown(session_id: str) -> HTTPException:
    return HTTPException(404, f"there is no conversation {session_id!r}")
