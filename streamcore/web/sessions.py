"""Keep count of conversations and of what runs in them: one run each, so many in all, and each can be stopped."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Self

import anyio

from streamcore.completion import Completion
from streamcore.errors import StreamInterrupted
from streamcore.web.targets import Ask, Source, Target

MAX_SESSIONS = 10_000
"""How many conversations are remembered where nothing else keeps them; then the one unused longest is forgotten."""


class TooMany(Exception):  # noqa: N818
    """As many streams are open as may be."""


class Busy(Exception):  # noqa: N818
    """The conversation is being answered already."""


class Live:
    """Iterate over a run's chunks or events, so that another request can stop it."""

    def __init__(self, sessions: Sessions, session: Session, ask: Ask) -> None:
        self._sessions = sessions
        self._session = session
        self._ask = ask
        self._source: Source | None = None
        self._partial: Completion | None = None
        self._scope: anyio.CancelScope | None = None  # while something is being read
        self._stopped = False
        self._over = False
        self._closed = anyio.Event()
        self.error: Exception | None = StreamInterrupted("the connection was lost, and the answer with it; ask again")
        """How it ended; None: well, or stopped."""

    @property
    def partial(self) -> Completion | None:
        """The answer so far; of a graph only that it is not complete."""
        found = getattr(self._source, "partial", None)
        if isinstance(found, Completion):
            self._partial = found
        elif self._stopped:
            self._partial = Completion()
        return self._partial

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        try:
            if not self._stopped:
                # Open inside this one call only: a scope must not be open while the caller's code runs.
                with anyio.CancelScope() as self._scope:
                    if self._source is None:
                        self._source = await self._sessions.target.open(self._session.key, self._ask)
                    return await anext(self._source)
        except StopAsyncIteration:
            pass
        except Exception as error:
            self.error = error
            raise
        finally:
            self._scope = None
        self._over = True
        try:
            await self._sessions.target.ended(self._session.key, self._ask, self.partial)
        except Exception as error:
            self.error = error
            raise
        self.error = None
        raise StopAsyncIteration

    async def stop(self) -> None:
        """End the run well where it is, and return when the vendor's response is closed."""
        self._stopped = True
        if self._scope is not None:
            self._scope.cancel()
        elif self._source is not None:  # its reader is busy sending what it has
            await self._source.aclose()
        with anyio.move_on_after(5):
            await self._closed.wait()

    async def aclose(self) -> None:
        """Close the run and give its place away. Harmless when repeated."""
        try:
            if self._source is not None:
                await self._source.aclose()
        finally:
            if not self._closed.is_set():
                self._partial, self._source = self.partial, None
                self._closed.set()
                self._sessions.release(self._session, self)


@dataclass(slots=True)
class Session:
    """One conversation, as far as this process knows of it."""

    key: str
    live: Live | None = None
    pending: Ask | None = None
    """What `start` or `resume` left for the stream to take up."""
    last: Live | None = None
    """The run that ended last."""


class Sessions:
    """All conversations with one target."""

    def __init__(self, target: Target, max_streams: int) -> None:
        self.target = target
        self.max_streams = max_streams
        self.open_streams = 0
        self._known: OrderedDict[str, Session] = OrderedDict()

    @staticmethod
    def new_id() -> str:
        """Return the name of a new conversation, which nobody can guess."""
        return secrets.token_urlsafe(16)

    async def get(self, owner: str, session_id: str) -> Session:
        """Return a conversation, a new one if there is none of that name."""
        key = f"{owner}/{session_id}"  # a session's id has no slash
        session = self._known.setdefault(key, Session(key))
        self._known.move_to_end(key)
        if len(self._known) > MAX_SESSIONS:
            await self._forget()
        return session

    def find(self, owner: str, session_id: str) -> Session | None:
        """Return a conversation if this process knows it."""
        return self._known.get(f"{owner}/{session_id}")

    async def _forget(self) -> None:
        oldest = next((one for one in self._known.values() if one.live is None), None)
        if oldest is not None:
            del self._known[oldest.key]
            await self.target.forget(oldest.key)

    def begin(self, session: Session, ask: Ask) -> Live:
        """Return the run of what was asked; whoever takes it closes it.

        Raises:
            Busy: the conversation is being answered.
            TooMany: as many streams are open as may be.
        """
        if session.live is not None:
            raise Busy
        if self.open_streams >= self.max_streams:
            raise TooMany
        self.open_streams += 1
        session.pending = None
        session.live = live = Live(self, session, ask)
        return live

    def release(self, session: Session, live: Live) -> None:
        """Take a run's end into account."""
        self.open_streams -= 1
        session.live, session.last = None, live
