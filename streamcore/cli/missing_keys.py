"""Find the providers that a prompt or a graph asks and for which the environment has no key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from streamcore.errors import ConfigError, PromptError
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.node_schema import LlmNode, candidates_of
from streamcore.prompts.prompt_file import load_prompt
from streamcore.provider import Vendor, environment_provider, provider_names, vendor


def missing_keys(target: str, provider: str | None, prompts_dir: Path | None) -> list[Vendor]:
    """Return the vendors without a key that a target asks first or as a fallback.

    Args:
        target: the path of a graph's or prompt's file, or a prompt's name.
        provider: the provider that overrides those of the files.
        prompts_dir: the folder of the prompts.
    """
    names = dict.fromkeys(name for name in _providers(target, provider, prompts_dir) if isinstance(name, str))
    vendors = [vendor(name) for name in names if name in provider_names()]
    return [one for one in vendors if one is not None and one.needs_key and one.find_key() is None]


def _providers(target: str, provider: str | None, prompts_dir: Path | None) -> Iterator[object]:
    path = Path(target)
    if path.suffix not in (".yaml", ".yml"):
        yield from _of_prompt(target, provider, prompts_dir, None)
        return
    data = load_yaml(path, PromptError).data
    if not (is_mapping(data) and "nodes" in data):
        yield from _of_prompt(path.stem, provider, path.parent, None)
        return
    for graph in load_graph(path).with_children():
        for node in (*graph.nodes.values(), *graph.items.values()):
            # A candidate without a key has lost, and no more.
            if isinstance(node, LlmNode) and node.prompt is not None and not (candidates_of(node) and not provider):
                yield from _of_node(graph, node, provider)


def _of_node(graph: Graph, node: LlmNode, provider: str | None) -> Iterator[object]:
    named = provider or node.provider or graph.file.defaults.provider
    fallbacks = node.fallbacks()
    try:
        found = [*_of_prompt(node.prompt, named, graph.prompts_dir, graph.prompts_relative_to)]
    except ConfigError:
        found = [named]  # the run reports what is wrong with the prompt
    yield from found if fallbacks is None else (found[0], *_entries(fallbacks))


def _of_prompt(
    name: str, provider: object, prompts_dir: str | Path | None, graph_path: Path | None
) -> Iterator[object]:
    file = load_prompt(name, prompts_dir=prompts_dir, graph_path=graph_path).file
    yield provider or file.provider or environment_provider()
    yield from _entries(file.fallbacks())


def _entries(fallbacks: Iterable[str | Mapping[str, Any]]) -> Iterator[object]:
    """Yield the providers of entries of `fallback`."""
    for entry in fallbacks:
        yield entry.partition("/")[0] if isinstance(entry, str) else entry.get("provider")
