"""Gather the tools of a run: tools, functions, and sets of tools as an MCP server brings them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from streamcore.errors import ConfigError
from streamcore.request import Tool
from streamcore.tools.function import as_tool


@runtime_checkable
class ToolSet(Protocol):
    """Bring several tools, as an MCP server does; an entry of `tools=`."""

    name: str
    """What the names of its tools begin with where they would collide: `name_tool`."""

    async def tools(self) -> Sequence[Tool]:
        """Return the tools, after connecting if that is needed; called at the begin of every run."""
        ...


AnyTool = Tool | Callable[..., Any] | ToolSet
"""An entry of `tools=`: a `Tool`, a function, which `tool` makes one of, or a `ToolSet`."""


async def open_tools(entries: Sequence[AnyTool]) -> dict[str, Tool]:
    """Return all tools by their names; a tool of a set whose name is taken gets the set's name in front.

    Raises:
        ConfigError: two tools have the same name.
    """
    found: dict[str, Tool] = {}
    for entry in entries:
        if isinstance(entry, ToolSet):
            for one in await entry.tools():
                _add(found, replace(one, name=f"{entry.name}_{one.name}") if one.name in found else one)
        else:
            _add(found, as_tool(entry))
    return found


def _add(found: dict[str, Tool], one: Tool) -> None:
    if one.name in found:
        raise ConfigError(f"two tools have the name {one.name!r}; give one of them another, as in @tool(name=...)")
    found[one.name] = one
