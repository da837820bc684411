"""Read the runs of an AG-UI endpoint: a prompt that may wait for approval, and a graph that may ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from streamcore.completion import Completion
from streamcore.graph.config import Config
from streamcore.graph.limits import AnswerTokens
from streamcore.graph.stream import EventStream
from streamcore.graph.thread import Thread
from streamcore.relay.reader import Reader
from streamcore.stream import Stream
from streamcore.web.endpoints.waiting_calls import WaitingCalls
from streamcore.web.graph_target import GraphTarget


class ModelRun:
    """The chunks of a model or an agent. Calls that wait for approval are saved, and are the last item.

    Args:
        stream: the stream.
        tokens: counts the tokens; None: nobody does.
        waiting: keeps the calls that wait; None: there can be none.
        user: the user's message.
    """

    def __init__(
        self, stream: Stream, tokens: AnswerTokens | None, waiting: WaitingCalls | None = None, user: str = ""
    ) -> None:
        self._stream = stream
        self._tokens = tokens
        self._waiting = waiting
        self._user = user
        self._over = False

    async def next_batch(self) -> list[Any] | None:
        """Return what has arrived; None at the end."""
        if self._over:
            return None
        batch = await self._stream.next_batch()
        if batch is not None:
            if self._tokens is not None:
                self._tokens.note(batch)
            return [*batch]
        self._over = True
        pending = self._stream.partial.pending
        if not pending or self._waiting is None:
            return None
        await self._waiting.save(self._user, self._stream.messages, [call.id or "" for call in pending])
        return [{"type": "pending", "calls": [{"id": call.id or "", "name": call.name or ""} for call in pending]}]

    async def aclose(self) -> None:
        """Close the vendor's response."""
        await self._stream.aclose()


def interrupt_id(thread: Thread) -> str | None:
    """Return the id of the question that a thread waits with; None if it does not.

    It has the version of the thread, so that a later question of the same node has another one.
    """
    question = thread.question()
    return None if question is None else f"{question['node']}@{thread.version}"


class GraphEvents:
    """The events of a graph's run.

    An interrupt has its id and the state. A graph without tokens says the output of its last node.

    Args:
        target: the graph.
        config: of the run.
        open_events: starts the run, or reads the events that a durable one has stored.
        values: the values of the state that the run begins with.
    """

    def __init__(
        self,
        target: GraphTarget,
        config: Config,
        open_events: Callable[[], EventStream[Any] | Reader],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self.target = target
        self.config = config
        self.values = values or {}
        self._open = open_events
        self._events: EventStream[Any] | Reader | None = None
        self._said = False
        self._output: Mapping[str, Any] = {}

    @property
    def resumable(self) -> bool:
        """Whether the run continues if this process ends."""
        return isinstance(self._events, Reader) and self._events.resumable

    @property
    def partial(self) -> Completion | None:
        """After the end of a stored run: an empty answer if it was stopped."""
        return self._events.partial if isinstance(self._events, Reader) else None

    async def next_batch(self) -> list[Any] | None:
        """Return the next event; None at the end."""
        if self._events is None:
            self._events = self._open()
        async for event in self._events:
            return [*await self._items(event)]
        return None

    async def _items(self, event: Any) -> list[Any]:
        match event["type"]:
            case "token":
                self._said = True
            case "node_complete":
                self._output = event["output"] or self._output
            case "interrupt":
                thread = await Thread.open(self.target.graph, self.config)
                return [{**event, "id": interrupt_id(thread) or event["node"], "state": thread.public_state()}]
            case "gap":
                self._said = self._said or any(one["type"] == "token" for one in event["items"])
            case "graph_complete" if not self._said and self._output:
                return [{"type": "token", "node": "", "content": self._last_output()}, event]
            case _:
                pass
        return [event]

    def _last_output(self) -> str:
        values = [*self._output.values()]
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
        return json.dumps(self._output, ensure_ascii=False, default=str)

    async def aclose(self) -> None:
        """Close the run."""
        if self._events is not None:
            await self._events.aclose()


class Abandoned:
    """The run of a graph whose question the user gave no answer to: the thread begins anew with the next run."""

    def __init__(self, thread: Thread) -> None:
        self._thread: Thread | None = thread

    async def next_batch(self) -> list[Any] | None:
        """Return the state, which is no end; then None."""
        thread, self._thread = self._thread, None
        if thread is None:
            return None
        thread.asked, thread.next = None, []
        await thread.save()
        return [{"type": "state", "state": thread.public_state()}]

    async def aclose(self) -> None:
        """Do nothing."""
