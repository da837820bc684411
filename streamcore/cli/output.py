"""Write chunks, figures and errors for people and for scripts; notice when the output takes no more."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import typer

from streamcore.completion import Completion
from streamcore.errors import ConfigError, StreamcoreError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def json_line(value: Any) -> str:
    """Return a dataclass as one line of JSON, without the fields that say nothing."""
    return json.dumps(plain(value), ensure_ascii=True)


def plain(value: Any) -> Any:
    """Return a value as what JSON can say."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: item for name, item in fields.items() if item not in (None, "", (), [], {})}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


class OutputGone(Exception):  # noqa: N818
    """The standard output takes nothing more: a closed pipe, a full disk."""


def put(text: str) -> None:
    """Write to the standard output, at once.

    Raises:
        OutputGone: it cannot be written to; `main` ends the command then.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputGone(error.strerror or str(error)) from error


def bad_input(message: str) -> NoReturn:
    """Say what is wrong with what was given, and end with exit code 2."""
    note(message)
    raise typer.Exit(BAD_INPUT)


def note(message: str) -> None:
    """Tell a person something that is no part of the output."""
    typer.echo(message, err=True)


def fail(error: StreamcoreError, *, as_json: bool = False) -> NoReturn:
    """Show an error and end with the exit code that it stands for."""
    partial = error.partial
    if as_json:
        shown = {"kind": "error", "type": type(error).__name__, "message": str(error), "partial": plain(partial)}
        put(json.dumps(shown) + "\n")
    else:
        kept = f" ({came(partial)} came before it)" if partial is not None and partial.text else ""
        if sys.stdout.isatty() and kept:
            put("\n")
        note(f"{type(error).__name__}: {error}{kept}")
    raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED)


def came(answer: Completion) -> str:
    """Say how much text an answer has."""
    characters = len(answer.text)
    return f"{characters} character{'' if characters == 1 else 's'} of text"
