"""Run a graph, or what is left of its run, after any number of lost workers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from streamcore.errors import ThreadConflict
from streamcore.graph.config import Config
from streamcore.graph.events import GraphComplete, NodeComplete, TokenEvent
from streamcore.graph.load import Graph
from streamcore.graph.stream import stream_graph_with_tokens
from streamcore.graph.thread import Thread
from streamcore.relay.unfinished import restarts
from streamcore.sse import Item

log = logging.getLogger("streamcore")

CONFLICTS = 5
"""How often earlier workers may save the thread while another one runs it; each can do so once or twice."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What a job has: one stretch of a run, from a message or an answer to the end or the next question.

    Attributes:
        graph: the graph's name.
        thread: the thread's id.
        state: the values that override those of the thread.
        resume: the answer to the thread's question, None if there was none.
        version: the version of the thread before the segment.
        counts: how often each node of the thread had run before the segment.
        owner: the user who owns the run.
        key: the name of the conversation in the relay; defaults to the graph's name and the thread's.
        first: items that come before the events.
        include_metadata: whether events have `metadata`; that of tokens has only `map_index`, since each is stored.
        limits: what the segment may cost, as the fields of `RunLimits`; empty: the worker's.
        max_seconds: seconds after which the segment is ended as an error, counted anew by each worker; None: no limit.
    """

    graph: str
    thread: str
    state: Mapping[str, Any] = field(default_factory=dict[str, Any])
    resume: Any = None
    version: int = 0
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    owner: str = ""
    key: str = ""
    first: Sequence[Mapping[str, Any]] = ()
    include_metadata: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    max_seconds: float | None = None


async def events(graph: Graph, config: Config, segment: Segment, before: Sequence[Item]) -> AsyncGenerator[Item]:
    """Yield the events of a segment that are not in its log yet; `before` is what the log has.

    A node that had completed when its worker was lost does not run again; if the log does not have its end, it is
    reported from the thread, with its text. An earlier worker that was only slow may save a last node while this one
    runs; then what began here is voided, and the graph goes on from there.
    """
    last = before[-1] if before else None
    if isinstance(last, Mapping) and last["type"] in ("interrupt", "graph_complete"):
        return  # only the end of the log was missing
    for item in () if before else segment.first:
        yield item
    seen = [*before]
    for left in reversed(range(CONFLICTS + 1)):
        try:
            async for event in _rest(graph, config, segment, seen):
                if event["type"] != "token":
                    seen.append(event)
                elif segment.include_metadata:
                    event = _stored_token(event)
                yield event
        except ThreadConflict as error:
            if not left:
                raise
            log.warning("an earlier worker has saved thread %r: %s", segment.thread, error)
            for restart in restarts(seen):
                yield restart
        else:
            return


async def _rest(
    graph: Graph, config: Config, segment: Segment, before: Sequence[Item]
) -> AsyncGenerator[Mapping[str, Any]]:
    """Yield the events that follow those in `before`, from the thread as it is saved now."""
    thread = await Thread.open(graph, config)
    state, resume = segment.state, segment.resume
    if thread.version != segment.version:  # an earlier worker has saved something, so it has used these
        state, resume = dict[str, Any](), None
        for event in _unreported(graph, thread, segment, before):
            yield event
        if not thread.next and thread.asked is None:
            yield GraphComplete(type="graph_complete", state=thread.public_state())
            return
    async with stream_graph_with_tokens(graph, state, replace(config, resume=resume)) as stream:
        async for event in stream:
            yield event


def _stored_token(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a token without metadata that is the same for all of its node, or that no reader needs."""
    index = event.get("metadata", {}).get("map_index")
    more = {} if index is None else {"metadata": {"map_index": index}}
    return {"type": "token", "node": event["node"], "content": event["content"], **more}


def _unreported(graph: Graph, thread: Thread, segment: Segment, before: Sequence[Item]) -> list[Mapping[str, Any]]:
    """Return the events of the nodes whose completion the thread has, and the log has not."""
    reported = Counter[str](
        str(item["node"]) for item in before if isinstance(item, Mapping) and item["type"] == "node_complete"
    )
    found: list[Mapping[str, Any]] = []
    for name, count in thread.counts.items():
        node = graph.nodes.get(name)
        if node is None or count - segment.counts.get(name, 0) <= reported[name]:
            continue
        output = {key: thread.state[key] for key in node.writes(name) if key in thread.state}
        text = next(iter(output.values()), None)
        if node.type in ("llm", "agent") and isinstance(text, str) and text:
            found.append(TokenEvent(type="token", node=name, content=text))
        found.append(NodeComplete(type="node_complete", node=name, output=output))
    return found
