"""Answer the requests of one wire: read it, find its model, run it, and encode the answer, streamed or whole."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import anyio
from fastapi import Request, Response

from streamcore.completion import Completion
from streamcore.sse.encoder import EventEncoder
from streamcore.sse.response import SSEResponse
from streamcore.web.endpoints.agent import VisibleSource
from streamcore.web.endpoints.catalog import Catalog, Model
from streamcore.web.endpoints.events import WireEvents, retry_headers
from streamcore.web.endpoints.problems import log_failure, problem_of
from streamcore.web.endpoints.slots import Slots
from streamcore.web.endpoints.sources import Source, collected
from streamcore.web.endpoints.stored import StoredAnswers, StoredRequest
from streamcore.web.input_check import refuse_value
from streamcore.web.peers import Peers
from streamcore.web.spending import check_spending
from streamcore.web.users import owner
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import AnswerHead, Problem, RequestRefused, Wire, WireRequest

HEARTBEAT = 15.0
GRACE = 2.0
SEND_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may have."""

    max_input: int
    """The maximum number of characters of a message."""
    limit_local: bool
    """Whether clients on this machine are counted."""
    per_client: int
    """How many answers of one client may run at once."""


def check_messages(asked: WireRequest, max_input: int) -> None:
    """Raise RequestRefused if a message is too long, or has half of a surrogate pair."""
    param = asked.param("messages")
    longest = max((len(message.text) for message in asked.request.messages), default=0)
    if longest > max_input:
        raise RequestRefused(
            f"{param}: a message may have at most {max_input} characters; one has {longest}",
            param=param,
            kind="too_large",
        )
    why = refuse_value([message.text for message in asked.request.messages])
    if why is not None:
        raise RequestRefused(f"{param}: {why}", param=param)


def counted_client(request: Request, peers: Peers, limits: Limits) -> str | None:
    """Return who an answer is counted for: the user, else the address; None for nobody."""
    who = owner(request)
    if who:
        return f"user {who}"
    counted = limits.limit_local or not peers.is_local(request)
    return peers.address(request) if counted else None


class Endpoint:
    """The requests of one wire."""

    def __init__(
        self, wire: Wire, catalog: Catalog, slots: Slots, peers: Peers, limits: Limits, stored: StoredAnswers
    ) -> None:
        self.wire = wire
        self._catalog = catalog
        self._slots = slots
        self._peers = peers
        self._limits = limits
        self._stored = stored

    async def answer(self, request: Request) -> Response:
        """Answer a request of the wire, as a stream if it asks for one."""
        headers = {self.wire.request_id_header: f"req_{secrets.token_hex(12)}"}
        asked: WireRequest | None = None
        try:
            asked = await self._read(request)
            model = self._catalog.find(asked.model)
            await check_spending()
            if self.wire.stored and (asked.store or asked.background or asked.previous):
                asked = await self._stored.with_previous(asked, owner(request))
            if self.wire.stored and (asked.store or asked.background):
                return await self._store(request, asked, model, headers)
            return await self._run(request, asked, model, headers)
        except Exception as error:  # noqa: BLE001  the outermost edge: logged, and sent in the wire's form
            return self.failed(error, asked, headers)

    def failed(self, error: Exception, asked: WireRequest | None, headers: Mapping[str, str]) -> Response:
        """Return the response for an error before the answer began."""
        log_failure(error)
        problem = problem_of(error, asked, passes_on=self._passes_on(asked))
        body = dumps(self.wire.error_body(problem, headers.get(self.wire.request_id_header)))
        more = retry_headers(error)
        if problem.kind == "rate_limit":
            more = {"retry-after": "2"} | more
        return Response(body, self.wire.status(problem), {**headers, **more}, "application/json")

    def _passes_on(self, asked: WireRequest | None) -> bool:
        if asked is None:
            return False
        try:
            return self._catalog.find(asked.model).passes_on
        except RequestRefused:
            return False

    async def _read(self, request: Request) -> WireRequest:
        """Return the request of a body.

        Raises:
            RequestRefused: it is not valid, or too large.
        """
        try:
            body: Any = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise RequestRefused("the body is not valid JSON") from error
        asked = self.wire.read_request(body)
        check_messages(asked, self._limits.max_input)
        return asked

    def _head(self, asked: WireRequest) -> AnswerHead:
        return AnswerHead(
            id=f"{self.wire.id_prefix}{secrets.token_hex(16)}",
            model=asked.model,
            created=int(time.time()),
            include_usage=asked.include_usage,
            echo=asked.echo,
        )

    def _client(self, request: Request) -> str | None:
        """Return who the answer is counted for; None for nobody."""
        return counted_client(request, self._peers, self._limits)

    def _explain(self, asked: WireRequest, model: Model) -> Callable[[Exception], Problem]:
        return lambda error: problem_of(error, asked, passes_on=model.passes_on)

    async def _open(self, asked: WireRequest, model: Model) -> Source:
        """Return the source of the answer, with what the client gets of it."""
        return VisibleSource(await model.open(asked, self.wire), _shown(asked, model), model.tokens())

    async def _run(self, request: Request, asked: WireRequest, model: Model, headers: dict[str, str]) -> Response:
        """Answer with a run that ends with the connection."""
        slot = self._slots.take(self._client(request))
        try:
            slot.fill(await self._open(asked, model))
        except BaseException:
            await slot.aclose()
            raise
        head = self._head(asked)
        if asked.stream:
            events = WireEvents(self.wire, head, self._explain(asked, model), headers)
            return streamed(slot, events, headers)
        answer = await until_gone(request, slot)
        if answer is None:
            return Response(status_code=499)
        return Response(
            dumps(self.wire.whole(replace(answer, model=head.model), head)), 200, headers, "application/json"
        )

    async def _store(self, request: Request, asked: WireRequest, model: Model, headers: dict[str, str]) -> Response:
        """Answer with a run that can be read again."""
        head = self._head(asked)
        source = await self._open(asked, model)
        explain = self._explain(asked, model)
        who, client = owner(request), self._client(request)
        await self._stored.start(StoredRequest.of(asked, head), source, who, client, background=asked.background)
        identity = head.id or ""
        if asked.stream:
            events = WireEvents(self.wire, head, explain, headers, waits=False)
            return streamed(self._stored.reader(identity, owner(request)), events, headers)
        if not asked.background:
            found = await self._stored.answer(identity, owner(request), explain)
            if found.problem is not None:
                body = self.wire.error_body(found.problem, headers.get(self.wire.request_id_header))
                return Response(dumps(body), self.wire.status(found.problem), headers, "application/json")
        return self._stored.response(await self._stored.state(identity, owner(request), explain), headers)


def _shown(asked: WireRequest, model: Model) -> frozenset[str] | None:
    """Return the tools whose calls the client sees: its own; None: all, since no tools run in the service."""
    returned = model.returned
    return None if returned is None else frozenset(tool.name for tool in asked.request.tools) | returned


def streamed(source: Any, events: EventEncoder, headers: Mapping[str, str]) -> Response:
    """Return the response that streams a source, and breaks the connection after an error."""
    return SSEResponse(
        source,
        events,
        resumes=True,
        wait=True,
        heartbeat=HEARTBEAT,
        grace=GRACE,
        send_timeout=SEND_TIMEOUT,
        headers=headers,
        breaks=True,
    )


async def until_gone(request: Request, source: Source) -> Completion | None:
    """Return the complete answer, None if the client disconnects before; close the source in every case."""
    answer: Completion | None = None
    failed: Exception | None = None

    async def watch(scope: anyio.CancelScope) -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            try:
                answer = await collected(source)
            except Exception as error:  # noqa: BLE001  raised below, since the group would wrap it
                failed = error
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await source.aclose()
    if failed is not None:
        raise failed
    return answer
