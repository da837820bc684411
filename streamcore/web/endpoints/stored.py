"""Keep answers in the relay: they continue without their client, and can be read, cancelled and deleted by their id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
from fastapi import Response

from streamcore.chunk import Chunk
from streamcore.completion import Completion, Fold
from streamcore.errors import RunExists, RunNotFound
from streamcore.relay import Relay
from streamcore.relay.reader import Reader
from streamcore.request import Message
from streamcore.sse.event_id import is_run_id
from streamcore.web.endpoints.events import CANCELLED
from streamcore.web.endpoints.sources import Source
from streamcore.wire.encoding.events import dumps
from streamcore.wire.encoding.wire import AnswerHead, Problem, RequestRefused, Wire, WireRequest

DELETED = "~deleted"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """The parts of a request that are stored with its answer."""

    head: AnswerHead
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, asked: WireRequest, head: AnswerHead) -> StoredRequest:
        """Return the stored parts; instructions are left out, since they do not count for the next request."""
        return cls(head, tuple(message for message in asked.request.messages if message.role != "system"))

    def item(self) -> dict[str, Any]:
        """Return the first item of the run."""
        head = self.head
        return {
            "type": "response",
            "head": {"id": head.id, "model": head.model, "created": head.created, "echo": dict(head.echo)},
            "messages": [message.to_json() for message in self.messages],
        }

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> StoredRequest:
        """Return what `item` wrote."""
        return cls(AnswerHead(**item["head"]), tuple(Message.from_json(one) for one in item["messages"]))


@dataclass(frozen=True, slots=True)
class State:
    """A stored answer, as far as it has arrived."""

    asked: StoredRequest
    answer: Completion
    running: bool
    finished: bool
    problem: Problem | None = None


class _Run:
    """The source of a run: what was asked, then the chunks of the answer.

    With `keep`, which is awaited every `every` seconds, the run continues although nobody reads it.
    """

    def __init__(
        self,
        asked: StoredRequest,
        source: Source,
        keep: Callable[[], Awaitable[None]] | None = None,
        every: float = 1.0,
    ) -> None:
        self._first: list[Any] | None = [asked.item()]
        self._source = source
        self._keep = keep
        self._every = every

    async def next_batch(self) -> list[Any] | None:
        """Return what has arrived; None at the end."""
        first, self._first = self._first, None
        if first is not None:
            return first
        return await (self._source.next_batch() if self._keep is None else self._next_kept(self._keep))

    async def _next_kept(self, keep: Callable[[], Awaitable[None]]) -> list[Any] | None:
        batch: list[Any] | None = None
        failed: Exception | None = None

        async def renew() -> None:
            while True:
                await keep()
                await anyio.sleep(self._every)

        async with anyio.create_task_group() as group:
            group.start_soon(renew)
            try:
                batch = await self._source.next_batch()
            except Exception as error:  # noqa: BLE001  raised below, since the group would wrap it
                failed = error
            group.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return batch

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


class StoredAnswers:
    """The answers of one wire in a relay.

    Args:
        wire: the wire.
        relay: the open relay.
        per_client: how many runs of a client may run at once.
    """

    def __init__(self, wire: Wire, relay: Relay, per_client: int) -> None:
        self._wire = wire
        self._relay = relay
        self._per_client = per_client

    async def start(
        self, asked: StoredRequest, source: Source, who: str, client: str | None, *, background: bool = False
    ) -> None:
        """Start the run of an answer; in the background it continues although nobody reads it.

        Raises:
            TooManyRuns: a limit is reached.
            RelayError: the relay's log cannot be reached.
        """
        identity = asked.head.id or ""

        async def keep() -> None:
            await self._relay.keep(identity)

        try:
            await self._relay.start(
                identity,
                _Run(asked, source, keep if background else None, self._relay.grace / 4),
                owner=who,
                client=client,
                max_per_client=None if client is None else self._per_client,
            )
        except BaseException:
            await source.aclose()
            raise

    def reader(self, identity: str, who: str) -> Reader:
        """Return a reader of the run from its beginning."""
        return self._relay.read(identity, who=who)

    async def check(self, identity: str, who: str) -> None:
        """Raise unless the client has this answer.

        Raises:
            RequestRefused: there is none, or it was deleted, or belongs to another client.
        """
        try:
            if is_run_id(identity) and identity.startswith(self._wire.id_prefix):
                await self._relay.status(identity, who=who)
                if not await self._deleted(identity, who):
                    return
        except RunNotFound:
            pass
        raise RequestRefused(f"there is no response {identity[:80]!r}", param="id", kind="not_found")

    async def _deleted(self, identity: str, who: str) -> bool:
        try:
            await self._relay.status(identity + DELETED, who=who)
        except RunNotFound:
            return False
        return True

    async def answer(self, identity: str, who: str, explain: Callable[[Exception], Problem]) -> State:
        """Return the answer when it has ended."""
        return await self._fold(identity, who, explain, None)

    async def state(self, identity: str, who: str, explain: Callable[[Exception], Problem]) -> State:
        """Return the answer as far as it has arrived.

        Raises:
            RequestRefused: there is none.
        """
        await self.check(identity, who)
        status = await self._relay.status(identity, who=who)
        return await self._fold(identity, who, explain, status.seq if status.state == "running" else None)

    async def _fold(self, identity: str, who: str, explain: Callable[[Exception], Problem], until: int | None) -> State:
        """Return the answer up to item number `until`; None: to the end."""
        reader = self._relay.read(identity, who=who)
        fold = Fold()
        asked: StoredRequest | None = None
        problem: Problem | None = None
        finished = False
        try:
            while until is None or reader.seq < max(until, 1):
                batch = await reader.next_batch()
                if batch is None:
                    break
                for item in batch:
                    if isinstance(item, Chunk):
                        fold.add([item])
                        finished = finished or item.kind == "finish"
                    elif isinstance(item, Mapping) and item["type"] == "gap":
                        asked = asked or StoredRequest.read(item["items"][0])
                        chunks = [one for one in item["items"] if isinstance(one, Chunk)]
                        fold.add(chunks)
                        finished = any(chunk.kind == "finish" for chunk in chunks)
                    elif isinstance(item, Mapping):
                        asked = StoredRequest.read(item)
        except RunNotFound:
            raise
        except Exception as error:  # noqa: BLE001  the end of the run, which the client gets in the response
            problem = explain(error)
        finally:
            await reader.aclose()
        running = until is not None
        if asked is None:
            raise RunNotFound(f"there is no run {identity!r}")
        return State(asked, fold.completion(complete=not running and problem is None), running, finished, problem)

    def response(self, state: State, headers: Mapping[str, str]) -> Response:
        """Return the JSON of an answer in its state."""
        body = self._wire.whole(replace(state.answer, model=state.asked.head.model), state.asked.head)
        if state.running:
            body |= {"status": "in_progress", "completed_at": None, "incomplete_details": None, "usage": None}
        elif state.problem is not None:
            error = {"code": state.problem.code or "server_error", "message": state.problem.message}
            body |= {"status": "failed", "completed_at": None, "error": error, "incomplete_details": None}
        elif not state.finished:
            body |= {"status": "cancelled", "completed_at": None, "incomplete_details": None}
        return Response(dumps(body), 200, headers, "application/json")

    async def cancel(self, identity: str, who: str) -> None:
        """End a run, and return when the vendor's response is closed.

        Raises:
            RequestRefused: there is no such answer.
        """
        await self.check(identity, who)
        await self._relay.stop(identity, who=who)

    async def delete(self, identity: str, who: str) -> None:
        """End a run, and make its answer unreadable for all workers until it expires.

        Raises:
            RequestRefused: there is no such answer.
        """
        await self.cancel(identity, who)
        with suppress(RunExists):
            await self._relay.start(identity + DELETED, _Nothing(), owner=who)

    async def with_previous(self, asked: WireRequest, who: str) -> WireRequest:
        """Return the request with the conversation that it continues.

        Raises:
            RequestRefused: there is no such answer, or it has not ended.
        """
        if asked.previous is None:
            return asked
        param = "previous_response_id"
        try:
            state = await self.state(asked.previous, who, lambda error: CANCELLED)
        except (RequestRefused, RunNotFound) as error:
            raise RequestRefused(
                f"{param}: there is no response {asked.previous[:80]!r}; only responses with store: true are kept, for "
                "an hour after their end",
                param=param,
                kind="not_found",
            ) from error
        if state.running or state.problem is not None:
            raise RequestRefused(f"{param}: the response {asked.previous!r} is not complete", param=param)
        turns = asked.request.messages
        first = [message for message in turns[:1] if message.role == "system"]
        messages = [*first, *state.asked.messages, state.answer.to_message(), *turns[len(first) :]]
        return replace(asked, request=replace(asked.request, messages=messages))


class _Nothing:
    """A source that ends at once."""

    async def next_batch(self) -> list[Any] | None:
        return None

    async def aclose(self) -> None:
        """Do nothing."""
