"""Define the keys of each type of tool in a graph file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from streamcore.files.yaml_model import FileModel, did_you_mean, wrong
from streamcore.graph.tools.shell_command import CommandError, parse_command


class ToolKeys(FileModel):
    """The keys of every tool."""

    description: str | None = None
    idempotent: bool = False


class ShellToolBlock(ToolKeys):
    """`type: shell`: a command; `{name}` in it is an argument."""

    type: Literal["shell"] = "shell"
    command: str = Field(min_length=1)
    parse: Literal["text", "json", "none"] = "text"
    timeout: float = Field(default=30, gt=0)
    working_dir: str | None = None
    env: dict[str, str] = Field(default_factory=dict[str, str])
    success_codes: list[int] = Field(default_factory=lambda: [0])

    @model_validator(mode="after")
    def _sound(self) -> ShellToolBlock:
        try:
            parse_command(self.command)
        except CommandError as error:
            raise wrong(str(error), "command") from error
        return self


class PythonToolBlock(ToolKeys):
    """`type: python`: a Python function."""

    type: Literal["python"] = "python"
    module: str | None = None
    path: str | None = None
    function: str

    @model_validator(mode="after")
    def _one_source(self) -> PythonToolBlock:
        if (self.module is None) == (self.path is None):
            raise wrong(
                "a python tool needs either 'module' (a name to import) or 'path' (a file in the graph's folder)"
            )
        return self


class GraphToolBlock(ToolKeys):
    """`type: graph`: another graph file, run as a tool."""

    type: Literal["graph"]
    path: str = Field(min_length=1)
    input_mapping: dict[str, str] = Field(default_factory=dict[str, str])
    output_key: str = "result"


ToolBlock = ShellToolBlock | PythonToolBlock | GraphToolBlock
TOOLS: Mapping[str, type[ToolBlock]] = {
    "shell": ShellToolBlock,
    "python": PythonToolBlock,
    "graph": GraphToolBlock,
}
_REFUSED: Mapping[str, str] = {
    "websearch": "write a python tool that calls a search service",
    "slot": "use a python tool",
    "schema_loader": "use a python tool",
    "write_data_file": "use a python tool",
    "a2a": "use a python tool",
    "langsmith": "use a python tool",
}


def tool_kind(data: Mapping[str, Any]) -> str:
    """Return the type of a tool: `shell` if it names none and has a command.

    Raises:
        ValueError: the type is not supported.
    """
    if "manifest" in data:
        raise ValueError("'manifest' is not supported yet; write the keys of the manifest's `runtime` here")
    kind = str(data.get("type", "shell" if "command" in data else "python"))
    if kind in _REFUSED:
        raise ValueError(f"tools of the type {kind!r} are not supported: {_REFUSED[kind]}")
    if kind not in TOOLS:
        hint = did_you_mean(kind, [*TOOLS]) or f"; supported are {', '.join(TOOLS)}"
        raise ValueError(f"tools of the type {kind!r} are not supported{hint}")
    return kind
