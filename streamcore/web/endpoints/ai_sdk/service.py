"""Answer the three requests of a chat: for an answer, for the rest of one, and to stop it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import anyio
from fastapi import Path, Request, Response
from starlette.types import Receive, Scope, Send

from streamcore.sse.ai_sdk.encoder import HEADERS, UIMessageEncoder
from streamcore.sse.response import SSEResponse
from streamcore.web.endpoints.ai_sdk.replay import replayed
from streamcore.web.endpoints.ai_sdk.request import MAX_ID, ChatRequest, read_chat
from streamcore.web.endpoints.ai_sdk.runs import ChatRuns, Head
from streamcore.web.endpoints.ai_sdk.sources import open_chat
from streamcore.web.endpoints.catalog import Catalog, GraphModel, Model
from streamcore.web.endpoints.events import retry_headers
from streamcore.web.endpoints.problems import log_failure, problem_of
from streamcore.web.endpoints.recent_threads import RecentThreads
from streamcore.web.endpoints.service import GRACE, HEARTBEAT, SEND_TIMEOUT, Limits, check_messages, counted_client
from streamcore.web.peers import Peers
from streamcore.web.sessions import RunParts
from streamcore.web.spending import check_spending
from streamcore.web.users import owner
from streamcore.wire.encoding.wire import STATUSES, Problem, RequestRefused, WireRequest

InChat = Annotated[str, Path(description="The id of the chat, as the page chose it.", max_length=MAX_ID)]


class ChatEndpoint:
    """The requests of `useChat`.

    Args:
        catalog: the models.
        runs: the answers of all chats.
        peers: the addresses of clients.
        limits: what one request may have.
    """

    def __init__(self, catalog: Catalog, runs: ChatRuns, peers: Peers, limits: Limits) -> None:
        self._catalog = catalog
        self._runs = runs
        self._peers = peers
        self._limits = limits
        self._threads = RecentThreads()

    async def send(self, request: Request) -> Response:
        """Answer the last message of a chat as a UI message stream, which outlives the connection."""
        chat: ChatRequest | None = None
        try:
            chat = await self._read(request)
            model = self._catalog.find(chat.asked.model)
            await check_spending()
            who = owner(request)
            key = f"{self._runs.thread(who, chat.chat)}/{model.name}"
            opened = await open_chat(chat, model, key, self._threads)
            if await request.is_disconnected():  # the user has stopped it already
                return Response(status_code=499)
            head = _head(chat, model)
            parts = RunParts(opened.open, opened.ended, _released, opened.tokens, (head.item(),))
            client = counted_client(request, self._peers, self._limits)
            run = await self._runs.begin(who, chat.chat, parts, client, opened.graph)
            return await self._stream(run, request, waits=True, asked=chat.asked)
        except Exception as error:  # noqa: BLE001  the outermost edge: logged, and sent as the client shows it
            return self._failed(error, None if chat is None else chat.asked)

    async def resume(self, request: Request, chat_id: InChat) -> Response:
        """Stream the answer of a chat from its beginning; 204 if none runs, and the last one was read to its end."""
        try:
            run = await self._runs.readable(owner(request), chat_id, _connection(request))
            if run is None:
                return Response(status_code=204)
            return await self._stream(run, request, waits=False)
        except Exception as error:  # noqa: BLE001  see `send`
            return self._failed(error, None)

    async def stop(self, request: Request, chat_id: InChat) -> dict[str, bool]:
        """End the answer of a chat; return when the vendor's response is closed."""
        return {"success": True, "stopped": await self._runs.stop(owner(request), chat_id)}

    async def _read(self, request: Request) -> ChatRequest:
        """Return the request of a body.

        Raises:
            RequestRefused: it is not valid, or too large.
        """
        try:
            body: Any = json.loads(await request.body())
            chat = read_chat(body, self._catalog.default)
        except (ValueError, RecursionError) as error:
            raise RequestRefused("the body is not valid JSON") from error
        check_messages(chat.asked, self._limits.max_input)
        return chat

    async def _stream(self, run: str, request: Request, *, waits: bool, asked: WireRequest | None = None) -> Response:
        """Return the response that streams a run from its beginning.

        Args:
            run: the run's name.
            request: the request that it answers.
            waits: nothing is sent before the first content, so that an error before it has a status of its own; and
                the client has what the message was before.
            asked: the request that began the run.
        """
        who, peer = owner(request), _connection(request)
        reader = await self._runs.reader(run, who)
        head = await reader.head()

        def explained(error: Exception) -> Problem:
            return problem_of(error, asked, passes_on=head.passes_on)

        encoder = UIMessageEncoder(
            message_id=head.message_id,
            model=head.model,
            client_tools=head.client_tools,
            replayed=() if waits else head.replayed,
            denied=head.denied,
            waits=waits,
            describe=lambda error: explained(error).message,
            status=lambda error: _status(explained(error)),
        )

        return _ChatResponse(
            reader,
            encoder,
            lambda: self._runs.sent(run, peer),
            lambda: self._runs.delivered(run, who),
            wait=waits,
        )

    def _failed(self, error: Exception, asked: WireRequest | None) -> Response:
        """Return the response for an error before the answer began; the client shows the whole body."""
        log_failure(error)
        return refused(problem_of(error, asked, passes_on=self._passes_on(asked)), retry_headers(error))

    def _passes_on(self, asked: WireRequest | None) -> bool:
        try:
            return asked is not None and self._catalog.find(asked.model).passes_on
        except RequestRefused:
            return False


class _ChatResponse(SSEResponse):
    """The stream of a run; if its end was sent, `sent` is called at once, and `delivered` afterwards."""

    def __init__(
        self,
        source: Any,
        encoder: UIMessageEncoder,
        sent: Callable[[], None],
        delivered: Callable[[], Awaitable[None]],
        *,
        wait: bool,
    ) -> None:
        super().__init__(
            source,
            encoder,
            resumes=True,
            wait=wait,
            heartbeat=HEARTBEAT,
            grace=GRACE,
            send_timeout=SEND_TIMEOUT,
            headers=HEADERS,
            breaks=True,
        )
        self._ui_encoder = encoder
        self._sent = sent
        self._delivered = delivered

    def on_sent_all(self) -> None:
        """Note the connection that has the end."""
        if self._ui_encoder.ended:
            self._sent()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        await super().__call__(scope, receive, send)
        if self.sent_all and self._ui_encoder.ended:
            with anyio.CancelScope(shield=True):
                await self._delivered()


def _connection(request: Request) -> str:
    """Return the name of the connection of a request: on one connection responses follow each other, none is lost."""
    return "" if request.client is None else f"{request.client.host}:{request.client.port}"


def refused(problem: Problem, headers: Mapping[str, str] | None) -> Response:
    """Return a status with its text."""
    more = {"retry-after": "2"} if problem.kind == "rate_limit" else {}
    return Response(problem.message, _status(problem), {**more, **(headers or {})}, "text/plain; charset=utf-8")


def _status(problem: Problem) -> int:
    return problem.status or STATUSES[problem.kind]


def _head(chat: ChatRequest, model: Model) -> Head:
    identity = None if chat.continues is None else chat.continues.get("id")
    shown = None if model.returned is None else sorted(chat.client_tools | model.returned)
    return Head(
        message_id=identity if isinstance(identity, str) and identity else f"msg_{secrets.token_hex(12)}",
        model=model.name,
        client_tools=() if isinstance(model, GraphModel) else shown,
        passes_on=model.passes_on,
        replayed=replayed(chat.continues),
        denied=[call for call, decision in chat.decisions.items() if not decision["approve"]],
    )


def _released() -> None:
    """Do nothing: the chat's place in memory does not depend on its runs."""
