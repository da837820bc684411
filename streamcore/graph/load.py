"""Load a graph file: read it, validate it, and compute which nodes follow each node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streamcore.errors import GraphError
from streamcore.provider import ModelChoice

if TYPE_CHECKING:
    from streamcore.files.yaml_file import Location, YamlFile
    from streamcore.files.yaml_model import FileModel
    from streamcore.graph.node_schema import Node
    from streamcore.graph.schema import EdgeBlock, GraphFile
    from streamcore.graph.tool_schema import ToolBlock

    Model = TypeVar("Model", bound=FileModel)

START = "START"
END = "END"
MAX_DEPTH = 16
"""The maximum number of graphs inside each other."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Represent a graph file that was read and validated."""

    name: str
    path: Path
    file: GraphFile
    source: YamlFile
    nodes: Mapping[str, Node]
    items: Mapping[str, Node]
    """For each map node, the node that runs for every item."""
    tools: Mapping[str, ToolBlock]
    edges: Mapping[str, tuple[EdgeBlock, ...]]
    """The edges from each node, in the order of the file."""
    reach: Mapping[str, frozenset[str]]
    """The nodes that may run after each node; a node in a cycle is one of its own."""
    asking: frozenset[str]
    """The nodes that may ask a person: interrupts, and graphs that have one."""
    children: Mapping[str, Graph] = field(default_factory=dict[str, "Graph"])
    """The graphs that its nodes and tools run, by their paths in the file."""

    @property
    def prompts_dir(self) -> str | None:
        """The folder of its prompts, None if the file names none."""
        return self.file.prompts_dir if self.file.prompts_dir is not None else self.file.defaults.prompts_dir

    @property
    def prompts_relative_to(self) -> Path | None:
        """Its path if its prompts are also looked up in its own folder, else None: the argument `graph_path`."""
        own = self.file.prompts_relative
        return self.path if (self.file.defaults.prompts_relative if own is None else own) else None

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that its `defaults` name."""
        defaults = self.file.defaults
        return ModelChoice(defaults.provider, defaults.model, defaults.temperature, f"in `defaults:` of {self.path}")

    def node(self, path: str) -> Node | None:
        """Return the node with this name, or `outer/inner` for a node of a graph inside this one."""
        if path in self.nodes:
            return self.nodes[path]
        for end in [place for place, char in enumerate(path) if char == "/"]:
            outer = self.nodes.get(path[:end]) or self.items.get(path[:end])
            child = self.children.get(getattr(outer, "graph", ""))
            found = child.node(path[end + 1 :]) if child is not None else None
            if found is not None:
                return found
        return None

    def with_children(self) -> Iterator[Graph]:
        """Yield the graph and those inside it, each once."""
        seen: dict[int, Graph] = {}
        waiting: list[Graph] = [self]
        while waiting:
            graph = waiting.pop(0)
            if id(graph) not in seen:
                seen[id(graph)] = graph
                waiting += graph.children.values()
        yield from seen.values()

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {str(self.path)!r})"


def load_graph(path: str | Path) -> Graph:
    """Return the validated graph of a file, with the graphs that it runs.

    Raises:
        GraphError: a file is not valid; the message lists every problem with file, line and key.
    """
    return _load_with_children(Path(path), ())


def _load_with_children(path: Path, above: tuple[Path, ...]) -> Graph:
    from streamcore.files.yaml_file import read_yaml

    return _add_children(_load(path, read_yaml(path, GraphError)), above)


@lru_cache(maxsize=256)
def _load(path: Path, raw: bytes) -> Graph:
    from streamcore.files.yaml_file import parse_yaml

    return _build(parse_yaml(path, raw, GraphError))


def build_graph(source: YamlFile) -> Graph:
    """Return the graph of a parsed file; see `load_graph`."""
    return _add_children(_build(source), ())


def _build(source: YamlFile) -> Graph:
    """Return the graph of a parsed file, without those that it runs."""
    from streamcore.files.yaml_model import validate
    from streamcore.graph.schema import GraphFile

    problems: list[str] = []
    try:
        file = validate(GraphFile, source, GraphError)
    except GraphError as error:
        file = None
        problems += str(error).splitlines()
    nodes, items = _load_nodes(source, problems)
    tools = _load_tools(source, problems)
    if file is not None:
        problems += _inconsistencies(file, source, nodes, items, tools)
    if file is None or problems:
        raise GraphError("\n".join(sorted(problems, key=_line)))
    edges = {name: tuple(edge for edge in file.edges if edge.from_ == name) for name in (START, *nodes)}
    reach = _reach({name: set(_targets(name, nodes, edges, file)) for name in edges})
    asking = frozenset(name for name, node in nodes.items() if node.type == "interrupt" or _asks(node))
    return Graph(file.name or source.path.stem, source.path, file, source, nodes, items, tools, edges, reach, asking)


def _add_children(graph: Graph, above: tuple[Path, ...]) -> Graph:
    """Return the graph with the graphs that its nodes and tools run; `above` are the files that lead to it.

    Raises:
        GraphError: a file is missing or not valid, or a graph runs inside itself.
    """
    references = [*_graph_references(graph)]
    if not references:
        return graph
    chain = (*above, graph.path.resolve())
    children: dict[str, Graph] = {}
    problems: list[str] = []
    for reference, at, what in references:
        path = graph.path.parent / reference
        where = f"{graph.path}:{graph.source.line(at)}: {what}"
        if path.resolve() in chain:
            names = " -> ".join(one.name for one in (*chain[chain.index(path.resolve()) :], path))
            problems.append(f"{where} runs a graph inside itself: {names}")
        elif len(chain) >= MAX_DEPTH:
            problems.append(f"{where}: graphs may be at most {MAX_DEPTH} levels deep")
        elif not path.is_file():
            problems.append(f"{where}: there is no file {path}")
        elif reference not in children:
            try:
                children[reference] = _load_with_children(path, chain)
            except GraphError as error:
                problems += str(error).splitlines()
    problems += _asking_items(graph, children)
    if problems:
        raise GraphError("\n".join(dict.fromkeys(problems)))
    return _joined(graph, tuple(children.items()))


@lru_cache(maxsize=64)
def _joined(graph: Graph, children: tuple[tuple[str, Graph], ...]) -> Graph:
    found = dict(children)
    asking = {name for name, node in graph.nodes.items() if node.type == "subgraph" and found[node.graph].asking}
    return replace(graph, children=found, asking=graph.asking | asking)


def _graph_references(graph: Graph) -> Iterator[tuple[str, Location, str]]:
    """Yield each path of a graph that a node or tool runs, its location, and what runs it."""
    for within, some in (((), graph.nodes), (("node",), graph.items)):
        for name, node in some.items():
            if node.type == "subgraph":
                yield node.graph, ("nodes", name, *within, "graph"), f"node {name!r}"
    for name, tool in graph.tools.items():
        if tool.type == "graph":
            yield tool.path, ("tools", name, "path"), f"tool {name!r}"


def _asks(node: Node) -> bool:
    """Return whether an agent asks a person before it calls a tool."""
    return node.type == "agent" and bool(node.approve)


def _asking_items(graph: Graph, children: Mapping[str, Graph]) -> Iterator[str]:
    for name, node in graph.items.items():
        if node.type == "subgraph" and node.graph in children and children[node.graph].asking:
            line = graph.source.line(("nodes", name, "node", "graph"))
            yield (
                f"{graph.path}:{line}: the node inside {name!r}: a graph that asks a person cannot run in a map; "
                "ask before the map, or after it"
            )


def _line(problem: str) -> int:
    number = problem.split(":")[1]
    return int(number) if number.isdigit() else 0


def _load_nodes(source: YamlFile, problems: list[str]) -> tuple[dict[str, Node], dict[str, Node]]:
    """Validate each node with the model of its type, and for a map node also the node for its items."""
    from streamcore.files.yaml_file import is_mapping
    from streamcore.graph.node_schema import IN_A_MAP, NODES, MapNode

    nodes: dict[str, Node] = {}
    items: dict[str, Node] = {}
    found = source.data.get("nodes") if is_mapping(source.data) else None
    for name, data in found.items() if is_mapping(found) else ():
        at: Location = ("nodes", name)
        node = check_node(source, at, f"node {name!r}", tuple(NODES), problems) if is_mapping(data) else None
        if name in (START, END):
            problems.append(
                f"{source.path}:{source.line(at)}: {name!r} cannot be a node's name: it is where a graph begins or ends"
            )
        if node is not None:
            nodes[name] = node
        if isinstance(node, MapNode):
            item = check_node(source, (*at, "node"), f"the node inside {name!r}", IN_A_MAP, problems)
            if item is not None:
                items[name] = item
    return nodes, items


def _load_tools(source: YamlFile, problems: list[str]) -> dict[str, ToolBlock]:
    """Validate each tool with the model of its type."""
    from streamcore.files.yaml_file import is_mapping
    from streamcore.graph.tool_schema import TOOLS, tool_kind

    found = source.data.get("tools") if is_mapping(source.data) else None
    tools: dict[str, ToolBlock] = {}
    for name, data in found.items() if is_mapping(found) else ():
        if is_mapping(data):
            tool = _check_part(source, ("tools", name), f"tool {name!r}", lambda one: TOOLS[tool_kind(one)], problems)
            if tool is not None:
                tools[name] = tool
    return tools


def check_node(source: YamlFile, at: Location, what: str, types: tuple[str, ...], problems: list[str]) -> Node | None:
    """Return the node at a location in a file; None if it is not valid, with its problems added to `problems`."""
    from streamcore.graph.node_schema import model_of

    return _check_part(source, at, what, lambda data: model_of(data, types), problems)


def _check_part(
    source: YamlFile,
    at: Location,
    what: str,
    model_of: Callable[[Mapping[str, Any]], type[Model]],
    problems: list[str],
) -> Model | None:
    """Validate a mapping of a file with the model of its type."""
    from streamcore.files.yaml_model import validate

    part = source.at(at)
    try:
        return validate(model_of(part.data), part, GraphError)
    except GraphError as error:
        for line in str(error).splitlines():
            where, number, message = line.removeprefix(str(source.path)).split(":", 2)
            problems.append(f"{source.path}{where}:{number}: {what}:{message}")
    except ValueError as error:
        problems.append(f"{source.path}:{part.line(('type',))}: {what}: {error}")
    return None


def _inconsistencies(
    file: GraphFile,
    source: YamlFile,
    nodes: Mapping[str, Node],
    items: Mapping[str, Node],
    tools: Mapping[str, ToolBlock],
) -> Iterator[str]:
    """Yield the problems between parts of a file, such as names that do not exist."""
    from streamcore.files.yaml_model import did_you_mean

    for name, known, at, what in _references(file, nodes, items):
        if name not in known:
            yield f"{source.path}:{source.line(at)}: {what}{did_you_mean(name, [*known])}"
    for number, edge in enumerate(file.edges):
        if edge.type == "conditional" and edge.from_ in nodes and nodes[edge.from_].type != "router":
            yield (
                f"{source.path}:{source.line(('edges', number, 'type'))}: only edges from a router have the type "
                f"conditional, and {edge.from_!r} is not a router; give each branch an edge with a 'condition'"
            )
    yield from _wrong_tools(source, nodes, items, tools)
    for name, node in items.items():
        if _asks(node):
            yield (
                f"{source.path}:{source.line(('nodes', name, 'node', 'approve'))}: the node inside {name!r}: an agent "
                "in a map cannot ask a person; remove 'approve', or run the agent as a node of its own"
            )
    if not any(edge.from_ == START for edge in file.edges):
        yield f"{source.path}:{source.line(('edges',))}: no edge from START, so nothing runs"


def _wrong_tools(
    source: YamlFile, nodes: Mapping[str, Node], items: Mapping[str, Node], tools: Mapping[str, ToolBlock]
) -> Iterator[str]:
    """Yield the nodes that call a tool of a type that they do not run."""
    from streamcore.graph.node_schema import PythonNode, ToolNode

    for within, some in (((), nodes), (("node",), items)):
        for key, node in some.items():
            tool = tools.get(node.tool) if isinstance(node, PythonNode | ToolNode) else None
            at = f"{source.path}:{source.line(('nodes', key, *within, 'tool'))}: node {key!r}"
            if isinstance(node, ToolNode) and tool is not None and tool.type != "shell":
                yield (
                    f"{at} runs a shell tool, and {node.tool!r} is a {tool.type} tool; use a node of the type "
                    "'python' or 'tool_call'"
                )
            if isinstance(node, PythonNode) and tool is not None and tool.type != "python":
                yield (
                    f"{at} calls a Python function, and {node.tool!r} is a {tool.type} tool; use a node of the type "
                    "'tool' or 'tool_call'"
                )


def _references(
    file: GraphFile, nodes: Mapping[str, Node], items: Mapping[str, Node]
) -> Iterator[tuple[str, Collection[str], Location, str]]:
    """Yield each reference to a name: the name, the names that exist, the location, the problem if unknown."""
    from streamcore.graph.node_schema import AgentNode, PythonNode, RouterNode, ToolCallNode, ToolNode

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
                what = f"default_route names a node, not a route, and there is no node {node.default_route!r}"
                yield node.default_route, targets, ("nodes", key, "default_route"), what
    for within, some in (((), nodes), (("node",), items)):
        for key, node in some.items():
            if isinstance(node, AgentNode):
                for number, tool in enumerate(node.tools):
                    at = ("nodes", key, *within, "tools", number)
                    yield tool, file.tools, at, f"node {key!r} has the tool {tool!r}, which is not under 'tools'"
            if isinstance(node, PythonNode | ToolNode) or (isinstance(node, ToolCallNode) and "{" not in node.tool):
                what = f"node {key!r} calls the tool {node.tool!r}, which is not under 'tools'"
                yield node.tool, file.tools, ("nodes", key, *within, "tool"), what


def _targets(
    name: str, nodes: Mapping[str, Node], edges: Mapping[str, Sequence[EdgeBlock]], file: GraphFile
) -> Iterator[str]:
    """Yield every node that may follow a node."""
    from streamcore.graph.node_schema import RouterNode

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
