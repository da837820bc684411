"""Run a node for each item of a list, several at a time, and collect the results in the order of the items."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from streamcore.chunk import Usage
from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.errors import NodeError
from streamcore.files.yaml_file import is_list, is_mapping
from streamcore.graph.context import Context, State, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.expressions import resolve
from streamcore.graph.node_schema import LlmNode, MapNode, Node
from streamcore.storage.sizes import data_size


class RunNode(Protocol):
    """Run one node; see `streamcore.graph.nodes.run_node`."""

    def __call__(
        self, name: str, node: Node, state: State, context: Context, seconds: float | None = None
    ) -> AsyncGenerator[NodeEvent]:
        """Return the events of the node."""
        ...


@dataclass(slots=True)
class _Results:
    """What the items have given so far."""

    values: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    failures: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    errors: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usages: list[Usage] = field(default_factory=list[Usage])
    first: NodeError | None = None
    """The first error of an item that was not skipped."""


async def run_map(
    name: str, node: MapNode, state: State, context: Context, run_node: RunNode
) -> AsyncGenerator[NodeEvent]:
    """Run the node for every item; an item that fails is listed in `failures`, and `min_success` decides.

    Raises:
        NodeError: there are too many items, or too many of them failed.
        RunLimitReached: there are more items, or the results have more bytes, than the run may have.
    """
    items = _items(name, node, state, context)
    item = _item_node(context.graph.items[name], node)
    found, size = _Results(), 0
    sources = [
        _one(name, item, {**state, node.as_: one, "_map_index": index}, context, run_node, node.timeout, index, found)
        for index, one in enumerate(items)
    ]
    async with opened(merged(sources, node.max_concurrency or context.graph.file.config.max_concurrency)) as events:
        async for index, event in events:
            if event["type"] == "node_complete":
                _collect(name, node, item, index, event, found)
                size += data_size(event["output"])
                context.budget.check_bytes(name, size)
            elif event["type"] != "node_start":
                if "metadata" in event or context.config.include_metadata:
                    event.setdefault("metadata", {})["map_index"] = index
                yield event
    _check_success(name, node, len(items), found, context)
    collect, failures = node.writes(name)
    output: dict[str, Any] = {collect: [found.values[index] for index in sorted(found.values)]}
    if found.failures or state.get(failures):
        output[failures] = [found.failures[index] for index in sorted(found.failures)]
    facts: Metadata = {"usage": _sum(found.usages)} if found.usages else {}
    if found.errors:
        facts["errors"] = found.errors
    yield {"type": "node_complete", "node": name, "output": output, "metadata": facts}


def _items(name: str, node: MapNode, state: State, context: Context) -> list[Any]:
    """Return the items, no more than allowed."""
    items = resolve(node.over, state)
    if not is_list(items):
        kind = "null" if items is None else type(items).__name__
        raise failed(name, context, f"'over' must give a list, but {node.over} is {kind}")
    context.budget.check_items(name, len(items))
    file = context.graph.file
    most = node.max_items or file.config.max_map_items
    if len(items) > most:
        if (node.on_overflow or file.defaults.on_overflow) == "error":
            why = f"{len(items)} items are more than {most}; raise 'max_items', or set on_overflow: truncate"
            raise failed(name, context, why)
        items = items[:most]
    return items


def _item_node(item: Node, node: MapNode) -> Node:
    """Return the node for the items; its prompt may always read the item."""
    if isinstance(item, LlmNode) and item.variables is not None and node.as_ not in item.variables:
        return item.model_copy(update={"variables": {**item.variables, node.as_: f"{{state.{node.as_}}}"}})
    return item


async def _one(
    name: str,
    item: Node,
    state: State,
    context: Context,
    run_node: RunNode,
    seconds: float | None,
    index: int,
    found: _Results,
) -> AsyncGenerator[NodeEvent]:
    """Yield the events of one item; its failure is noted, not raised."""
    streamed = False
    inner = replace(context, streams={}, thread=None, resumes={}, report=None)
    try:
        async with opened(run_node(name, item, state, inner, seconds)) as events:
            async for event in events:
                streamed = streamed or event["type"] == "token"
                yield event
    except NodeError as error:
        cause = error.cause or error
        found.first = found.first or error
        entry = {"index": index, "error_type": type(cause).__name__, "message": str(error), "tolerated": False}
        found.failures[index] = entry
        found.errors.append({"node": name, "type": entry["error_type"], "message": str(error), "tolerated": False})
    if index in found.failures and streamed:
        yield {"type": "restart", "node": name}


def _collect(name: str, node: MapNode, item: Node, index: int, event: Any, found: _Results) -> None:
    facts: Metadata = event.get("metadata", {})
    usage = facts.get("usage")
    found.usages += [usage] if usage is not None else []
    if event["node"] != name:
        return  # of a graph inside the item
    found.errors += facts.get("errors", [])
    if "error" in facts:
        error = facts.get("errors", [{}])[0]
        kind = error.get("type", "NodeError")
        found.failures[index] = {
            "index": index,
            "error_type": kind,
            "message": facts["error"],
            "tolerated": True,
        }
    else:
        found.values[index] = _result(name, node, item, index, event["output"] or {item.state_key or name: None})


def _result(name: str, node: MapNode, item: Node, index: int, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of `collect` for an item: a mapping is merged, any other value is `value`, and both by key."""
    key = item.state_key or "result"
    own = output.get(name)
    if key in output:
        value = output[key]
        return {key: value, **(value if is_mapping(value) else {"value": value}), "_map_index": index}
    if item.state_key is None and [*output] == [name]:
        if is_mapping(own):
            return {**(own if node.flatten_output else output), "_map_index": index}
        return {**output, "value": own, "_map_index": index}
    return {**output, "_map_index": index}


def _check_success(name: str, node: MapNode, total: int, found: _Results, context: Context) -> None:
    accepted = total - sum(not failure["tolerated"] for failure in found.failures.values())
    least = 1.0 if node.min_success is None else node.min_success
    needed = least * total if isinstance(least, float) else least
    if total and accepted < needed:
        why = f"accepted {accepted}/{total} items, fewer than min_success"
        if found.first is None:
            raise failed(name, context, why)
        failure = failed(name, context, f"{why}; {found.first}")
        failure.partial = found.first.partial
        raise failure from found.first.cause


def _sum(usages: Sequence[Usage]) -> Usage:
    """Return the sum of the counts; a count that no answer has is None."""
    found: dict[str, Any] = {}
    for name in (one.name for one in fields(Usage) if one.name != "raw"):
        counts = [count for usage in usages if (count := getattr(usage, name)) is not None]
        found[name] = sum(counts) if counts else None
    return Usage(**found)
