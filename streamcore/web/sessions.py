"""Start the runs of conversations through the relay, and forget old conversations that only memory keeps."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio

from streamcore.completion import Completion
from streamcore.errors import RunNotFound
from streamcore.graph.limits import AnswerTokens
from streamcore.relay import Relay
from streamcore.relay.producer import in_batches
from streamcore.request import Message
from streamcore.web.durable import DurableGraphs
from streamcore.web.graph_target import GraphTarget
from streamcore.web.target import AnswerSource, RunRequest, ServedTarget

MAX_SESSIONS = 10_000
"""How many conversations memory keeps; above that, the one that was unused longest is forgotten."""
MAX_SESSION_BYTES = 256 * 2**20
"""How many bytes memory keeps of all conversations; above that, too."""


@dataclass(frozen=True, slots=True)
class RunParts:
    """What a run consists of.

    Attributes:
        open: returns the source of the run; called at its beginning.
        ended: saves a run that ended or was stopped; called with the answer and the whole conversation.
        released: called once the run is closed.
        tokens: counts the tokens of the run's chunks; None if the source does.
        first: items that come before those of the source.
    """

    open: Callable[[], Awaitable[AnswerSource]]
    ended: Callable[[Completion | None, Sequence[Message]], Awaitable[None]]
    released: Callable[[], None]
    tokens: AnswerTokens | None = None
    first: Sequence[Any] = ()


class SessionRun:
    """The run of one request in a conversation: yields chunks or events in batches; another task can stop it."""

    def __init__(self, parts: RunParts) -> None:
        self._parts = parts
        self._first: list[Any] = [*parts.first]
        self._source: AnswerSource | None = None
        self._tokens = parts.tokens
        self._next: Callable[[], Awaitable[Any]] | None = None
        self._partial: Completion | None = None
        self._scope: anyio.CancelScope | None = None  # while the source is read
        self._stopped = False
        self._closed = anyio.Event()

    @property
    def partial(self) -> Completion | None:
        """The answer so far; for a graph that was stopped, an empty `Completion`."""
        partial = getattr(self._source, "partial", None)
        if isinstance(partial, Completion):
            self._partial = partial
        elif self._stopped:
            self._partial = Completion()
        return self._partial

    async def next_batch(self) -> list[Any] | None:
        """Return what has arrived; None at the end, after the turn was saved."""
        if self._first:
            first, self._first = self._first, []
            return first
        if not self._stopped:
            # Open only inside this call, since other code must not run in an open scope.
            with anyio.CancelScope() as self._scope:
                try:
                    if self._next is None:
                        self._source = await self._parts.open()
                        self._next = in_batches(self._source)
                    batch: list[Any] | None = await self._next()
                    if batch is not None:
                        if self._tokens is not None:
                            self._tokens.note(batch)
                        return batch
                finally:
                    self._scope = None
        messages = getattr(self._source, "messages", ())  # of a graph, the thread has them
        await self._parts.ended(self.partial, messages)
        return None

    async def stop(self) -> None:
        """End the run as complete up to here, and return when the vendor's response is closed."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
        await self._closed.wait()

    async def aclose(self) -> None:
        """Close the run, and release its conversation. Harmless when repeated."""
        try:
            if self._source is not None:
                await self._source.aclose()
        finally:
            if not self._closed.is_set():
                self._partial, self._source, self._next = self.partial, None, None
                self._closed.set()
                self._parts.released()


class Sessions:
    """The conversations with one target that this process knows."""

    def __init__(
        self,
        target: ServedTarget,
        relay: Relay,
        name: str,
        max_per_address: int,
        durable: DurableGraphs | None = None,
    ) -> None:
        self.target = target
        self._durable = durable if isinstance(target, GraphTarget) else None
        self.relay = relay
        self._name = name
        self._tag = hashlib.sha256(name.encode()).hexdigest()[:6]
        self._max_per_address = max_per_address
        self._known: OrderedDict[str, None] = OrderedDict()
        self._running: Counter[str] = Counter()

    @staticmethod
    def new_id() -> str:
        """Return the name of a new conversation, which cannot be guessed."""
        return secrets.token_urlsafe(16)

    def key(self, owner: str, session_id: str) -> str:
        """Return a conversation's name in the stores; names of services and sessions have no slash, so it is unique."""
        return f"{self._name}/{owner}/{session_id}"

    def owns(self, run: str) -> bool:
        """Return whether a run was started by this service, which may share a relay with others."""
        return run.startswith(self._tag)

    async def begin(self, owner: str, session_id: str, run_request: RunRequest, address: str | None) -> str:
        """Start a run in a conversation and return the run's name.

        Raises:
            RunExists: the conversation has a run that has not ended.
            TooManyRuns: the relay's limit is reached, or `max_per_address` of an address, on all workers.
            RelayError, DurableError: a store cannot be reached.
        """
        key, target = self.key(owner, session_id), self.target
        name = self._tag + secrets.token_urlsafe(12)
        asked = replace(run_request, run=name)
        client = None if address is None else f"{self._name}/{address}"
        if self._durable is not None and isinstance(target, GraphTarget):
            state = target.initial_state(asked)
            await self._durable.begin(
                name, target, key, state, asked.resume, owner=owner, conversation=key, client=client
            )
            return name

        async def opened() -> AnswerSource:
            return await target.open(key, asked)

        async def ended(answer: Completion | None, messages: Sequence[Message]) -> None:
            await target.ended(key, asked, answer, messages)

        run = SessionRun(RunParts(opened, ended, lambda: self.release(key), target.tokens()))
        self._running[key] += 1  # a conversation with a run is not forgotten
        try:
            await self.relay.start(
                name, run, owner=owner, thread=key, client=client, max_per_client=self._max_per_address
            )
        except BaseException:
            self.release(key)
            raise
        await self.note(key)
        return name

    async def note(self, key: str) -> None:
        """Note that a conversation was used, and forget those that were unused longest if there are too many."""
        self._known[key] = None
        self._known.move_to_end(key)
        while len(self._known) > MAX_SESSIONS or self.target.kept_bytes > MAX_SESSION_BYTES:
            if not await self._forget():
                break

    async def latest(self, owner: str, session_id: str) -> str | None:
        """Return the name of the conversation's last run, None if there is none that can still be read."""
        return await self.relay.latest(self.key(owner, session_id), who=owner)

    async def is_running(self, run: str, who: str) -> bool:
        """Return whether a run has not ended; a durable one may wait for a worker."""
        try:
            state = (await self.relay.status(run, who=who)).state
        except RunNotFound:
            return False
        return state == "running" or (state == "lost" and self._durable is not None)

    async def _forget(self) -> bool:
        """Forget the conversation that was unused longest; return False if all have a run."""
        oldest = next((key for key in self._known if not self._running[key]), None)
        if oldest is not None:
            del self._known[oldest]
            await self.target.forget(oldest)
        return oldest is not None

    def release(self, key: str) -> None:
        """Record that a run of the conversation has ended."""
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]
