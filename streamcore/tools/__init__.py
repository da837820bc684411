"""Tools that run: functions and MCP servers as tools, how their calls are approved, and what of a run is saved."""

from streamcore.errors import ToolError as ToolError
from streamcore.tools.context import ToolContext
from streamcore.tools.decisions import AgentState, Approve, Deny
from streamcore.tools.function import tool
from streamcore.tools.mcp import McpTools
from streamcore.tools.toolbox import ToolSet

__all__ = ["AgentState", "Approve", "Deny", "McpTools", "ToolContext", "ToolError", "ToolSet", "tool"]
