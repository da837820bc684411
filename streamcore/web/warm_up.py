"""Load, at the start of a service, what the first request to the providers of its target needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from streamcore.errors import ConfigError
from streamcore.fallback import Fallback, fallback_candidate
from streamcore.graph.load import Graph
from streamcore.graph.node_schema import LlmNode, candidates_of
from streamcore.net.clients import warm_up
from streamcore.prompts.prompt_file import Prompt, load_prompt
from streamcore.provider import AnyProvider, ModelChoice, Provider, get_provider, resolve_provider
from streamcore.request import Message, Request
from streamcore.web.graph_target import GraphTarget
from streamcore.web.prompt_target import PromptTarget
from streamcore.web.target import ServedTarget

log = logging.getLogger("streamcore")


async def warm_up_target(target: ServedTarget) -> None:
    """Import the SDKs of a target's providers in a thread, and build their clients.

    They are the operator's provider or those that the files name, for every node and every entry of `fallback`. A
    provider that cannot be loaded is logged: it fails the requests that need it, not the start.
    """
    loaded: set[str] = set()
    for given, transport in _providers(target):
        key = repr((given, transport))
        if key in loaded:
            continue
        loaded.add(key)
        try:
            await warm_up(_ready(given, transport))
        except ConfigError as error:
            log.warning("a provider was not loaded at the start: %s", error)


def _ready(given: Fallback | AnyProvider, transport: str | None) -> Provider:
    if isinstance(given, str | Mapping) and "/" not in given and "provider" not in given:
        return get_provider(given, transport=transport)
    return fallback_candidate(given, Request([Message("user", "")]), transport).provider


def _providers(target: ServedTarget) -> Iterator[tuple[Fallback | AnyProvider, str | None]]:
    """Yield the providers that a target may send to, as calls and files give them, each with its transport."""
    if isinstance(target, PromptTarget):
        choices = [target.overrides.choice, target.prompt.choice]
        for given in _of_prompt(choices, target.prompt.file.fallbacks()):
            yield given, target.overrides.transport
    elif isinstance(target, GraphTarget):
        for graph in target.graph.with_children():
            for given in _of_graph(graph, target.overrides.choice):
                yield given, target.overrides.transport


def _of_graph(graph: Graph, override: ModelChoice) -> Iterator[Fallback | AnyProvider]:
    for node in (*graph.nodes.values(), *graph.items.values()):
        prompt: Prompt | None = None
        if not isinstance(node, LlmNode) or node.prompt is None:
            continue
        with suppress(ConfigError):  # the node raises it when it runs
            prompt = load_prompt(node.prompt, prompts_dir=graph.prompts_dir, graph_path=graph.prompts_relative_to)
        if prompt is not None:
            for candidate in candidates_of(node):
                yield candidate.provider
            choices = [override, node.choice, graph.choice, prompt.choice]
            fallbacks = node.fallbacks()
            yield from _of_prompt(choices, prompt.file.fallbacks() if fallbacks is None else fallbacks)


def _of_prompt(choices: Sequence[ModelChoice], fallbacks: Sequence[Fallback]) -> Iterator[Fallback | AnyProvider]:
    with suppress(ConfigError):  # no source names a provider: requests fail
        yield resolve_provider(choices, "a prompt").provider
    yield from fallbacks
