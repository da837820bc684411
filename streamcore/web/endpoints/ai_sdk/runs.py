"""Keep the answers of chats in the relay: one runs in each chat, and a client that comes back gets it whole."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from streamcore.completion import Completion
from streamcore.errors import RelayError, RunExists, RunNotFound, TooManyRuns
from streamcore.relay import Relay
from streamcore.relay.reader import Reader
from streamcore.web.durable import DurableGraphs
from streamcore.web.graph_target import GraphTarget
from streamcore.web.sessions import RunParts, SessionRun
from streamcore.wire.encoding.wire import RequestRefused
from streamcore.wire.lenient import is_object

DELIVERED = "~read"
"""The end of the name of a run that only says when the end of another one was sent."""
MAX_SENT = 10_000
"""How many connections are remembered."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first item of a run: what its encoder has to know."""

    message_id: str
    model: str
    client_tools: Sequence[str] | None
    """The tools whose calls the page answers; None: no tools run in the service."""
    passes_on: bool
    """Whether the request goes to a vendor as the client wrote it."""
    replayed: Sequence[Mapping[str, Any]] = ()
    """What the message has already, for a client that reads it from its beginning."""
    denied: Sequence[str] = ()
    """The calls that the user has denied."""

    def item(self) -> dict[str, Any]:
        """Return the head as an item of a run."""
        return {"type": "chat", **asdict(self)}

    @classmethod
    def read(cls, item: Mapping[str, Any]) -> Head:
        """Return the head that `item` wrote."""
        return cls(**{name: value for name, value in item.items() if name != "type"})


@dataclass(frozen=True, slots=True)
class GraphRun:
    """A run of a graph: its thread, and the values or the answer that it begins with."""

    target: GraphTarget
    key: str
    state: Mapping[str, Any]
    resume: Any


class ChatReader:
    """Read a run: first its head, then its other items in batches."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._rest: list[Any] = []

    async def head(self) -> Head:
        """Return the head; call it once, before all else.

        Raises:
            RunNotFound: there is no such run.
        """
        batch = await self._reader.next_batch()
        if batch is None:
            raise RunNotFound("the run has ended before its first item")
        first, *self._rest = batch
        if is_object(first) and first["type"] == "gap":
            first, *inner = first["items"]
            self._rest = [*inner, *self._rest]
        if not is_object(first) or first["type"] != "chat":
            raise RunNotFound("this is no run of a chat")
        return Head.read(first)

    @property
    def partial(self) -> Completion | None:
        """After the end: the answer as far as it has arrived."""
        return self._reader.partial

    @property
    def resumable(self) -> bool:
        """Whether the run continues if this worker stops."""
        return self._reader.resumable

    async def next_batch(self) -> list[Any] | None:
        """Return what has arrived; None at the end of a run that did not fail."""
        if self._rest:
            rest, self._rest = self._rest, []
            return rest
        return await self._reader.next_batch()

    async def aclose(self) -> None:
        """Stop reading; the run continues."""
        await self._reader.aclose()


class ChatRuns:
    """The runs of all chats of a service.

    Args:
        relay: the open relay.
        name: the service, since several may share a relay.
        per_client: how many runs of a client may run at once.
        durable: executes the runs of graphs; None: this process does.
    """

    def __init__(self, relay: Relay, name: str, per_client: int, durable: DurableGraphs | None = None) -> None:
        self._relay = relay
        self._name = name
        self._per_client = per_client
        self._durable = durable
        self._sent: OrderedDict[tuple[str, str], None] = OrderedDict()
        """The connections of this worker on which the end of a run was sent."""

    def thread(self, who: str, chat: str) -> str:
        """Return the name of a chat of a user in the stores; another user's chat of the same id has another one."""
        digest = hashlib.sha256(f"{len(who)}:{who}:{chat}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._name}//chat/{digest}"

    async def begin(
        self, who: str, chat: str, parts: RunParts, client: str | None, graph: GraphRun | None = None
    ) -> str:
        """Start a run in a chat, and return its name; an answer that still runs there is stopped.

        `graph` describes the run if it is one of a graph.

        Raises:
            RequestRefused: the chat has another answer that does not stop, or begins at the same time.
            TooManyRuns: a limit is reached.
            RelayError: the log of the relay cannot be reached.
        """
        await self.stop(who, chat)
        run = f"chat-{secrets.token_urlsafe(16)}"
        limit = None if client is None else self._per_client
        thread = self.thread(who, chat)
        try:
            if self._durable is not None and graph is not None:
                await self._durable.begin(
                    run,
                    graph.target,
                    graph.key,
                    graph.state,
                    graph.resume,
                    owner=who,
                    conversation=thread,
                    client=client,
                    first=parts.first,
                    include_metadata=True,
                )
            else:
                source = SessionRun(parts)
                await self._relay.start(run, source, owner=who, thread=thread, client=client, max_per_client=limit)
        except RunExists as error:
            raise RequestRefused(
                "this chat has an answer that has not ended; stop it first", kind="conflict"
            ) from error
        return run

    async def reader(self, run: str, who: str) -> ChatReader:
        """Return a reader of a run from its beginning."""
        return ChatReader(self._relay.read(run, who=who))

    async def readable(self, who: str, chat: str, peer: str) -> str | None:
        """Return the newest run of a chat that a client has to read: one that runs, or has ended a short time ago.

        That the end was sent does not mean that it arrived: what a broken connection still had is lost. So for the
        relay's grace period an answer that has ended can be read again, except on the connection that got its end.
        """
        run = await self._relay.latest(self.thread(who, chat), who=who)
        if run is None:
            return None
        try:
            if (await self._relay.status(run, who=who)).state == "running":
                return run
            reader = self._relay.read(run + DELIVERED, who=who)
            sent = (await reader.next_batch() or [{}])[0]
        except RunNotFound:
            return run
        late = time.time() > (sent.get("at") or 0.0) + self._relay.grace if is_object(sent) else True
        return None if late or (run, peer) in self._sent else run

    async def stop(self, who: str, chat: str) -> bool:
        """End the answer that runs in a chat, and return when the vendor's response is closed; False: none ran."""
        run = await self._relay.latest(self.thread(who, chat), who=who)
        if run is None:
            return False
        try:
            if (await self._relay.status(run, who=who)).state == "ended":
                return False
            await self._note(run, who, 0.0)  # before a reader notes that it got the end
            return await self._relay.stop(run, who=who)
        except RunNotFound:
            return False

    def sent(self, run: str, peer: str) -> None:
        """Note that the end of a run was sent on a connection."""
        self._sent[run, peer] = None
        while len(self._sent) > MAX_SENT:
            self._sent.popitem(last=False)

    async def delivered(self, run: str, who: str) -> None:
        """Note for all workers that the end of a run was sent."""
        await self._note(run, who, time.time())

    async def _note(self, run: str, who: str, at: float) -> None:
        """Write for all workers when the end of a run was sent first; 0: nobody has to read it again."""
        with suppress(RunExists, TooManyRuns, RelayError):
            await self._relay.start(run + DELIVERED, _Note(at), owner=who)


class _Note:
    """A source of one item: when the end of another run was sent, in seconds since 1970."""

    def __init__(self, at: float) -> None:
        self._items: list[Any] | None = [{"type": "sent", "at": at}]

    async def next_batch(self) -> list[Any] | None:
        items, self._items = self._items, None
        return items

    async def aclose(self) -> None:
        """Do nothing."""
