"""Define `tools:` of a prompt file, which are schemas, Python functions or MCP servers, and make them ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from streamcore.errors import ConfigError, PromptError
from streamcore.files.environment import expanded
from streamcore.files.python_object import load_object, split_reference
from streamcore.files.yaml_file import YamlFile
from streamcore.files.yaml_model import FileModel, wrong
from streamcore.request import Tool

if TYPE_CHECKING:  # most prompts have no tools that run
    from streamcore.tools.toolbox import ToolSet

_SETTINGS = ("name", "description", "timeout", "needs_approval", "sequential", "retries", "idempotent")
"""The keys that change a tool made from a function."""


class McpBlock(FileModel):
    """The keys of `mcp:`, an MCP server; in its texts `${VAR}` is replaced by the environment variable."""

    command: list[str] | None = Field(default=None, min_length=1)
    url: str | None = None
    name: str | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    headers: dict[str, str] | None = None
    timeout: float | None = Field(default=None, gt=0)
    include: list[str] | None = None
    exclude: list[str] | None = None
    prefix: str | None = None
    needs_approval: bool | list[str] | None = None

    @model_validator(mode="after")
    def _one_server(self) -> McpBlock:
        if (self.command is None) == (self.url is None):
            raise wrong("an MCP server needs either 'command' (a list of the program and its arguments) or 'url'")
        for key in ("env", "cwd"):
            if self.url is not None and getattr(self, key) is not None:
                raise wrong(f"{key!r} is for a server with 'command', and this one has 'url'", key)
        if self.command is not None and self.headers is not None:
            raise wrong("'headers' is for a server with 'url', and this one has 'command'", "headers")
        return self


class PromptToolBlock(FileModel):
    """One entry of `tools:`: a schema, a Python function, or an MCP server."""

    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    python: str | None = None
    mcp: McpBlock | None = None
    timeout: float | None = Field(default=None, gt=0)
    needs_approval: bool = False
    sequential: bool = False
    retries: int = Field(default=0, ge=0)
    idempotent: bool = False

    @property
    def runs(self) -> bool:
        """True if calls of the tool run here; False if they return to the caller."""
        return self.python is not None or self.mcp is not None

    @model_validator(mode="after")
    def _one_kind(self) -> PromptToolBlock:
        given = self.model_fields_set
        if self.mcp is not None:
            other = sorted(given - {"mcp"})
            if other:
                raise wrong(
                    f"{other[0]!r} does not belong beside 'mcp'; the settings of a server are inside it", other[0]
                )
        elif self.python is not None:
            if "parameters" in given:
                raise wrong(
                    "'parameters' does not belong beside 'python': they come from the function's signature",
                    "parameters",
                )
            try:
                split_reference(self.python)
            except ValueError as error:
                raise wrong(str(error), "python") from error
        else:
            if self.name is None:
                raise wrong("the key 'name' is missing; a tool has 'name' and 'parameters', or 'python', or 'mcp'")
            settings = sorted(given - {"name", "description", "parameters"})
            if settings:
                raise wrong(f"{settings[0]!r} is for tools that run; this one has no 'python'", settings[0])
        return self


class PromptTools:
    """The tools of one version of a prompt file. Functions are loaded, and servers described, at the first use."""

    def __init__(self, prompt: str, source: YamlFile, blocks: Sequence[PromptToolBlock]) -> None:
        self._prompt = prompt
        self._source = source
        self._blocks = blocks
        self._made: dict[int, tuple[Any, Tool]] = {}
        self._servers: dict[int, ToolSet] = {}

    @property
    def run(self) -> bool:
        """True if at least one tool runs here."""
        return any(block.runs for block in self._blocks)

    def ready(self) -> tuple[Tool, ...]:
        """Return the tools that are schemas or functions, in the file's order; a function's file that changed is read.

        Raises:
            PromptError: a function cannot be loaded, or two tools have one name; the message names file and line.
        """
        found: dict[str, Tool] = {}
        for number, block in enumerate(self._blocks):
            if block.mcp is not None:
                continue
            one = _schema_of(block) if block.python is None else self._function(number, block, block.python)
            if one.name in found:
                raise self._error(number, f"two tools have the name {one.name!r}; give one of them another 'name'")
            found[one.name] = one
        return tuple(found.values())

    def servers(self) -> tuple[ToolSet, ...]:
        """Return the MCP servers; each is the same object for all runs, so that it is started once.

        Raises:
            PromptError: an environment variable is missing, or a setting is not valid; the message has file and line.
        """
        return tuple(
            self._server(number, block.mcp) for number, block in enumerate(self._blocks) if block.mcp is not None
        )

    def _function(self, number: int, block: PromptToolBlock, reference: str) -> Tool:
        try:
            found = load_object(reference, self._source.path.parent)
        except ImportError as error:
            raise self._error(number, f"{reference!r} cannot be loaded: {error}", "python") from error
        known = self._made.get(number)
        if known is not None and known[0] is found:
            return known[1]
        from streamcore.tools.function import as_tool

        try:
            one = as_tool(found)
        except ConfigError as error:
            raise self._error(number, f"{reference!r} is no tool: {error}", "python") from error
        if one.run is None:
            raise self._error(number, f"{reference!r} is a Tool without `run`, so it cannot be called", "python")
        settings: dict[str, Any] = {key: getattr(block, key) for key in _SETTINGS if key in block.model_fields_set}
        one = replace(one, **settings)
        self._made[number] = found, one
        return one

    def _server(self, number: int, block: McpBlock) -> ToolSet:
        if number not in self._servers:
            from streamcore.tools.mcp import McpTools

            try:
                self._servers[number] = McpTools(**self._expanded(block))
            except ConfigError as error:
                raise self._error(number, str(error), "mcp") from error
        return self._servers[number]

    def _expanded(self, block: McpBlock) -> dict[str, Any]:
        """Return the arguments of `McpTools`; a relative `cwd` is relative to the prompt's folder.

        Raises:
            ConfigError: an environment variable is not set.
        """
        given = block.model_dump(exclude_none=True)
        for key in ("url", "cwd"):
            if key in given:
                given[key] = expanded(given[key], f"`{key}`")
        for key in ("env", "headers"):
            if key in given:
                given[key] = {name: expanded(value, f"`{key}.{name}`") for name, value in given[key].items()}
        if "command" in given:
            given["command"] = [expanded(word, "`command`") for word in given["command"]]
            given["cwd"] = self._source.path.parent / given.get("cwd", "")
        return given

    def _error(self, number: int, message: str, *keys: str) -> PromptError:
        line = self._source.line(("tools", number, *keys))
        return PromptError(f"{self._source.path}:{line}: prompt {self._prompt!r}, tools[{number}]: {message}")


def _schema_of(block: PromptToolBlock) -> Tool:
    made = Tool(str(block.name), block.description or "")
    return made if block.parameters is None else replace(made, parameters=block.parameters)
