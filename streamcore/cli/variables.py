"""Collect a prompt's variables from the command line, from files and from the standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from streamcore.cli.output import bad_input
from streamcore.errors import ConfigError

Var = Annotated[
    list[str] | None, typer.Option("--var", metavar="KEY=VALUE", help="A variable of the prompt. Repeatable.")
]
VarFile = Annotated[
    list[str] | None,
    typer.Option(
        "--var-file", metavar="KEY=FILE", help="A variable whose value is a file's text; - is the input. Repeatable."
    ),
]
VarsFile = Annotated[
    str | None,
    typer.Option("--vars-file", metavar="FILE", help="Variables from a YAML or JSON file; - is the input."),
]


def gather(
    var: list[str] | None, var_file: list[str] | None, vars_file: str | None, text: str | None = None
) -> dict[str, Any]:
    """Return the variables; `--var` overrides `--var-file`, which overrides `--vars-file`.

    `text` is what `--text` has, which may be the standard input, too.
    """
    files = _pairs(var_file or [], "--var-file", "notes=notes.txt")
    if [vars_file, text, *files.values()].count("-") > 1:
        bad_input("the standard input can be read once; only one of --vars-file, --var-file and --text may be -")
    variables = _mapping(vars_file) if vars_file is not None else {}
    variables |= {key: read_text(path) for key, path in files.items()}
    return variables | _pairs(var or [], "--var", "name=World")


def _pairs(given: list[str], option: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            bad_input(
                f"{option} takes KEY={'FILE' if 'file' in option else 'VALUE'}, as in {option} {example}; got {item!r}"
            )
        found[key] = value
    return found


def _bytes(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        bad_input(f"cannot read {path!r}: {error.strerror}")


def read_text(path: str) -> str:
    """Return a file's text, or that of the standard input for `-`."""
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        bad_input(f"{_shown(path)} is not UTF-8 at byte {error.start}")


def _mapping(path: str) -> dict[str, Any]:
    from streamcore.files.yaml_file import parse_yaml

    try:
        found = parse_yaml(Path(_shown(path)), _bytes(path), ConfigError).data
    except ConfigError as error:
        bad_input(str(error))
    if not isinstance(found, dict):
        bad_input(f"{_shown(path)} must have variables as `name: value`, not a {type(found).__name__}")
    return cast("dict[str, Any]", found)


def _shown(path: str) -> str:
    return "<standard input>" if path == "-" else path
