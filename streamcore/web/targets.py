"""Load what is served: a prompt or a graph, by its file or its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from streamcore.checkpoints import Checkpointer, open_checkpointer
from streamcore.errors import ConfigError, PromptError
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.limits import RunLimits
from streamcore.graph.load import Graph, load_graph
from streamcore.prompts.message_variable import message_variable
from streamcore.prompts.prompt_file import load_prompt
from streamcore.provider import resolve_provider
from streamcore.web.graph_target import GraphTarget
from streamcore.web.history import HistoryLimit
from streamcore.web.prompt_target import PromptTarget
from streamcore.web.target import ModelOverrides, ServedTarget

SERVED_LIMITS = RunLimits(
    max_items=100, max_model_calls=100, max_nodes=1000, max_tokens=1_000_000, max_state_bytes=16 * 2**20
)
"""What one run of a graph or prompt that is served may cost by default."""


def load_target(
    target: str | Path | Graph,
    overrides: ModelOverrides,
    *,
    given: Mapping[str, Any],
    message_as: str | None,
    client_variables: Collection[str] = (),
    prompts_dir: str | Path | None,
    checkpointer: Checkpointer | Mapping[str, Any] | None,
    fallback: Checkpointer,
    history: HistoryLimit | None = None,
    limits: RunLimits = SERVED_LIMITS,
) -> ServedTarget:
    """Return the target for a graph, the path of a graph's or prompt's file, or a prompt's name.

    Raises:
        ConfigError: there is no such target, or it is not valid.
    """
    overrides.check()
    fixed = [name for name in client_variables if name in given or name.startswith("_")]
    if fixed:
        raise ConfigError(
            f"clients may not set {', '.join(map(repr, fixed))}: remove it from client_variables= (--client-variable), "
            "or from variables= (--var); names that begin with _ are reserved"
        )
    if not isinstance(target, Graph) and str(target).endswith((".yaml", ".yml")):
        path = Path(target)
        data = load_yaml(path, PromptError).data
        if is_mapping(data) and "nodes" in data:
            target = load_graph(path)
        else:
            prompts_dir, target = path.parent, path.stem
    if isinstance(target, Graph):
        undeclared = [name for name in client_variables if name not in target.file.state]
        if undeclared:
            raise ConfigError(
                f"graph {target.name!r} declares no {', '.join(map(repr, undeclared))}: add it to `state` in "
                f"{target.path}, or remove it from client_variables= (--client-variable)"
            )
        return GraphTarget(
            target, overrides, given, message_as, checkpointer, fallback, frozenset(client_variables), limits
        )
    prompt = load_prompt(str(target), prompts_dir=prompts_dir)
    resolve_provider([overrides.choice, prompt.choice], f"prompt {prompt.name!r}")
    store = fallback if checkpointer is None else open_checkpointer(checkpointer)
    variable = message_variable(prompt, given, message_as, client_variables)
    limit = history or HistoryLimit()
    return PromptTarget(
        prompt, overrides, given, variable, store, prompts_dir, frozenset(client_variables), limit, limits
    )
