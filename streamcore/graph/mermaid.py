"""Draw a graph as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator

from streamcore.graph.load import END, START, Graph
from streamcore.graph.node_schema import RouterNode

_CALL = ("[[", "]]")
_SHAPES = {
    "router": ("{", "}"),
    "interrupt": ("[/", "/]"),
    **dict.fromkeys(("python", "tool", "tool_call", "subgraph"), _CALL),
    "map": ("[\\", "/]"),
}


def mermaid(graph: Graph) -> str:
    """Return the text of the Mermaid diagram of a graph."""
    return "\n".join(["graph TD", *(f"    {line}" for line in _lines(graph))]) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    numbers = {name: f"n{number}" for number, name in enumerate([START, *graph.nodes, END])}
    for name, number in numbers.items():
        if name in (START, END):
            yield f"{number}([{name}])"
        else:
            left, right = _SHAPES.get(graph.nodes[name].type, ("[", "]"))
            yield f'{number}{left}"{_text(name)}"{right}'
    for name, edges in graph.edges.items():
        node = graph.nodes.get(name)
        if isinstance(node, RouterNode):
            for value, target in node.routes.items():
                yield f'{numbers[name]} -->|"{_text(value)}"| {numbers[target]}'
            if node.default_route is not None:
                yield f"{numbers[name]} -.-> {numbers[node.default_route]}"
            continue
        for edge in edges:
            label = f'|"{_text(edge.condition)}"|' if edge.condition is not None else ""
            for target in edge.targets():
                yield f"{numbers[name]} -->{label} {numbers[target]}"
        if not edges:
            yield f"{numbers[name]} --> {numbers[END]}"
    for name, limit in graph.file.loop_limits.items():
        exit_ = graph.file.loop_exits.get(name, END)
        yield f'{numbers[name]} -.->|"after {limit}"| {numbers[exit_]}'


def _text(text: str) -> str:
    """Escape a text for a quoted Mermaid label."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
