"""Ask in the terminal whether a call of a tool may run: yes, no with a reason, or with other arguments."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import anyio
import typer

from streamcore.chunk import ToolCall
from streamcore.cli.output import note
from streamcore.cli.tool_lines import described
from streamcore.errors import ConfigError
from streamcore.tools import Approve, Deny
from streamcore.tools.decisions import Approver, Decision

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve every call of a tool that needs approval.")]


def approver(*, yes: bool) -> Approver:
    """Return what decides about calls: True for all with `yes`, else the person at the terminal."""
    return (lambda _call: True) if yes else Questions().ask


class Questions:
    """Ask one question at a time."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()
        self._lines = LineReader()

    async def ask(self, call: ToolCall) -> Decision:
        """Return the decision about a call.

        Raises:
            ConfigError: there is no terminal to ask at.
        """
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigError(
                f"the call {described(call)} needs approval, and there is no terminal to ask at; run the command in a "
                "terminal, or give --yes to approve every call"
            )
        async with self._lock:
            note(f"\n{described(call)}")
            while True:
                answer = await self._line("Run this call? [y]es, [n]o, [e]dit: ")
                word, _, rest = (answer or "n").strip().partition(" ")
                if word.lower() in ("y", "yes"):
                    return True
                if word.lower() in ("n", "no"):
                    return Deny(rest or await self._line("Reason (optional): ") or "")
                if word.lower() in ("e", "edit") and (edited := await self._edited(rest)) is not None:
                    return edited

    async def _edited(self, given: str) -> Approve | None:
        """Return the approval with other arguments; None if they are not valid."""
        text = given or await self._line("Arguments as JSON: ") or ""
        try:
            arguments = json.loads(text)
        except ValueError as error:
            note(f"this is not JSON: {error}")
            return None
        if isinstance(arguments, dict):
            return Approve(arguments)  # pyright: ignore[reportUnknownArgumentType]
        note('the arguments are a JSON object, as in {"city": "Bonn"}')
        return None

    async def _line(self, question: str) -> str | None:
        typer.echo(question, err=True, nl=False)
        return await self._lines.next()


class LineReader:
    """Read lines of the terminal without a thread, so that waiting for one can be cancelled."""

    def __init__(self) -> None:
        self._left = b""

    async def next(self) -> str | None:
        """Return the next line without its end; None at the end of the input."""
        while b"\n" not in self._left:
            await anyio.wait_readable(sys.stdin)
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                line, self._left = self._left, b""
                return line.decode("utf-8", "replace") or None
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        return line.decode("utf-8", "replace")
