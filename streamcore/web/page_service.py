"""Answer the chat page's own requests: a user's conversations, forks of a conversation, and ratings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response

from streamcore.web import models
from streamcore.web.conversations import Conversations, ConversationsFull
from streamcore.web.guard import too_large
from streamcore.web.input_check import refuse_value
from streamcore.web.page_options import Feedback, PageOptions
from streamcore.web.service import Service, busy, unknown
from streamcore.web.sessions import Sessions
from streamcore.web.target import ServedTarget
from streamcore.web.users import owner

InId = Annotated[str, Path(pattern=models.ID)]
Problems = Callable[..., dict[int | str, dict[str, Any]]]


class PageService:
    """What the page keeps at the service: a user's conversations. Without a user, the browser keeps them."""

    def __init__(
        self, target: ServedTarget, sessions: Sessions, service: Service, name: str, options: PageOptions
    ) -> None:
        self._target = target
        self._sessions = sessions
        self._service = service
        self._options = options
        self._name = name

    async def conversations(self, request: Request) -> models.ConversationList:
        """Return the conversations of the user, the latest first."""
        found = await self._kept.listed(_user(request))
        return models.ConversationList.model_validate({"conversations": found})

    async def conversation(self, request: Request, conversation_id: InId) -> dict[str, Any]:
        """Return a conversation as the page saved it."""
        found = await self._kept.load(_user(request), conversation_id)
        if found is None:
            raise unknown(conversation_id)
        return found

    async def save(
        self, request: Request, conversation_id: InId, body: models.ConversationRecord
    ) -> models.SavedConversation:
        """Store a conversation for the user."""
        who = _user(request)
        why = refuse_value(body.record)
        if why is not None:
            raise HTTPException(400, f"The request is not valid: {why}")
        try:
            title = str(body.record.get("title", ""))[:200]
            updated = await self._kept.save(who, conversation_id, title, body.record)
        except ConversationsFull as error:
            raise too_large(str(error)) from error
        return models.SavedConversation(updated=updated)

    async def delete(self, request: Request, conversation_id: InId) -> Response:
        """Delete a conversation from the user's list. `DELETE /state/{session_id}` deletes what the model was sent."""
        await self._kept.delete(_user(request), conversation_id)
        return Response(status_code=204)

    async def delete_state(self, request: Request, session_id: InId) -> Response:
        """Delete what the service keeps of a conversation; one that does not exist is no error."""
        who = owner(request)
        if await self._service.is_busy(who, session_id):
            raise busy()
        await self._target.delete(self._sessions.key(who, session_id))
        return Response(status_code=204)

    async def fork(self, request: Request, session_id: InId, body: models.Fork) -> models.Forked:
        """Begin a new conversation with some turns of another. A graph's begins without any."""
        who, new = owner(request), self._sessions.new_id()
        key = self._sessions.key(who, new)
        await self._target.fork(self._sessions.key(who, session_id), key, body.keep)
        await self._sessions.note(key)
        return models.Forked(session_id=new)

    async def rate(self, request: Request, session_id: InId, body: models.Rating) -> Response:
        """Pass the rating of an answer to the application."""
        hook = self._options.on_feedback
        if hook is None:
            raise HTTPException(404, "This service takes no ratings; `on_feedback` of PageOptions does.")
        passed = hook(Feedback(owner(request), session_id, body.run, body.rating))
        if inspect.isawaitable(passed):
            await passed
        return Response(status_code=204)

    @property
    def _kept(self) -> Conversations:
        return Conversations(self._target.conversations, self._name)

    def add_routes(self, routes: APIRouter, records: APIRouter, problems: Problems) -> None:
        """Add the routes; those of `records` may have larger bodies, since records are larger than messages."""
        add = routes.add_api_route
        add("/fork/{session_id}", self.fork, methods=["POST"], status_code=201, responses=problems(400))
        add("/feedback/{session_id}", self.rate, methods=["POST"], status_code=204, responses=problems(400, 404))
        add("/state/{session_id}", self.delete_state, methods=["DELETE"], status_code=204, responses=problems(409))
        add("/conversations", self.conversations, responses=problems(404))
        add("/conversations/{conversation_id}", self.conversation, responses=problems(404))
        add("/conversations/{conversation_id}", self.delete, methods=["DELETE"], status_code=204)
        records.add_api_route(
            "/conversations/{conversation_id}", self.save, methods=["PUT"], responses=problems(400, 404, 408, 413)
        )


def _user(request: Request) -> str:
    """Return the user of a request, who has conversations here.

    Raises:
        HTTPException: 404: there is none.
    """
    found = owner(request)
    if not found:
        raise HTTPException(404, "The service keeps conversations only for users; set auth= or api_keys=.")
    return found
