"""Tools that run: functions and MCP servers."""
