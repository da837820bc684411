"""Make the tools of a graph ready to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamcore.errors import ConfigError
from streamcore.graph.context import Context
from streamcore.graph.tool_schema import GraphToolBlock, PythonToolBlock, ShellToolBlock
from streamcore.graph.tools.graph import GraphTool
from streamcore.graph.tools.protocol import RunnableTool
from streamcore.graph.tools.python import Function, PythonTool, load_function
from streamcore.graph.tools.shell import ShellTool

if TYPE_CHECKING:
    from streamcore.graph.load import Graph


def open_tool(context: Context, name: str, node: str) -> RunnableTool:
    """Return a tool of a graph, ready to run.

    Args:
        context: that of the node which calls the tool.
        name: the tool's name.
        node: the node's name.

    Raises:
        ConfigError: its function cannot be loaded.
        KeyError: the graph has no such tool.
    """
    graph = context.graph
    block = graph.tools[name]
    if isinstance(block, ShellToolBlock):
        return ShellTool(name, block)
    if isinstance(block, GraphToolBlock):
        return GraphTool(name, block, graph.children[block.path], context, node)
    return PythonTool(name, block, open_function(graph, name), abandon=context.seconds is not None)


def open_function(graph: Graph, name: str) -> Function:
    """Return the function of a python tool.

    Raises:
        ConfigError: it cannot be loaded.
    """
    block = graph.tools[name]
    assert isinstance(block, PythonToolBlock)  # noqa: S101  the graph was checked when it was loaded
    try:
        return load_function(block, graph.path.parent)
    except ImportError as error:
        line = graph.source.line(("tools", name))
        raise ConfigError(f"{graph.path}:{line}: the tool {name!r} cannot be loaded: {error}") from error
