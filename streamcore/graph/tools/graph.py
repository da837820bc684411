"""Run a graph as a tool: its arguments become keys of its state, and one key of its last state is the result."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from streamcore.concurrency.generators import opened
from streamcore.errors import RunLimitReached, StreamcoreError, ThreadConflict
from streamcore.graph.context import Context
from streamcore.graph.events import NodeEvent
from streamcore.graph.load import Graph
from streamcore.graph.subgraph_node import inner_events
from streamcore.graph.thread import Thread
from streamcore.graph.tool_schema import GraphToolBlock
from streamcore.graph.tools.protocol import ToolFailed, result_text

log = logging.getLogger("streamcore")


class GraphTool:
    """A graph whose run is a tool's.

    Args:
        name: the tool's name.
        block: its keys in the file.
        graph: the graph.
        context: that of the node which calls the tool.
        node: the node's name, which is in front of the names of the graph's nodes.
    """

    def __init__(self, name: str, block: GraphToolBlock, graph: Graph, context: Context, node: str) -> None:
        self.name = name
        self.description = block.description or graph.file.description or ""
        self.result: str | None = None
        """The result of the last run, as text."""
        self._block = block
        self._graph = graph
        self._context = context
        self._node = node

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of the arguments: required strings."""
        names = [*self._block.input_mapping]
        return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}

    async def run(self, arguments: Mapping[str, Any]) -> Any:
        """Run the graph and return its result as text; a failure is the text `Error: ...`.

        Raises:
            ToolFailed: an argument is missing.
        """
        async with opened(self.events(arguments)) as events:
            async for _ in events:
                pass
        return self.result

    async def events(self, arguments: Mapping[str, Any]) -> AsyncGenerator[NodeEvent]:
        """Yield the events of the run; then `result` is set. Raises what `run` raises."""
        missing = [name for name in self._block.input_mapping if name not in arguments]
        if missing:
            raise ToolFailed(f"wrong arguments: missing {', '.join(map(repr, missing))}")
        initial = {key: arguments[name] for name, key in self._block.input_mapping.items()}
        try:
            async with opened(inner_events(self._node, Thread(self._graph), initial, self._context)) as events:
                async for event in events:
                    if event["type"] == "graph_complete":
                        self.result = result_text(event["state"].get(self._block.output_key))
                    elif event["type"] == "interrupt":
                        self.result = "Error: the graph asks a person, which a tool cannot do"
                        return
                    else:
                        yield event
        except (RunLimitReached, ThreadConflict):
            raise
        except StreamcoreError as error:
            log.warning("the graph of the tool %r failed with %s", self.name, type(error).__name__)
            self.result = f"Error: {error}"
