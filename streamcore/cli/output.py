"""Write chunks, figures and errors for people and for scripts."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from streamcore.chunk import Chunk
from streamcore.completion import Completion
from streamcore.errors import ConfigError, StreamcoreError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def json_line(value: Any) -> str:
    """Return a dataclass as one line of JSON, without the fields that say nothing."""
    return json.dumps(_plain(value), ensure_ascii=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: item for name, item in fields.items() if item not in (None, "", (), [], {})}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


class Stopwatch:
    """Time a stream: to its first text, and as a whole."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._first: float | None = None
        self._last = self._start
        self.pieces = 0

    def see(self, chunk: Chunk) -> None:
        """Note that a chunk came."""
        if chunk.text:
            self._last = time.perf_counter()
            self._first = self._first or self._last
            self.pieces += 1

    @property
    def first_token(self) -> float | None:
        """Seconds until the first text."""
        return None if self._first is None else self._first - self._start

    @property
    def rate(self) -> float | None:
        """Pieces of text per second, after the first."""
        if self._first is None or self.pieces < 2 or self._last == self._first:
            return None
        return (self.pieces - 1) / (self._last - self._first)

    def describe(self, answer: Completion) -> str:
        """Return the figures as one line for people."""
        parts: list[str] = []
        if answer.attempts:
            parts.append(f"{answer.attempts[-1].provider} {answer.model or ''}".strip())
        if self.first_token is not None:
            parts.append(f"first token after {self.first_token * 1000:.0f} ms")
        if self.rate is not None:
            parts.append(f"{self.rate:.0f} tokens/s")
        if answer.usage is not None:
            parts.append(f"{answer.usage.input_tokens} tokens in, {answer.usage.output_tokens} out")
        if answer.raw_finish_reason:
            parts.append(f"ended with {answer.raw_finish_reason}")
        return " · ".join(parts)


def note(message: str) -> None:
    """Tell a person something that is no part of the output."""
    typer.echo(message, err=True)


def fail(error: StreamcoreError, *, as_json: bool = False) -> NoReturn:
    """Show an error and end with the exit code that it stands for."""
    partial = error.partial
    if as_json:
        shown = {"kind": "error", "type": type(error).__name__, "message": str(error), "partial": _plain(partial)}
        typer.echo(json.dumps(shown))
    else:
        kept = f" ({came(partial)} came before it)" if partial is not None and partial.text else ""
        if sys.stdout.isatty() and kept:
            typer.echo()
        note(f"{type(error).__name__}: {error}{kept}")
    raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED)


def came(answer: Completion) -> str:
    """Say how much text an answer has."""
    characters = len(answer.text)
    return f"{characters} character{'' if characters == 1 else 's'} of text"
