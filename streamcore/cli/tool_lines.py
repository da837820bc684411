"""Show the chunks of an answer or an agent: its text on stdout, calls, progress and results of tools on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import typer

from streamcore.chunk import Chunk, ToolCall, ToolResult
from streamcore.cli.output import note, printable, put, visible

_MAX_WIDTH = 300
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class ChunkScreen:
    """Write the chunks of a stream for people.

    A call is shown when its arguments are complete: at the end of the answer, or at its first progress or result.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw
        self._calls: dict[int, ToolCall] = {}
        """The calls of the current answer, by their positions."""
        self._shown: set[int] = set()
        self._line_open = False
        self.texts: list[str] = []
        """The text so far."""

    def show(self, chunk: Chunk) -> None:
        """Show a chunk."""
        if chunk.choice:
            return
        if chunk.kind in ("text", "refusal"):
            if chunk.text and not chunk.path:
                self._write(chunk.text)
        elif chunk.path:
            if chunk.tool_result is not None:
                self.line(f"{'/'.join(chunk.path)}: {_result(chunk.tool_result)}")
        elif chunk.kind == "restart":
            self._forget()
            self.texts.clear()
            note("\n(the answer broke off and begins again)")
        elif chunk.kind == "step":
            self._forget()
        elif chunk.kind == "tool_call" and chunk.tool_call is not None:
            self._gather(chunk.tool_call)
        elif chunk.kind == "tool_progress" and chunk.tool_call is not None:
            self._show_calls(chunk.tool_call.id)
            self.line(f"{chunk.tool_call.name}: {_short(chunk.text or (chunk.data or {}).get('progress'))}")
        elif chunk.kind == "tool_result" and chunk.tool_result is not None:
            self._show_calls(chunk.tool_result.call_id)
            self.line(_result(chunk.tool_result))

    def close(self) -> None:
        """End the current line of text."""
        if self._line_open or not self.texts or not sys.stdout.isatty():
            put("\n")
        self._line_open = False

    def line(self, text: str) -> None:
        """Write a dim line to stderr; on a terminal, after the end of the current line of text."""
        if self._line_open and sys.stdout.isatty():
            put("\n")
            self._line_open = False
        dim(text)

    def _write(self, text: str) -> None:
        self.texts.append(text)
        put(printable(text, raw=self._raw))
        self._line_open = not text.endswith("\n")

    def _gather(self, call: ToolCall) -> None:
        before = self._calls.get(call.position)
        if before is None:
            self._calls[call.position] = call
        else:
            arguments = before.arguments + call.arguments
            name, call_id = call.name or before.name, call.id or before.id
            self._calls[call.position] = ToolCall(call_id, name, arguments, call.position)

    def _show_calls(self, call_id: str | None) -> None:
        for position, call in self._calls.items():
            if call.id == call_id and position not in self._shown:
                self._shown.add(position)
                self.line(f"calls {described(call)}")

    def _forget(self) -> None:
        self._calls.clear()
        self._shown.clear()


def dim(text: str) -> None:
    """Write a line to stderr, dim on a terminal unless `NO_COLOR` is set."""
    if not sys.stderr.isatty():
        typer.echo(text, err=True)
        return
    shown = visible(text)
    typer.echo(shown if os.environ.get("NO_COLOR") else f"{_DIM}{shown}{_PLAIN}", err=True)


def described(call: ToolCall) -> str:
    """Return the name and the arguments of a call."""
    return f"{call.name} {_short(call.arguments or '{}')}"


def _result(result: ToolResult) -> str:
    took = f" ({result.seconds:.1f} s)" if result.seconds >= 0.1 else ""
    if result.error is not None:
        return f"{result.name} failed: {_short(result.error)}{took}"
    return f"{result.name} returned {_short(result.content)}{took}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= _MAX_WIDTH else f"{line[: _MAX_WIDTH - 1]}…"
