"""Keep the outputs of nodes in the process, by node and input, for `cache:`."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from streamcore.errors import ConfigError
from streamcore.files.yaml_file import is_mapping
from streamcore.graph.context import Context, State
from streamcore.graph.expressions import resolve
from streamcore.graph.node_schema import CacheBlock, GuardedNode, LlmNode, Node, PythonNode, ToolNode
from streamcore.graph.variables import variables_of
from streamcore.prompts.prompt_file import load_prompt

clock = time.monotonic

MAX_ENTRIES = 1000
"""How many outputs are kept; the least recently used are dropped."""


@dataclass(frozen=True, slots=True)
class CachedOutput:
    """The output of a node and its text."""

    text: str
    output: Mapping[str, Any]
    until: float | None
    """The time of `clock` at which it expires."""


kept_outputs: OrderedDict[Hashable, CachedOutput] = OrderedDict()
"""The outputs that are kept, the least recently used first."""


class NodeCache:
    """The cached output of one node for one input; without `cache` in the node it has none and keeps none."""

    def __init__(self, name: str, node: Node, state: State, context: Context) -> None:
        self._key: Hashable = None
        self._ttl: float | None = None
        if isinstance(node, GuardedNode) and node.cache:
            self._ttl = node.cache.ttl if isinstance(node.cache, CacheBlock) else None
            source = (str(context.graph.path.resolve()), context.graph.source.text, name)
            try:
                self._key = (*source, *_input(node, state, context))
            except (ConfigError, TypeError, ValueError):
                self._key = None  # the node raises what is wrong

    def find(self) -> CachedOutput | None:
        """Return what is kept, None if there is nothing or it has expired."""
        found = kept_outputs.get(self._key) if self._key is not None else None
        if found is None:
            return None
        if found.until is not None and clock() >= found.until:
            del kept_outputs[self._key]
            return None
        kept_outputs.move_to_end(self._key)
        return found

    def keep(self, text: str, output: Mapping[str, Any]) -> None:
        """Keep an output."""
        if self._key is None:
            return
        until = None if self._ttl is None else clock() + self._ttl
        kept_outputs[self._key] = CachedOutput(text, deepcopy(dict(output)), until)
        while len(kept_outputs) > MAX_ENTRIES:
            kept_outputs.popitem(last=False)


def _input(node: GuardedNode, state: State, context: Context) -> tuple[Hashable, ...]:
    """Return what a node's output depends on: the messages and the model, the state of a function, or arguments."""
    if isinstance(node, LlmNode):
        prompt = load_prompt(
            node.prompt, prompts_dir=context.graph.prompts_dir, graph_path=context.graph.prompts_relative_to
        )
        messages = prompt.render(variables_of(node, state), state)
        config = context.config
        caller: Any = repr(config.provider) if is_mapping(config.provider) else config.provider
        texts = tuple((message.role, message.text) for message in messages)
        return (texts, prompt.source.text, caller, config.model, config.temperature)
    given = {key: value for key, value in state.items() if not key.startswith("_")}
    if isinstance(node, ToolNode):
        given = resolve(node.variables or {}, state)
    elif isinstance(node, PythonNode):
        given |= resolve(node.variables or {}, state)
    return (json.dumps(given, sort_keys=True),)
