"""Decide which nodes run next: pure functions of the graph, the state and what has run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamcore.errors import NodeError
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.expressions import holds
from streamcore.graph.load import END, START, Graph
from streamcore.graph.node_schema import RouterNode

State = Mapping[str, Any]


def following(graph: Graph, name: str, state: State, counts: Mapping[str, int]) -> list[str]:
    """Return the nodes that follow a node which has run, END left out.

    The output of a router names its route. Any other node takes the first edge whose condition is true, or else all
    edges without a condition. A node that has reached its `loop_limits` is replaced by its `loop_exits`.

    Raises:
        NodeError: the output of a router matches none of its routes.
        TemplateError: a condition failed.
    """
    node = graph.nodes.get(name) if name != START else None
    if isinstance(node, RouterNode):
        targets = [_picked(graph, name, node, state)]
    else:
        taken = next((edge for edge in graph.edges[name] if edge.condition and holds(edge.condition, state)), None)
        edges = [taken] if taken else [edge for edge in graph.edges[name] if edge.condition is None]
        targets = [target for edge in edges for target in edge.targets()]
    return [target for target in dict.fromkeys(_within_limit(graph, one, counts) for one in targets) if target != END]


def _within_limit(graph: Graph, name: str, counts: Mapping[str, int]) -> str:
    seen: set[str] = set()
    while name != END and counts.get(name, 0) >= graph.file.loop_limits.get(name, counts.get(name, 0) + 1):
        seen.add(name)
        name = graph.file.loop_exits.get(name, END)
        if name in seen:
            return END
    return name


def ready(graph: Graph, waiting: Sequence[str]) -> list[str]:
    """Return those of the waiting nodes that run now, at the same time.

    A node waits for waiting nodes that may still lead to it, so that a node where branches join runs once. A node that
    may ask a person waits until no other node can run.
    """
    free = [
        name
        for name in waiting
        if not any(name in graph.reach[other] and other not in graph.reach[name] for other in waiting if other != name)
    ]
    return [name for name in free if name not in graph.asking] or free[:1]


def _picked(graph: Graph, name: str, node: RouterNode, state: State) -> str:
    value = state.get(node.state_key or name)
    routes = {_folded(key): target for key, target in node.routes.items()}
    for name_of_route in _candidates(node, value):
        if _folded(name_of_route) in routes:
            return routes[_folded(name_of_route)]
    if node.default_route is None:
        field = f"the field {node.route_field!r} of its output" if node.route_field else "its output"
        raise NodeError(
            f"node {name!r} of graph {graph.name!r}: {field} is none of its routes ({', '.join(node.routes)}); "
            "add a route for it, or a 'default_route'",
            graph=graph.name,
            node=name,
        )
    return node.default_route


def _candidates(node: RouterNode, value: Any) -> Iterable[object]:
    """Return the values that may name the route, in order of precedence."""
    if not is_mapping(value):
        return [value]
    if node.route_field is not None:
        return [value.get(node.route_field)]
    for field in ("intent", "tone"):
        if field in value:
            return [value[field]]
    return [one for one in value.values() if isinstance(one, str)]


def _folded(value: object) -> str:
    return str(value).strip().casefold()
