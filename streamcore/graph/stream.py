"""Define the functions that run a graph: all events of a run, or the text of one node."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from streamcore.concurrency.owned_stream import OwnedStream
from streamcore.errors import ConfigError
from streamcore.graph.config import Config
from streamcore.graph.events import Event
from streamcore.graph.load import Graph, load_graph

T = TypeVar("T")


def stream_graph_with_tokens(
    graph: Graph | str | Path,
    initial_state: Mapping[str, Any] | None = None,
    config: Config | Mapping[str, Any] | None = None,
) -> EventStream[Event]:
    """Run a graph and iterate over its events: every token of every node, and what the nodes did.

    Args:
        graph: a graph, or the path of its file.
        initial_state: plain data; its keys override those of the thread's saved state.
        config: `thread_id` names the conversation to continue; `checkpointer` (an object, or a mapping as in the file)
            overrides the file's; `resume` is the answer to the question of an interrupt; `include_metadata` gives every
            event `metadata`; `provider`, `model` and `temperature` override those of the graph, and `transport` that
            of the environment; `observer` receives the events of `streamcore.observe`. LangGraph's
            `{"configurable": {...}}` is accepted, too.

    Yields dicts; `type` is one of `node_start`, `token`, `restart`, `node_complete`, `interrupt`,
    `graph_complete`; see `streamcore.graph.events`. A `node_complete` comes after the thread is saved.

    Nothing happens until the first iteration; then, or later:

    Raises:
        GraphError: the file is not valid.
        ConfigError: a setting is not valid: a key of `config`, a prompt, a missing variable.
        NodeError: a node failed; its `cause` is the error, `.partial` has what its model had answered.
        ThreadConflict: another run has changed the thread meanwhile.
    """

    def start() -> AsyncGenerator[Event]:
        from streamcore.graph.runner import GraphRun

        return GraphRun(_loaded(graph), initial_state or {}, Config.of(config)).events()

    return EventStream(start)


def stream_node_output(
    graph: Graph | str | Path,
    node: str,
    state: Mapping[str, Any] | None = None,
    config: Config | Mapping[str, Any] | None = None,
) -> EventStream[str]:
    """Run one llm or router node and iterate over its text: `str`, never empty, in order.

    The node runs even where `skip_if_exists` would skip it. Its state is the thread's saved state, with the keys of
    `state` over it. The thread is saved when the node has completed. Arguments and errors are those of
    `stream_graph_with_tokens`.
    """

    def start() -> AsyncGenerator[str]:
        from streamcore.graph.runner import node_text

        return node_text(_loaded(graph), node, state or {}, Config.of(config))

    return EventStream(start)


def _loaded(graph: Graph | str | Path) -> Graph:
    if isinstance(graph, str | Path):
        return load_graph(graph)
    if isinstance(graph, Graph):  # pyright: ignore[reportUnnecessaryIsInstance]
        return graph
    raise ConfigError(f"graph is a path or what load_graph() returns, not a {type(graph).__name__}")


class EventStream(Generic[T]):
    """Iterate over the events or the text of a run.

    Leaving `async with`, cancelling, or `aclose()` ends the run, its parallel branches and the vendors' responses
    before the next statement; breaking out of a bare `async for` does so soon after the last reference is gone. An
    error is raised again by every later call; a run that was closed or cancelled before its end never looks finished:
    the next read raises `StreamInterrupted`.
    """

    def __init__(self, start: Callable[[], AsyncGenerator[T]]) -> None:
        self._events = OwnedStream(start)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._events.next()
        except BaseException as error:
            self._events.end(error)
            raise

    async def aclose(self) -> None:
        """End the run. Harmless when repeated."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()
