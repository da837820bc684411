"""Run one node of a graph: for each type, an async generator of events that ends with the node's output."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import anyio

from streamcore.chunk import Usage
from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.errors import ConfigError, NodeError, PromptError, RunLimitReached, ThreadConflict
from streamcore.files.yaml_file import is_list
from streamcore.graph.agent_node import run_agent
from streamcore.graph.context import Context, State, as_state_error, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.llm_node import run_llm
from streamcore.graph.node_schema import InterruptNode, MapNode, Node, PassthroughNode
from streamcore.graph.subgraph_node import run_subgraph
from streamcore.graph.tool_nodes import run_python, run_tool, run_tool_call
from streamcore.graph.variables import in_node

log = logging.getLogger("streamcore")


async def run_node(name: str, node: Node, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Yield the events of one node, from `node_start` to `node_complete` or `interrupt`.

    Raises:
        NodeError: the node failed, and its `on_error` is not `skip`.
        ConfigError: a setting is not valid; this is raised with any `on_error`.
    """
    began = anyio.current_time()
    partial: Metadata = {"partial": state["_partial"][name]} if name in state.get("_partial", {}) else {}
    yield {"type": "node_start", "node": name, "metadata": partial}
    yielded = False
    try:
        context.budget.count_node(name)
        _check_requires(name, node, state, context)
        async with opened(_RUN[node.type](name, node, state, context)) as events:
            async for event in events:
                if event["type"] == "node_complete" or event["type"] == "interrupt":
                    event.setdefault("metadata", {})["seconds"] = anyio.current_time() - began
                else:
                    yielded = True
                yield event
    except PromptError as error:
        raise in_node(context.graph, name, error) from error
    except (ConfigError, RunLimitReached, ThreadConflict):
        raise
    except Exception as error:  # noqa: BLE001  raised as a NodeError, or part of the node's outcome
        failure = error if isinstance(error, NodeError) else failed(name, context, str(error), error)
        if node.on_error != "skip":
            raise failure from (error if error is not failure else error.__cause__)
        log.warning("node %r of graph %r is skipped after %s", name, context.graph.name, type(error).__name__)
        if yielded:
            yield {"type": "restart", "node": name}
        facts: Metadata = {"error": str(failure), "errors": [as_state_error(name, error)]}
        yield {"type": "node_complete", "node": name, "output": node.skipped(name), "metadata": facts}


def _check_requires(name: str, node: Node, state: State, context: Context) -> None:
    missing = [key for key in node.requires if state.get(key) is None]
    if missing:
        raise failed(name, context, f"it requires {', '.join(map(repr, missing))}, which the state does not have")


async def _passthrough(name: str, node: PassthroughNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    yield {"type": "node_complete", "node": name, "output": resolve(node.output, state)}


async def _map(name: str, node: MapNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    items = resolve(node.over, state)
    if not is_list(items):
        kind = "null" if items is None else type(items).__name__
        raise failed(name, context, f"'over' must give a list, but {node.over} is {kind}")
    context.budget.check_items(name, len(items))
    item = context.graph.items[name]
    results: list[dict[str, Any]] = [{} for _ in items]
    usages: list[Usage] = []
    sources = [
        run_node(
            name,
            item,
            {**state, node.as_: one, "_map_index": index},
            replace(context, streams={}, thread=None, resumes={}),
        )
        for index, one in enumerate(items)
    ]
    async with opened(merged(sources, node.max_concurrency)) as events:
        async for index, event in events:
            if event["type"] == "node_complete":
                usage = event.get("metadata", {}).get("usage")
                usages += [usage] if usage is not None else []
                if event["node"] == name:
                    results[index] = {**(event["output"] or {item.state_key or name: None}), "_map_index": index}
            elif event["type"] != "node_start":
                if "metadata" in event or context.config.include_metadata:
                    event.setdefault("metadata", {})["map_index"] = index
                yield event
    facts: Metadata = {"usage": _sum(usages)} if usages else {}
    yield {"type": "node_complete", "node": name, "output": {node.writes(name)[0]: results}, "metadata": facts}


def _sum(usages: Sequence[Usage]) -> Usage:
    """Return the sum of the counts; a count that no answer has is None."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(Usage) if one.name != "raw"):
        counts = [count for usage in usages if (count := getattr(usage, name)) is not None]
        found[name] = sum(counts) if counts else None
    return Usage(**found)


async def _interrupt(name: str, node: InterruptNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    message = resolve(node.message, state)
    facts: Metadata = {}
    if node.prompt is not None:
        async with opened(run_llm(name, node, state, context)) as events:
            async for event in events:
                if event["type"] == "node_complete":
                    message = event["output"][node.state_key or name]
                    facts = event.get("metadata", {})
                else:
                    yield event
    key = node.resume_key
    yield {"type": "interrupt", "node": name, "message": message, "resume_key": key, "metadata": facts}


_RUN: Mapping[str, Callable[..., AsyncGenerator[NodeEvent]]] = {
    "llm": run_llm,
    "router": run_llm,
    "agent": run_agent,
    "python": run_python,
    "tool": run_tool,
    "tool_call": run_tool_call,
    "subgraph": run_subgraph,
    "passthrough": _passthrough,
    "map": _map,
    "interrupt": _interrupt,
}
