"""Define `McpTools`, the tools of an MCP server as an entry of `tools=`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

import anyio
import anyio.to_thread

from streamcore.concurrency.resources import OpenResources, known_resources, open_resources
from streamcore.errors import ConfigError, ToolError, install_command
from streamcore.request import Tool
from streamcore.tools.context import ToolContext
from streamcore.tools.mcp_server import accepted_name, checked_server

if TYPE_CHECKING:
    from mcp_types import Tool as ServerTool

    from streamcore.tools.mcp_connection import McpConnection

T = TypeVar("T")

LONGEST_NAME = 64
"""How many characters the vendors accept in the name of a tool."""
_MODULES = ("streamcore.tools.mcp_connection", "streamcore.tools.mcp_results")


class McpTools:
    """Bring the tools of an MCP server, as an entry of `tools=`.

    The server is started or connected to at the first use, and shared by all runs of the event loop that use the same
    object. Make one object when the program starts. If the server ends, the call that runs is an error for the model,
    and the next one starts it anew. It is stopped by `aclose()`, at the end of `async with`, when the object is
    dropped, by `streamcore.aclose_providers()` and at the end of the event loop.

    Progress notifications become chunks `tool_progress`, with `progress`, `total` and `message`. Errors and timeouts
    are results for the model. A call that is cancelled or too slow is cancelled at the server, too.

    Args:
        command: the program that is the server, and its arguments; it speaks over stdin and stdout. No shell reads it.
            Its stderr is logged by the logger `streamcore.mcp` at level DEBUG.
        url: the URL of a server that speaks streamable HTTP. Give either `command` or `url`.
        name: what errors call the server, and what is put before a tool's name that another entry of `tools=` has,
            too; defaults to the name of the program or the host.
        env: environment variables for the program. Of this process's own it gets only those that every program needs,
            such as `PATH` and `HOME`.
        cwd: the folder in which the program is started.
        headers: HTTP headers for each request, such as `Authorization`.
        timeout: how many seconds the start, the listing of the tools and each call may take.
        include: the tools to bring, by the server's names or patterns such as `read_*`; all by default.
        exclude: the tools to leave out, likewise.
        prefix: a text that is put before each tool's name, as in `files_`.
        needs_approval: True if every call needs approval; or the tools whose calls do, as in `include`; or a function
            of the server's name of the tool and the arguments that tells it.

    Raises:
        ConfigError: a setting is not valid, or the package `mcp` is not installed.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        url: str | None = None,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
        include: Collection[str] | None = None,
        exclude: Collection[str] | None = None,
        prefix: str | None = None,
        needs_approval: bool | Collection[str] | Callable[[str, Mapping[str, Any]], bool] = False,
    ) -> None:
        if find_spec("mcp") is None:
            raise ConfigError(
                f"McpTools needs the package 'mcp', which is not installed; run: {install_command('mcp')}"
            )
        self._server = checked_server(
            command=command, url=url, name=name, env=env, cwd=cwd, headers=headers, timeout=timeout
        )
        self.name = self._server.name
        """What errors call the server, and what is put before the name of a tool that another one has, too."""
        for option, given in (("include", include), ("exclude", exclude), ("needs_approval", needs_approval)):
            if isinstance(given, str):
                raise ConfigError(f"{option}= of McpTools is a list of names of tools, as in [{given!r}]")
        self._include = None if include is None else tuple(include)
        self._exclude = tuple(exclude or ())
        self._prefix = prefix or ""
        self._needs_approval = needs_approval
        self._key = object()
        self._loops: WeakSet[OpenResources] = WeakSet()

    def __repr__(self) -> str:
        return f"McpTools({self.name!r}, {self._server.where})"

    async def tools(self) -> Sequence[Tool]:
        """Return the server's tools; the list is read again after the server has said that it changed.

        Raises:
            ToolServerError: the server cannot be started or reached, or has no list for us in time.
            ConfigError: `include` names a tool that the server does not have.
        """
        listed = await self._with_connection(lambda connection: connection.list_tools(), "list its tools")
        names = [tool.name for tool in listed]
        for wanted in self._include or ():
            if not any(fnmatchcase(name, wanted) for name in names):
                raise ConfigError(
                    f"include= of MCP server {self.name!r} has {wanted!r}, which the server does not have; "
                    f"it has: {', '.join(map(repr, names)) or 'no tools'}"
                )
        taken: dict[str, Tool] = {}
        for tool in listed:
            if (self._include is None or _fits(tool.name, self._include)) and not _fits(tool.name, self._exclude):
                made = self._tool(tool, taken)
                taken[made.name] = made
        return tuple(taken.values())

    async def aclose(self) -> None:
        """Stop the server of the running event loop; the next use starts it again. Harmless when repeated."""
        resources = known_resources()
        connection = None if resources is None else _forget(resources, self._key)
        if connection is not None:
            await connection.aclose()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the interpreter's exit the globals of this module may be None. The server's stdin closes with the process.
        if finalizing():
            return
        for resources in getattr(self, "_loops", ()):
            connection = _forget(resources, self._key)
            if connection is not None:
                connection.close_later()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _tool(self, tool: ServerTool, taken: Mapping[str, Tool]) -> Tool:
        given = self._needs_approval
        approval: bool | Callable[[Mapping[str, Any]], bool]
        if callable(given):
            approval = partial(given, tool.name)
        else:
            approval = given if isinstance(given, bool) else _fits(tool.name, given)
        return Tool(
            name=_free_name(f"{self._prefix}{tool.name}", taken),
            description=tool.description or tool.title or "",
            parameters={"type": "object", "properties": {}, **tool.input_schema},  # which vendors require
            run=partial(self._call, tool.name),
            timeout=self._server.timeout,
            needs_approval=approval,
        )

    async def _call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Call a tool by the server's name for it."""
        result = await self._with_connection(
            lambda connection: connection.call(name, arguments, context.progress), f"answer the call of {name!r}"
        )
        from streamcore.tools.mcp_results import error_of, value_of

        if result.is_error:
            raise ToolError(self._server.clean(error_of(result)))
        return value_of(result)

    async def _with_connection(self, use: Callable[[McpConnection], Awaitable[T]], what: str) -> T:
        """Return what `use` returns, with a new connection if the server no longer knows the session."""
        await _load()
        from streamcore.tools.mcp_connection import SessionEnded

        connection = await self._connection()
        with anyio.move_on_after(self._server.timeout):
            try:
                return await use(connection)
            except SessionEnded:
                connection = await self._connection()
                return await use(connection)
        raise connection.too_slow(what, self._server.timeout)

    async def _connection(self) -> McpConnection:
        """Return the connection of the running loop, a new one if there is none or the server has ended."""
        from streamcore.tools.mcp_connection import McpConnection

        resources = await open_resources()
        known: McpConnection | None = resources.clients.get(self._key, (None, None))[0]
        if known is not None and known.usable:
            return known
        made = McpConnection(self._server, known)
        resources.clients[self._key] = made, made.aclose
        self._loops.add(resources)
        made.start()
        return made


async def _load() -> None:
    """Import the SDK in a thread: that takes seconds, and the event loop runs on."""
    missing = [name for name in _MODULES if name not in sys.modules]
    if missing:
        await anyio.to_thread.run_sync(partial(_import_all, missing), abandon_on_cancel=True)


def _import_all(modules: Sequence[str]) -> None:
    for module in modules:
        import_module(module)


def _forget(resources: OpenResources, key: object) -> McpConnection | None:
    connection: McpConnection | None = resources.clients.pop(key, (None, None))[0]
    return connection


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _free_name(given: str, taken: Collection[str]) -> str:
    """Return a name that vendors accept and no other tool of the server has; what was cut ends with a hash."""
    name = accepted_name(given)
    if len(name) <= LONGEST_NAME and name not in taken:
        return name
    return f"{name[: LONGEST_NAME - 9]}_{sha256(given.encode()).hexdigest()[:8]}"
