"""Run a shell tool of a graph."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamcore.graph.tool_schema import ShellToolBlock
from streamcore.graph.tools.process import run_program
from streamcore.graph.tools.protocol import ToolFailed
from streamcore.graph.tools.shell_command import parse_command


class ShellTool:
    """A command with arguments; no value of an argument is parsed by a shell."""

    def __init__(self, name: str, block: ShellToolBlock) -> None:
        self.name = name
        self.description = block.description or ""
        self._block = block
        self._command = parse_command(block.command)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of the arguments: required strings."""
        names = self._command.names
        properties = {name: {"type": "string"} for name in names}
        return {"type": "object", "properties": properties, "required": [*names]}

    async def run(self, arguments: Mapping[str, Any]) -> Any:
        """Run the command and return its output: text, the JSON in it, or None, as `parse` says.

        Raises:
            ToolFailed: an argument is missing, the exit code is not one of `success_codes`, or the output is not JSON.
        """
        block = self._block
        values = {name: self._value(name, arguments) for name in self._command.names}
        environment = {**os.environ, **block.env, **self._command.environment(values)}
        folder = None if block.working_dir is None else Path(block.working_dir)
        ended = await run_program(self._command.argv(values), environment, folder, block.timeout)
        if ended.code not in block.success_codes:
            raise ToolFailed(ended.stderr.strip() or f"Exit code {ended.code}")
        if block.parse == "none":
            return None
        if block.parse == "text":
            return ended.stdout
        try:
            return json.loads(ended.stdout)
        except (ValueError, RecursionError) as error:
            raise ToolFailed(f"the output is not JSON: {error}") from error

    def _value(self, name: str, arguments: Mapping[str, Any]) -> str:
        if name not in arguments:
            raise ToolFailed(f"the argument {name!r} is missing")
        value = arguments[name]
        if value is None:
            return ""
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
        if "\0" in text:
            raise ToolFailed(f"the argument {name!r} has a null character, which no program accepts")
        return text
