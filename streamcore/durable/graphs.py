"""Find the graphs of durable runs, with the settings and the threads of their runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamcore.checkpoints import Checkpointer, open_checkpointer
from streamcore.durable.continuation import Segment
from streamcore.errors import ConfigError
from streamcore.graph.config import Config
from streamcore.graph.limits import RunLimits
from streamcore.graph.load import Graph, load_graph
from streamcore.graph.thread import Thread
from streamcore.graph.variables import paths_of


class Graphs:
    """The graphs that a worker has.

    Args:
        given: the graphs, or the paths of their files.
        config: the settings of every run; its checkpointer has the threads.

    Raises:
        ConfigError: a file is not valid, or two graphs have the same name.
    """

    def __init__(self, given: Sequence[Graph | str | Path], config: Config) -> None:
        loaded = [one if isinstance(one, Graph) else load_graph(one) for one in given]
        self._known = {graph.name: graph for graph in loaded}
        if len(self._known) < len(loaded):
            raise ConfigError("two of the graphs have the same name; rename one")
        self._config = config

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def find(self, name: str) -> Graph:
        """Return the graph with this name.

        Raises:
            ConfigError: there is none.
        """
        graph = self._known.get(name)
        if graph is None:
            known = ", ".join(map(repr, self._known)) or "none"
            raise ConfigError(f"this worker has no graph {name!r}; it has {known}")
        return graph

    def config(self, segment: Segment) -> Config:
        """Return the settings of a segment."""
        limits = RunLimits(**segment.limits) if segment.limits else self._config.limits
        metadata = segment.include_metadata or self._config.include_metadata
        return replace(self._config, thread_id=segment.thread, limits=limits, include_metadata=metadata)

    async def thread(self, segment: Segment) -> Thread:
        """Return the thread of a segment as it was saved last.

        Raises:
            ConfigError: there is no such graph.
            CheckpointError: the store cannot be reached.
        """
        return await Thread.open(self.find(segment.graph), self.config(segment))

    def provider(self, graph: Graph) -> str | None:
        """Return the name of the provider of a graph's runs, None if it has none of its own."""
        chosen = self._config.provider or graph.file.defaults.provider
        return chosen if isinstance(chosen, str) else None

    def fingerprint(self) -> str:
        """Return a digest of the files of graphs and prompts."""
        digest = hashlib.blake2b(digest_size=8)
        for name, graph in sorted(self._known.items()):
            for path in sorted(paths_of(graph)):
                digest.update(f"{name}\0{path.name}\0".encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()


def open_threads(given: Checkpointer | Mapping[str, Any] | str | None, database: object) -> Checkpointer:
    """Return the store of threads, which must outlive the process; by default it is in the database of the runs.

    Raises:
        ConfigError: there is no default, since `database` is an engine.
    """
    if given is None and isinstance(database, str):
        given = database
        if database.startswith("sqlite:///"):
            path = Path(database.removeprefix("sqlite:///"))
            given = {"type": "sqlite", "path": str(path.with_name(f"{path.stem}-threads{path.suffix}"))}
    if given is None:
        raise ConfigError("durable runs on an engine of your own need checkpointer=, the store of their threads")
    return open_checkpointer(given)
