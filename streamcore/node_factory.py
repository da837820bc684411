"""Make functions of single nodes, for code that runs its own graph; the import path is that of yamlgraph."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from streamcore.errors import GraphError
from streamcore.graph.config import Config
from streamcore.graph.load import START, Graph, build_graph
from streamcore.graph.stream import EventStream

OnToken = Callable[[str], Awaitable[object] | object]
"""A function, plain or async, that receives each token."""


def create_streaming_node(
    node_name: str,
    node_config: Mapping[str, Any],
    *,
    prompts_dir: str | Path | None = None,
    graph_path: str | Path | None = None,
) -> Callable[[Mapping[str, Any]], EventStream[str]]:
    """Return a function of the state that streams the node's text, token by token.

    Args:
        node_name: the name in errors, and the `state_key` if the config has none.
        node_config: the keys of an llm node in a graph file, and `on_token`, a function (plain or async) that is called
            with each token before it is yielded.
        prompts_dir: the folder to search for the prompt; see `stream_prompt`.
        graph_path: the graph file next to which to search; see `stream_prompt`.

    Raises:
        GraphError: the config is not valid.
    """
    config = dict(node_config)
    on_token: OnToken | None = config.pop("on_token", None)
    graph = _graph_of(node_name, config, prompts_dir, graph_path)

    async def tokens(state: Mapping[str, Any]) -> AsyncGenerator[str]:
        from streamcore.graph.runner import node_text

        async with aclosing(node_text(graph, node_name, state, Config())) as source:
            async for token in source:
                result = on_token(token) if on_token is not None else None
                if inspect.isawaitable(result):
                    await result
                yield token

    return lambda state: EventStream(lambda: tokens(state))


def create_streaming_llm_node(
    node_name: str,
    node_config: Mapping[str, Any],
    *,
    prompts_dir: str | Path | None = None,
    graph_path: str | Path | None = None,
) -> Callable[[Mapping[str, Any]], EventStream[dict[str, Any]]]:
    """Return a function of the state that yields `{stream_key: token}` for each token, and last `{state_key: answer}`.

    The answer is the whole text, or the validated object where the prompt has a schema. `stream_key` is
    `<state_key>_stream` unless the config names another. Arguments and errors: see `create_streaming_node`.
    """
    graph = _graph_of(node_name, dict(node_config), prompts_dir, graph_path)
    state_key = node_config.get("state_key") or node_name
    stream_key = node_config.get("stream_key") or f"{state_key}_stream"

    async def updates(state: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        from streamcore.graph.context import Context
        from streamcore.graph.nodes import run_node
        from streamcore.graph.runner import for_text
        from streamcore.graph.thread import as_json_data

        context = Context(graph, Config(), restarts=False)
        node = for_text(graph.nodes[node_name])
        async with aclosing(run_node(node_name, node, as_json_data(state, "state"), context)) as events:
            async for event in events:
                if event["type"] == "token":
                    yield {stream_key: event["content"]}
                elif event["type"] == "node_complete":
                    yield event["output"]

    return lambda state: EventStream(lambda: updates(state))


def _graph_of(
    name: str, config: Mapping[str, Any], prompts_dir: str | Path | None, graph_path: str | Path | None
) -> Graph:
    """Return a graph that consists of this node."""
    from streamcore.files.yaml_file import in_memory

    data = {
        "name": name,
        "prompts_dir": None if prompts_dir is None else str(prompts_dir),
        "prompts_relative": graph_path is not None,
        "nodes": {name: dict(config)},
        "edges": [{"from": START, "to": name}],
    }
    try:
        return build_graph(in_memory(Path(graph_path or name), data))
    except GraphError as error:
        # The lines name positions in a file that does not exist.
        messages = [line.split(": ", 1)[1] for line in str(error).splitlines()]
        raise GraphError("\n".join(messages)) from error
