"""Find mistakes in a graph that loads: missing prompts and variables, unreachable nodes, endless loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from streamcore.errors import ConfigError, GraphError, PromptError
from streamcore.files.template import needed
from streamcore.files.yaml_file import Location, is_list, is_mapping
from streamcore.files.yaml_model import did_you_mean
from streamcore.graph.data_files import read_data_files
from streamcore.graph.expressions import names_in
from streamcore.graph.load import START, Graph, load_graph
from streamcore.graph.node_schema import (
    LlmNode,
    MapNode,
    Node,
    PassthroughNode,
    PythonNode,
    SubgraphNode,
    ToolCallNode,
    ToolNode,
)
from streamcore.graph.thread import Thread, open_store
from streamcore.graph.variables import missing_variables
from streamcore.prompts.prompt_file import FallbackBlock, Prompt, load_prompt
from streamcore.provider import AnyProvider, ModelChoice, provider_problem

_ALWAYS = ("_loop_counts", "_partial", "errors")


def check_graph(path: str | Path, given: Mapping[str, Any] | None = None) -> list[str]:
    """Return every mistake in a graph file and its prompts: one text each, with file and line.

    Args:
        path: the graph's file.
        given: the initial state of a run; if given, variables that this run would miss are mistakes as well.
    """
    try:
        graph = load_graph(path)
    except GraphError as error:
        return str(error).splitlines()
    found = [*_unreachable_nodes(graph), *_endless_loops(graph), *_checkpointer(graph), *_edges(graph), *_data(graph)]
    found += _provider(graph, "defaults", graph.choice, "defaults", "provider")
    for name, node in graph.nodes.items():
        found += _node(graph, name, node, ())
    for name, node in graph.items.items():
        found += _node(graph, name, node, ("node",))
    for one in [*graph.with_children()][1:]:
        found += check_graph(one.path)
    if given is not None and not found:
        found += _missing_variables(graph, given)
    return list(dict.fromkeys(found))


def _at(graph: Graph, *where: str | int) -> str:
    return f"{graph.path}:{graph.source.line(where)}"


def _missing_variables(graph: Graph, given: Mapping[str, Any]) -> list[str]:
    state = Thread(graph, state=dict(given)).view()
    return [line for error in missing_variables(graph, state) for line in str(error).splitlines()]


def _unreachable_nodes(graph: Graph) -> Iterator[str]:
    for name in graph.nodes:
        if name not in graph.reach[START]:
            yield f"{_at(graph, 'nodes', name)}: node {name!r} is never reached from START"


def _endless_loops(graph: Graph) -> Iterator[str]:
    seen: set[str] = set()
    for name in graph.nodes:
        loop = [other for other in graph.nodes if other in graph.reach[name] and name in graph.reach[other]]
        interrupts = any(other in graph.asking for other in loop)
        if loop and name not in seen and not interrupts and not any(other in graph.file.loop_limits for other in loop):
            names = ", ".join(map(repr, loop))
            at = _at(graph, "nodes", name)
            yield f"{at}: {names} may loop without end; give one of them a limit in 'loop_limits'"
        seen.update(loop)


def check_prompt(prompt: Prompt) -> list[str]:
    """Return the mistakes in a prompt file that was read: its tools, and the providers that it names.

    Raises:
        ConfigError: a tool cannot be imported.
    """
    prompt.tools.ready()
    found: list[str] = []
    choices: list[tuple[Location, AnyProvider | None]] = [(("provider",), prompt.file.provider)]
    choices += [(("fallback", number), _named(entry)) for number, entry in enumerate(prompt.file.fallback)]
    for at, provider in choices:
        problem = provider_problem(provider)
        if problem is not None:
            found.append(f"{prompt.source.path}:{prompt.source.line(at)}: {'.'.join(map(str, at))}: {problem}")
    return found


def _named(entry: str | FallbackBlock) -> AnyProvider:
    """Return the provider of an entry of `fallback`."""
    return entry.partition("/")[0] if isinstance(entry, str) else entry.provider


def _provider(graph: Graph, what: str, choice: ModelChoice, *at: str | int) -> Iterator[str]:
    problem = provider_problem(choice.provider)
    if problem is not None:
        yield f"{_at(graph, *at)}: {what}: {problem}"


def _checkpointer(graph: Graph) -> Iterator[str]:
    try:
        open_store(graph.file.checkpointer)
    except ConfigError as error:
        yield f"{_at(graph, 'checkpointer')}: {error}"


def _data(graph: Graph) -> Iterator[str]:
    try:
        read_data_files(graph)
    except GraphError as error:
        yield from str(error).splitlines()


def _edges(graph: Graph) -> Iterator[str]:
    for number, edge in enumerate(graph.file.edges):
        if edge.condition is not None:
            yield from _unknown(graph, "a condition", edge.condition, (), ("edges", number, "condition"))


def _node(graph: Graph, name: str, node: Node, inside: tuple[str, ...]) -> Iterator[str]:
    at: tuple[str | int, ...] = ("nodes", name, *inside)
    outer = graph.nodes[name]
    item = (outer.as_, "_map_index") if inside and isinstance(outer, MapNode) else ()
    texts: list[tuple[Any, str]] = []
    if isinstance(node, LlmNode):
        variables = {} if node.variables is None else node.variables
        for key, value in variables.items():
            gets = "" if node.prompt is None else f": prompt {node.prompt!r} gets {key!r}, which"
            what = f"node {name!r}{gets}"
            yield from _unknown(graph, what, value, item, (*at, "variables"))
        texts += [(getattr(node, "message", None), "message")]
        yield from _provider(graph, f"node {name!r}", node.choice, *at, "provider")
        prompt: str | None = node.prompt
        if prompt is not None:
            yield from _prompt(graph, name, prompt, node, item, (*at, "prompt"))
    elif isinstance(node, PythonNode | ToolNode):
        texts += [(value, "variables") for value in (node.variables or {}).values()]
    elif isinstance(node, ToolCallNode):
        texts += [(node.tool, "tool"), (node.args, "args")]
    elif isinstance(node, SubgraphNode):
        yield from _mappings(graph, name, node, at)
    elif isinstance(node, PassthroughNode):
        texts += [(value, "output") for value in node.output.values()]
    elif node.type == "map":
        texts.append((node.over, "over"))
    for value, key in texts:
        yield from _unknown(graph, f"node {name!r}", value, item, (*at, key))


def _mappings(graph: Graph, name: str, node: SubgraphNode, at: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the keys of mappings that the graph inside a node neither declares nor sets."""
    child = graph.children[node.graph]
    known = _known(child)
    if known is None or not child.file.state:
        return
    mappings = {
        "input_mapping": node.input_mapping,
        "output_mapping": node.output_mapping,
        "interrupt_output_mapping": node.interrupt_output_mapping,
    }
    for key, mapping in mappings.items():
        for outer, inner in mapping.items() if is_mapping(mapping) else ():
            if inner not in known:
                what = f"node {name!r}: {inner!r} is not in the state of {child.path}, and none of its nodes sets it"
                yield f"{_at(graph, *at, key, outer)}: {what}{did_you_mean(inner, known)}"


def _prompt(
    graph: Graph, name: str, prompt: str, node: LlmNode, item: tuple[str, ...], at: tuple[str | int, ...]
) -> Iterator[str]:
    try:
        found = load_prompt(prompt, prompts_dir=graph.prompts_dir, graph_path=graph.prompts_relative_to)
        yield from check_prompt(found)
    except PromptError as error:
        yield from str(error).splitlines()
        return
    except ConfigError as error:
        yield f"{_at(graph, *at)}: node {name!r}: {error}"
        return
    known = _known(graph)
    if node.variables is None and not graph.file.state:
        known = None  # the prompt reads the state that a run starts with
    if known is None:
        return
    given = [*(node.variables or ()), *known, *item]
    for missing in _needs(found):
        if missing not in given:
            what = f"node {name!r}: prompt {prompt!r} needs {missing!r}, which is neither in its variables nor in the"
            yield f"{_at(graph, *at)}: {what} state{did_you_mean(missing, given)}"


def _needs(prompt: Prompt) -> list[str]:
    return list(dict.fromkeys(name for _, text in prompt.file.templates() for name in needed(text)))


def _known(graph: Graph) -> list[str] | None:
    """Return the keys that the state may have; None if Python functions may set any key."""
    if any(node.writes_any for node in [*graph.nodes.values(), *graph.items.values()]):
        return None
    written = (key for name, node in graph.nodes.items() for key in node.writes(name))
    return [*graph.file.state, *graph.file.variables, *graph.file.data_files, *written, *_ALWAYS]


def _unknown(graph: Graph, what: str, value: Any, item: tuple[str, ...], at: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the keys that an expression reads and nothing sets, if the graph declares its state."""
    if is_mapping(value) or is_list(value):
        for inner in value.values() if is_mapping(value) else value:
            yield from _unknown(graph, what, inner, item, at)
    known = _known(graph)
    if isinstance(value, str) and known is not None and graph.file.state:
        for name in names_in(value, condition=at[-1] == "condition"):
            if name not in (*known, *item):
                message = f"{what} reads {name!r}, which is not under 'state' and no node sets"
                yield f"{_at(graph, *at)}: {message}{did_you_mean(name, [*known, *item])}"
