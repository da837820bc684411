"""Load a graph file: read it, check it whole, and work out what its nodes lead to."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from streamcore.errors import GraphError
from streamcore.provider import ModelChoice

if TYPE_CHECKING:
    from streamcore.files.yaml_file import Location, YamlFile
    from streamcore.graph.schema import EdgeBlock, GraphFile, Node

START = "START"
END = "END"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A graph file that was read and found right."""

    name: str
    path: Path
    file: GraphFile
    source: YamlFile
    nodes: Mapping[str, Node]
    items: Mapping[str, Node]
    """For each node of the type map, the node that runs for an item."""
    edges: Mapping[str, tuple[EdgeBlock, ...]]
    """The edges from each node, in order of writing."""
    reach: Mapping[str, frozenset[str]]
    """The nodes that may run after each node; a node in a cycle is among its own."""

    @property
    def prompts_dir(self) -> str | None:
        """Return where its prompts are said to be."""
        return self.file.prompts_dir if self.file.prompts_dir is not None else self.file.defaults.prompts_dir

    @property
    def beside(self) -> Path | None:
        """Return its path if its prompts are looked for beside it."""
        own = self.file.prompts_relative
        return self.path if (self.file.defaults.prompts_relative if own is None else own) else None

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that its `defaults` name."""
        defaults = self.file.defaults
        return ModelChoice(defaults.provider, defaults.model, defaults.temperature, f"in `defaults:` of {self.path}")

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {str(self.path)!r})"


def load_graph(path: str | Path) -> Graph:
    """Return the graph of a file, checked whole.

    Raises:
        GraphError: the file is wrong; the message has file, line and key of everything that was found, a line each.
    """
    from streamcore.files.yaml_file import read_yaml

    found = Path(path)
    return _load(found, read_yaml(found, GraphError))


@lru_cache(maxsize=64)
def _load(path: Path, raw: bytes) -> Graph:
    from streamcore.files.yaml_file import parse_yaml

    return build_graph(parse_yaml(path, raw, GraphError))


def build_graph(source: YamlFile) -> Graph:
    """Return the graph that a file's data describe; see `load_graph`."""
    from streamcore.files.yaml_model import validate
    from streamcore.graph.schema import GraphFile

    problems: list[str] = []
    try:
        file = validate(GraphFile, source, GraphError)
    except GraphError as error:
        file = None
        problems += str(error).splitlines()
    nodes, items = _load_nodes(source, problems)
    if file is not None:
        problems += _broken(file, source, nodes, items)
    if file is None or problems:
        raise GraphError("\n".join(sorted(problems, key=_line)))
    edges = {name: tuple(edge for edge in file.edges if edge.from_ == name) for name in (START, *nodes)}
    reach = _reach({name: set(_targets(name, nodes, edges, file)) for name in edges})
    return Graph(file.name or source.path.stem, source.path, file, source, nodes, items, edges, reach)


def _line(problem: str) -> int:
    number = problem.split(":")[1]
    return int(number) if number.isdigit() else 0


def _load_nodes(source: YamlFile, problems: list[str]) -> tuple[dict[str, Node], dict[str, Node]]:
    """Check each node by the model of its type, and in a map also the node for an item."""
    from streamcore.files.yaml_file import is_mapping
    from streamcore.graph.schema import IN_A_MAP, NODES, MapNode

    nodes: dict[str, Node] = {}
    items: dict[str, Node] = {}
    found = source.data.get("nodes") if is_mapping(source.data) else None
    for name, data in found.items() if is_mapping(found) else ():
        at: Location = ("nodes", name)
        node = check_node(source, at, f"node {name!r}", tuple(NODES), problems) if is_mapping(data) else None
        if name in (START, END):
            problems.append(f"{source.path}:{source.line(at)}: {name!r} is where a graph begins or ends, and no node")
        if node is not None:
            nodes[name] = node
        if isinstance(node, MapNode):
            item = check_node(source, (*at, "node"), f"the node inside {name!r}", IN_A_MAP, problems)
            if item is not None:
                items[name] = item
    return nodes, items


def check_node(source: YamlFile, at: Location, what: str, types: tuple[str, ...], problems: list[str]) -> Node | None:
    """Return the node at a place of a file; None, with the problems added, if it is wrong."""
    from streamcore.files.yaml_model import validate
    from streamcore.graph.schema import model_of

    part = source.at(at)
    try:
        return validate(model_of(part.data, types), part, GraphError)
    except GraphError as error:
        for line in str(error).splitlines():
            where, number, message = line.removeprefix(str(source.path)).split(":", 2)
            problems.append(f"{source.path}{where}:{number}: {what}:{message}")
    except ValueError as error:
        problems.append(f"{source.path}:{part.line(('type',))}: {what}: {error}")
    return None


def _broken(file: GraphFile, source: YamlFile, nodes: Mapping[str, Node], items: Mapping[str, Node]) -> Iterator[str]:
    """Say which names lead nowhere, and what else does not fit together."""
    from streamcore.files.yaml_model import did_you_mean

    for name, known, at, what in _references(file, nodes, items):
        if name not in known:
            yield f"{source.path}:{source.line(at)}: {what}{did_you_mean(name, [*known])}"
    for number, edge in enumerate(file.edges):
        if edge.type == "conditional" and edge.from_ in nodes and nodes[edge.from_].type != "router":
            yield (
                f"{source.path}:{source.line(('edges', number, 'type'))}: an edge of the type conditional is a "
                f"router's, and {edge.from_!r} is none; give each way an edge with a 'condition'"
            )
    if not any(edge.from_ == START for edge in file.edges):
        yield f"{source.path}:{source.line(('edges',))}: no edge from START, so nothing runs"


def _references(
    file: GraphFile, nodes: Mapping[str, Node], items: Mapping[str, Node]
) -> Iterator[tuple[str, Collection[str], Location, str]]:
    """Yield each name in the file that stands for something, what it may be, where it is, and what to say if not."""
    from streamcore.graph.schema import PythonNode, RouterNode

    sources, targets = (START, *file.nodes), (*file.nodes, END)
    for number, edge in enumerate(file.edges):
        name = edge.from_
        yield name, sources, ("edges", number, "from"), f"an edge from {name!r}, but there is no such node"
        for name in edge.targets():
            yield name, targets, ("edges", number, "to"), f"an edge to {name!r}, but there is no such node"
    for key, names in (("loop_limits", file.loop_limits), ("loop_exits", file.loop_exits)):
        for name in names:
            yield name, file.nodes, (key, name), f"{key}: there is no node {name!r}"
    for key, name in file.loop_exits.items():
        yield name, targets, ("loop_exits", key), f"loop_exits.{key}: there is no node {name!r}"
    for key, node in nodes.items():
        if isinstance(node, RouterNode):
            for value, name in node.routes.items():
                what = f"node {key!r} leads to {name!r}, but there is no such node"
                yield name, targets, ("nodes", key, "routes", value), what
            if node.default_route is not None:
                what = f"default_route: there is no node {node.default_route!r}"
                yield node.default_route, targets, ("nodes", key, "default_route"), what
    for within, some in (((), nodes), (("node",), items)):
        for key, node in some.items():
            if isinstance(node, PythonNode):
                what = f"node {key!r} calls the tool {node.tool!r}, which is not under 'tools'"
                yield node.tool, file.tools, ("nodes", key, *within, "tool"), what


def _targets(
    name: str, nodes: Mapping[str, Node], edges: Mapping[str, Sequence[EdgeBlock]], file: GraphFile
) -> Iterator[str]:
    """Yield every node that may follow a node."""
    from streamcore.graph.schema import RouterNode

    node = nodes.get(name)
    picked = node.targets() if isinstance(node, RouterNode) else []
    for target in [*picked, *(target for edge in edges[name] for target in edge.targets())]:
        for one in (target, file.loop_exits.get(target, END)):
            if one != END:
                yield one


def _reach(follows: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """Return what can be reached from each node in one step or more."""
    found: dict[str, frozenset[str]] = {}
    for name in follows:
        seen: set[str] = set()
        waiting = [*follows[name]]
        while waiting:
            target = waiting.pop()
            if target not in seen:
                seen.add(target)
                waiting += follows[target]
        found[name] = frozenset(seen)
    return found
