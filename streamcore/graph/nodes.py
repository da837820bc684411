"""Run one node of a graph: for each type, an async generator of events that ends with the node's output."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace

import anyio

from streamcore.concurrency.generators import opened
from streamcore.errors import ConfigError, NodeError, PromptError, PromptNotFound, RunLimitReached, ThreadConflict
from streamcore.graph.agent_node import run_agent
from streamcore.graph.cache import NodeCache
from streamcore.graph.context import Context, State, as_state_error, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.guards import Guards, Halted
from streamcore.graph.llm_node import next_fallback, run_llm
from streamcore.graph.map_node import run_map
from streamcore.graph.node_schema import (
    GuardedNode,
    InterruptNode,
    LlmNode,
    MapNode,
    Node,
    PassthroughNode,
    TimedNode,
    candidates_of,
)
from streamcore.graph.race_node import run_race
from streamcore.graph.subgraph_node import run_subgraph
from streamcore.graph.time_limit import TimeLeft, in_time
from streamcore.graph.tool_nodes import run_python, run_tool, run_tool_call
from streamcore.graph.variables import in_node
from streamcore.reports.graph import node_reported
from streamcore.reports.report import reporter

log = logging.getLogger("streamcore")


def run_node(
    name: str, node: Node, state: State, context: Context, seconds: float | None = None
) -> AsyncGenerator[NodeEvent]:
    """Return the events of one node, from `node_start` to `node_complete` or `interrupt`.

    Args:
        name: the node's name.
        node: its keys.
        state: the state as the node sees it.
        context: what it needs besides.
        seconds: a time limit of the caller; the node's own `timeout` overrides it.

    Raises:
        NodeError: the node failed, and its `on_error` is not `skip`; or a guard ended the run.
        ConfigError: a setting is not valid; this is raised with any `on_error`.
    """
    source = _events(name, node, state, context, seconds)
    report = reporter("node", name, context.config.observer, context.budget.cost, parent=context.report)
    if report is None:
        return source
    return node_reported(source, report, node.type, enter=node.type not in _ASKS_MODELS)


async def _events(
    name: str, node: Node, state: State, context: Context, seconds: float | None
) -> AsyncGenerator[NodeEvent]:
    began = anyio.current_time()
    partial: Metadata = {"partial": state["_partial"][name]} if name in state.get("_partial", {}) else {}
    yield {"type": "node_start", "node": name, "metadata": partial}
    yielded = False
    limit = node.timeout if isinstance(node, TimedNode) and node.timeout is not None else seconds
    try:
        if context.budget.cost is not None:
            await context.budget.cost.prepare()
        context.budget.count_node(name)
        _check_requires(name, node, state, context)
        async with opened(_source(name, node, state, replace(context, seconds=limit))) as events:
            async for event in events:
                if (event["type"] == "node_complete" and event["node"] == name) or event["type"] == "interrupt":
                    event.setdefault("metadata", {})["seconds"] = anyio.current_time() - began
                else:
                    yielded = True
                yield event
    except (PromptError, PromptNotFound) as error:
        raise in_node(context.graph, name, error) from error
    except (ConfigError, RunLimitReached, ThreadConflict):
        raise
    except Halted as halted:
        raise halted.error from halted.__cause__
    except Exception as error:  # noqa: BLE001  raised as a NodeError, or part of the node's outcome
        failure = error if isinstance(error, NodeError) else failed(name, context, str(error), error)
        if failure.partial is None and name in context.streams:
            failure.partial = context.streams[name].partial
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


def _source(name: str, node: Node, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Return the events of a node; most need no checks, and none of their costs for each token."""
    if context.seconds is None and not (isinstance(node, GuardedNode) and (node.guards or node.cache)):
        return _RUN[node.type](name, node, state, context)
    return _checked(name, node, state, context)


async def _checked(name: str, node: Node, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Yield the events of a node between its guards; the output may be a cached one."""
    guards = Guards(name, node, context)
    why = guards.skips(state)
    if why is not None:
        error = {"node": name, "type": "GuardFailed", "message": why, "tolerated": True}
        skipped: Metadata = {"error": why, "errors": [*guards.warnings, error]}
        yield {"type": "node_complete", "node": name, "output": {node.writes(name)[0]: None}, "metadata": skipped}
        return
    cache = NodeCache(name, node, state, context)
    kept = cache.find()
    if kept is not None:
        if kept.text and isinstance(node, LlmNode) and node.stream:
            yield {"type": "token", "node": name, "content": kept.text}
        yield {"type": "node_complete", "node": name, "output": dict(kept.output)}
        return
    text = ""
    async with opened(_tried(name, node, state, context, guards)) as events:
        async for event in events:
            if event["type"] == "token":
                text += event["content"]
            elif event["type"] == "restart":
                text = ""
            elif event["type"] == "node_complete" and event["node"] == name:
                if guards.warnings:
                    facts = event.setdefault("metadata", {})
                    facts["errors"] = [*facts.get("errors", []), *guards.warnings]
                cache.keep(text, event["output"])
            yield event


async def _tried(name: str, node: Node, state: State, context: Context, guards: Guards) -> AsyncGenerator[NodeEvent]:
    """Yield the events of a node, which runs again if a guard or its `on_error` after a timeout says so."""
    left = node.max_retries if node.on_error == "retry" and context.restarts else 0
    late: TimeoutError | None = None
    while True:
        again = streamed = False
        try:
            async with opened(_run_in_time(name, node, state, context)) as events:
                async for event in events:
                    if event["type"] == "node_complete" and event["node"] == name:
                        again = guards.wants_again(state, event["output"])
                        if again:
                            break
                    streamed = streamed or event["type"] == "token"
                    yield event
        except TimeoutError as error:
            following = next_fallback(node, context) if isinstance(node, LlmNode) and context.restarts else None
            if following is not None:
                node, context = following
            elif left > 0:
                left -= 1
            else:
                raise
            log.info("node %r of graph %r runs again after its timeout", name, context.graph.name)
            again, late = True, error
        except ConfigError as error:  # a fallback that cannot be asked, for example since its key is missing
            if late is None:
                raise
            raise error from late
        if not again:
            return
        if streamed:
            yield {"type": "restart", "node": name}


def _run_in_time(name: str, node: Node, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    source = _RUN[node.type](name, node, state, context)
    # A race has a time limit of its own, and that of a tool_call is part of its output.
    if context.seconds is None or node.type == "tool_call" or candidates_of(node):
        return source
    return in_time(source, TimeLeft(context.seconds))


async def _passthrough(name: str, node: PassthroughNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    yield {"type": "node_complete", "node": name, "output": resolve(node.output, state)}


def _llm(name: str, node: LlmNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    return (run_race if candidates_of(node) else run_llm)(name, node, state, context)


def _map(name: str, node: MapNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    return run_map(name, node, state, context, run_node)


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


_ASKS_MODELS = frozenset({"llm", "router", "race", "agent"})
"""The types of nodes that run no code of the user but in tools."""

_RUN: Mapping[str, Callable[..., AsyncGenerator[NodeEvent]]] = {
    "llm": run_llm,
    "router": _llm,
    "race": run_race,
    "agent": run_agent,
    "python": run_python,
    "tool": run_tool,
    "tool_call": run_tool_call,
    "subgraph": run_subgraph,
    "passthrough": _passthrough,
    "map": _map,
    "interrupt": _interrupt,
}
