"""Give a node's prompt its variables, and find those that have no value, if possible before the run begins.

A null that a prompt writes would reach the model as the word `None`, so it is an error. A prompt may read a null where
its template handles it (`{% if name %}`, `{{ name or 'you' }}`, `{{ name | default('you') }}`), and where the graph
declares the key under `state`, a node sets it, or the run was given it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from streamcore.errors import ConfigError, PromptError, PromptNotFound
from streamcore.files.template import TemplateError, always_written, used
from streamcore.files.yaml_file import Location
from streamcore.graph.data_files import read_data_files
from streamcore.graph.expressions import names_in, resolve
from streamcore.graph.load import END, START, Graph
from streamcore.graph.node_schema import LlmNode
from streamcore.graph.routing import following
from streamcore.prompts.prompt_file import Prompt, load_prompt

State = Mapping[str, Any]

_TODO = (
    "Give it a value (--var, `variables`, the initial state), or let the prompt handle null, "
    "as in {{{{ {0} or 'a default' }}}}"
)


def variables_of(node: LlmNode, state: State) -> dict[str, Any]:
    """Return the variables of a node's prompt.

    Raises:
        TemplateError: an expression in `variables` failed.
    """
    if node.variables is not None:
        found: dict[str, Any] = resolve(node.variables, state)
        return found
    return {key: value for key, value in state.items() if value is not None and not key.startswith("_")}


def refuse_missing(graph: Graph, node: LlmNode, variables: Mapping[str, Any], state: State) -> None:
    """Raise if the prompt of a node would write a variable that has no value.

    Raises:
        PromptError: the message names the variable, the prompt and its file.
    """
    if not any(value is None for value in (*variables.values(), *state.values())):
        return  # what is missing altogether is found when the prompt is filled in
    prompt = _prompt(graph, node)
    settable = keys_set_by(graph, graph.nodes)
    for name, value in variables.items():
        if value is not None or settable is None:
            continue
        unknown = [key for key in _reads(node, name) if not (key in state or key in settable or key[0] == "_")]
        if unknown and any(name in used(text) for _, text in prompt.file.templates()):
            raise PromptError(
                f"{prompt.source.path}: prompt {prompt.name!r}: the variable {name!r} has no value: it reads "
                f"{unknown[0]!r}, which the run was not given, no node sets, and 'state' does not declare"
            )
    try:
        prompt.render(variables, state, nulls=False)
    except PromptError as error:
        raise _with_advice(error) from error.__cause__


def _with_advice(error: PromptError) -> PromptError:
    """Add advice for a variable that is null."""
    message = str(error)
    name = message.rpartition("the variable '")[2].partition("'")[0] if message.endswith("it is null") else ""
    return PromptError(f"{message}. {_TODO.format(name)}") if name else error


PromptProblem = TypeVar("PromptProblem", bound=PromptError | PromptNotFound)


def in_node(graph: Graph, name: str, error: PromptProblem) -> PromptProblem:
    """Return the error of a prompt with the node and the graph's file in front."""
    at: Location = ("nodes", name, "node", "prompt") if name in graph.items else ("nodes", name, "prompt")
    line = graph.source.line(at)
    return type(error)(f"{graph.path}:{line}: node {name!r}: {error}")


def paths_of(graph: Graph) -> list[Path]:
    """Return the paths of a graph's file, of the graphs that it runs, and of their prompts, as messages name them."""
    found: list[Path] = []
    for one in graph.with_children():
        found.append(one.path)
        for node in (*one.nodes.values(), *one.items.values()):
            if isinstance(node, LlmNode) and node.prompt is not None:
                with suppress(ConfigError):
                    found.append(_prompt(one, node).source.path)
    return found


def missing_variables(graph: Graph, state: State, begin: Sequence[str] | None = None) -> list[PromptError]:
    """Return an error for every node that would lack a variable in a run that begins at these nodes.

    Only what is certain is found: for nodes that run in every such run, and variables that no node before them sets.

    Args:
        graph: the graph.
        state: the state at the beginning, with null for the declared keys that have no value.
        begin: the nodes that run first; by default those that follow START.
    """
    if begin is None:
        state = _with_first_values(graph, state)
        try:
            begin = following(graph, START, state, {})
        except TemplateError:
            return []  # the run raises it
    found: list[PromptError] = []
    for name in _certain(graph, begin):
        node = graph.nodes[name]
        if not isinstance(node, LlmNode) or node.prompt is None:
            continue
        if any(state.get(key) is None for key in node.requires) or has_value(graph, name, state):
            continue
        try:
            if name in begin:
                variables = variables_of(node, state)
                refuse_missing(graph, node, variables, state)
                _prompt(graph, node).render(variables, state)
            else:
                _refuse_later(graph, name, node, state)
        except PromptError as error:
            found.append(in_node(graph, name, error))
        except (ConfigError, TemplateError):
            continue  # not about variables; the run raises it
    return found


def _with_first_values(graph: Graph, state: State) -> State:
    """Return the state with what a run sets before its first node."""
    found = dict(graph.file.variables)
    with suppress(ConfigError):  # the run raises it
        found |= read_data_files(graph)
    return {**state, **{key: value for key, value in found.items() if state.get(key) is None}}


def has_value(graph: Graph, name: str, state: State) -> bool:
    """True if a node does not run because its value exists."""
    node = graph.nodes[name]
    skips = node.skip_if_exists
    if skips is None:
        skips = node.type in ("llm", "router") and name not in graph.reach[name]
    keys = node.writes(name)
    return skips and bool(keys) and state.get(keys[0]) is not None


def keys_set_by(graph: Graph, names: Collection[str]) -> set[str] | None:
    """Return the keys of the state that these nodes may set; None where a function may set any."""
    nodes = [*(graph.nodes[name] for name in names), *(graph.items[name] for name in names if name in graph.items)]
    if any(node.writes_any for node in nodes):
        return None
    return {key for name in names for key in graph.nodes[name].writes(name)}


def _certain(graph: Graph, begin: Sequence[str]) -> Iterator[str]:
    """Yield the nodes that every run reaches without an interrupt and without a condition."""
    seen: set[str] = {END}
    waiting = [*begin]
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name
        edges = graph.edges[name]
        if (
            graph.nodes[name].type != "router"
            and name not in graph.asking
            and all(edge.condition is None for edge in edges)
        ):
            waiting += [target for edge in edges for target in edge.targets()]


def _refuse_later(graph: Graph, name: str, node: LlmNode, state: State) -> None:
    """Raise if a node that runs later will lack a variable, even if all nodes before it succeed."""
    before = [other for other in graph.nodes if name in graph.reach[other]]
    settable = keys_set_by(graph, before)
    if settable is None:
        return
    prompt = _prompt(graph, node)
    for location, text in prompt.file.templates():
        for path in always_written(text):
            first, *rest = path.split(".")
            if first in (node.variables or ()):
                reads = _reads(node, first)
                open_ = not reads or any(one in settable or one.startswith("_") for one in reads)
            else:
                reads = rest[:1] if first == "state" else [first]
                open_ = not reads or reads[0] in settable or reads[0].startswith("_")
            if not open_ and _is_null(node, first, reads, state):
                line, key = prompt.source.line(location), ".".join(map(str, location))
                error = PromptError(
                    f"{prompt.source.path}:{line}: prompt {prompt.name!r}, {key}: the variable {path!r} has no value: "
                    "it is null"
                )
                raise _with_advice(error)


def _is_null(node: LlmNode, name: str, reads: Sequence[str], state: State) -> bool:
    if name in (node.variables or {}):
        return resolve((node.variables or {})[name], state) is None
    return state.get(reads[0]) is None


def _reads(node: LlmNode, name: str) -> list[str]:
    """Return the keys of the state that the expression of a variable reads."""
    value = (node.variables or {}).get(name)
    return [*names_in(value)] if isinstance(value, str) else []


def _prompt(graph: Graph, node: LlmNode) -> Prompt:
    return load_prompt(node.prompt, prompts_dir=graph.prompts_dir, graph_path=graph.prompts_relative_to)
