"""Run another graph as a node: its events have the node's name in front, its thread is saved with the outer one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from streamcore.concurrency.generators import opened
from streamcore.errors import ConfigError
from streamcore.graph.context import Context, State
from streamcore.graph.events import Event, Metadata, NodeEvent
from streamcore.graph.node_schema import KeyMapping, SubgraphNode
from streamcore.graph.thread import Thread

_OWN = ("_loop_counts", "_partial")
"""Keys that each graph has for itself."""


async def run_subgraph(name: str, node: SubgraphNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Run the graph, or let it continue where it stopped; the node's output is what the mappings give."""
    graph = context.graph.children[node.graph]
    thread = Thread(graph) if context.thread is None else context.thread.child(name, graph)
    async with opened(_inner_run(name, node, state, context, thread)) as events:
        async for event in events:
            yield event
            if event["type"] == "interrupt":
                return
    counts: dict[str, int] = thread.public_state().get("_loop_counts", {}) if node.mode == "direct" else {}
    facts: Metadata = {"counts": counts} if counts else {}
    if node.mode == "direct":
        output = {key: thread.state[key] for key in thread.written}
    else:
        output = _taken(node.output_mapping, thread.state)
    yield {"type": "node_complete", "node": name, "output": output, "metadata": facts}


async def _inner_run(
    name: str, node: SubgraphNode, state: State, context: Context, thread: Thread
) -> AsyncGenerator[NodeEvent]:
    """Yield the events of a graph that begins, or that continues where it stopped."""
    if not thread.begun:
        initial = _given(node, state)
        if node.mode == "direct" or thread.graph.file.checkpointer is None:
            thread.state, thread.sizes = {}, {}
    else:
        outer = _given(node, state) if node.mode == "direct" else {}
        initial = {key: value for key, value in outer.items() if key not in thread.written}
    async with opened(inner_events(name, thread, initial, context)) as events:
        async for event in events:
            if event["type"] == "interrupt":
                updates = _taken(node.interrupt_output_mapping, thread.state)
                event.setdefault("metadata", {})["updates"] = updates
            if event["type"] != "graph_complete":
                yield event


async def inner_events(
    name: str, thread: Thread, initial: Mapping[str, Any], context: Context
) -> AsyncGenerator[Event]:
    """Yield the events of a graph that runs inside a node, each node with the outer one's name in front.

    Raises:
        ConfigError: the node runs alone, without a graph's run.
    """
    if context.run_graph is None:
        raise ConfigError(f"node {name!r} runs another graph, which only a run of the whole graph can do")
    async with opened(context.run_graph(thread, initial, context, context.resumes.get(name))) as events:
        async for event in events:
            if event["type"] != "graph_complete":
                event["node"] = f"{name}/{event['node']}"
            yield event


def _given(node: SubgraphNode, state: State) -> dict[str, Any]:
    """Return the state with which the graph begins."""
    if node.mode == "direct":
        return {key: value for key, value in state.items() if key not in _OWN}
    if isinstance(node.input_mapping, str):
        return {key: value for key, value in state.items() if key not in (*_OWN, "errors")}
    return {inner: state.get(outer) for outer, inner in node.input_mapping.items()}


def _taken(mapping: KeyMapping, state: State) -> dict[str, Any]:
    """Return what a mapping takes from the graph's state."""
    if isinstance(mapping, str):
        return {key: value for key, value in state.items() if key not in (*_OWN, "errors")}
    return {outer: state.get(inner) for outer, inner in mapping.items()}
