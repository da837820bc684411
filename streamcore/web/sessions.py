"""Begin runs in conversations through the relay, so that each can be stopped, and remember what is kept in memory."""

from __future__ import annotations

import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from streamcore.completion import Completion
from streamcore.relay import Relay
from streamcore.relay.producer import in_batches
from streamcore.web.targets import Ask, Source, Target

MAX_SESSIONS = 10_000
"""How many conversations are remembered where nothing else keeps them; then the one unused longest is forgotten."""


class Run:
    """Give the chunks or events of what was asked, in batches, and let another task stop it."""

    def __init__(self, sessions: Sessions, key: str, ask: Ask) -> None:
        self._sessions = sessions
        self._key = key
        self._ask = ask
        self._source: Source | None = None
        self._next: Callable[[], Awaitable[Any]] | None = None
        self._partial: Completion | None = None
        self._scope: anyio.CancelScope | None = None  # while something is being read
        self._stopped = False
        self._closed = anyio.Event()

    @property
    def partial(self) -> Completion | None:
        """The answer so far; of a graph only that it is not complete, once it is stopped."""
        found = getattr(self._source, "partial", None)
        if isinstance(found, Completion):
            self._partial = found
        elif self._stopped:
            self._partial = Completion()
        return self._partial

    async def next_batch(self) -> list[Any] | None:
        """Return what has come, None at the end, when it has been remembered."""
        if not self._stopped:
            # Open inside this one call only: a scope must not be open while other code runs.
            with anyio.CancelScope() as self._scope:
                try:
                    if self._next is None:
                        self._source = await self._sessions.target.open(self._key, self._ask)
                        self._next = in_batches(self._source)
                    batch = await self._next()
                    if batch is not None:
                        return batch
                finally:
                    self._scope = None
        await self._sessions.target.ended(self._key, self._ask, self.partial)
        return None

    async def stop(self) -> None:
        """End the run well where it is, and return when the vendor's response is closed."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
        await self._closed.wait()

    async def aclose(self) -> None:
        """Close the run and give its place away. Harmless when repeated."""
        try:
            if self._source is not None:
                await self._source.aclose()
        finally:
            if not self._closed.is_set():
                self._partial, self._source, self._next = self.partial, None, None
                self._closed.set()
                self._sessions.release(self._key)


class Sessions:
    """All conversations with one target, as far as this process must know of them."""

    def __init__(self, target: Target, relay: Relay) -> None:
        self.target = target
        self.relay = relay
        self._known: OrderedDict[str, None] = OrderedDict()
        self._running: Counter[str] = Counter()

    @staticmethod
    def new_id() -> str:
        """Return the name of a new conversation, which nobody can guess."""
        return secrets.token_urlsafe(16)

    async def begin(self, owner: str, session_id: str, ask: Ask) -> str:
        """Begin a run in a conversation and return its name, by which it can be read.

        Raises:
            RunExists: the conversation is being answered.
            TooManyRuns: as many runs are going on as may be.
            RelayError: the relay's log cannot be reached.
        """
        key = key_of(owner, session_id)
        run = Run(self, key, ask)
        name = secrets.token_urlsafe(9)
        self._running[key] += 1  # from now on it is not forgotten
        try:
            await self.relay.start(name, run, owner=owner, thread=key)
        except BaseException:
            self.release(key)
            raise
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MAX_SESSIONS:
            await self._forget()
        return name

    async def latest(self, owner: str, session_id: str) -> str | None:
        """Return the name of the conversation's last run, None if there is none that can still be read."""
        return await self.relay.latest(key_of(owner, session_id), who=owner)

    async def _forget(self) -> None:
        oldest = next((key for key in self._known if not self._running[key]), None)
        if oldest is not None:
            del self._known[oldest]
            await self.target.forget(oldest)

    def release(self, key: str) -> None:
        """Take a run's end into account."""
        self._running[key] -= 1
        if not self._running[key]:
            del self._running[key]


def key_of(owner: str, session_id: str) -> str:
    """Return a conversation's name in the stores; a session's id has no slash."""
    return f"{owner}/{session_id}"
