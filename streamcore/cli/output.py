"""Write chunks, figures and errors for people and for scripts; detect that the output cannot be written to."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

import typer

from streamcore.completion import Completion
from streamcore.errors import ConfigError, StreamcoreError

BAD_INPUT = 2
FAILED = 1
INTERRUPTED = 130


def json_line(value: Any) -> str:
    """Return a dataclass as one line of JSON, without its empty fields."""
    return json.dumps(json_value(value), ensure_ascii=True)


def json_value(value: Any) -> Any:
    """Return a value with dataclasses, bytes and tuples in it replaced by JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: json_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {name: item for name, item in fields.items() if item not in (None, "", (), [], {})}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


class OutputError(Exception):
    """The standard output cannot be written to: a closed pipe, a full disk. The cause is the `OSError`."""


def put(text: str) -> None:
    """Write to the standard output and flush it.

    Raises:
        OutputError: it cannot be written to. `main` then ends the command.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError from error


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but line ends and tabs


def visible(text: str) -> str:
    """Return a text with its control characters written out, as `\\x1b`: a terminal would obey them."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def printable(text: str, *, raw: bool = False) -> str:
    """Return a model's text as the standard output takes it.

    Lone surrogates, which cannot be encoded, are replaced. On a terminal, control characters are written out, unless
    `raw`; files and pipes get them as they are.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if raw or not sys.stdout.isatty() else visible(text)


def bad_input(message: str) -> NoReturn:
    """Print what is wrong with the arguments, and exit with code 2."""
    note(message)
    raise typer.Exit(BAD_INPUT)


def note(message: str) -> None:
    """Print a line for people to the standard error."""
    typer.echo(visible(message) if sys.stderr.isatty() else message, err=True)


def show_log(*, as_json: bool = False) -> None:
    """Print what streamcore logs about retries and fallbacks to the standard error.

    With `as_json` it is a line of JSON for each record, and there is a record for each answer.
    """
    log = logging.getLogger("streamcore")
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("(%(message)s)"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    if as_json:
        from streamcore.answer_log import AnswerLog, JSONFormatter
        from streamcore.observe import add_observer

        log.handlers[0].setFormatter(JSONFormatter())
        add_observer(AnswerLog())


def fail(error: StreamcoreError, *, as_json: bool = False) -> NoReturn:
    """Print an error and exit: with code 2 for a mistake in the input or a file, else with 1."""
    partial = error.partial
    if as_json:
        shown = {"kind": "error", "type": type(error).__name__, "message": str(error), "partial": json_value(partial)}
        put(json.dumps(shown) + "\n")
    else:
        arrived = f" ({text_length(partial)} arrived before it)" if partial is not None and partial.text else ""
        if sys.stdout.isatty() and arrived:
            put("\n")
        note(f"{type(error).__name__}: {error}{arrived}")
    raise typer.Exit(BAD_INPUT if isinstance(error, ConfigError) else FAILED)


def text_length(answer: Completion) -> str:
    """Return how much text an answer has, for people."""
    characters = len(answer.text)
    return f"{characters} character{'' if characters == 1 else 's'} of text"
