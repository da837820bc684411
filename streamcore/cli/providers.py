"""List the providers and what each still needs: `streamcore providers`."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from streamcore.cli.options import EnvFile, read_env_file
from streamcore.cli.output import put
from streamcore.provider import Vendor, provider_names, vendor

Row = dict[str, str | bool | None]
TITLES = ("provider", "SDK", "key", "default model", "to do")
UNLIMITED = 200
"""The width of a line where no terminal limits it."""


def providers(
    env_file: EnvFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each provider.")] = False,
) -> None:
    """Show for every provider whether its SDK is installed, whether there is a key, which model, and what to do next.

    Example: streamcore providers --json

    Keys are never shown.
    """
    read_env_file(env_file)
    rows = [_row(name, vendor(name)) for name in provider_names()]
    if as_json:
        for row in rows:
            put(json.dumps(row) + "\n")
        return
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(TITLES, *cells, strict=True)]
    width = shutil.get_terminal_size((UNLIMITED, 24)).columns
    lines = _table([TITLES, *cells], widths) if sum(widths) + 2 * len(widths) <= width else _blocks(cells, width)
    put("".join(f"{line}\n" for line in lines))


def _table(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _blocks(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield a few short lines for each provider, for a narrow terminal."""
    for name, sdk, key, model, todo in rows:
        yield name
        for text in (f"SDK {sdk}, key {key}", f"model {model}", todo):
            yield from textwrap.wrap(text, max(width, 20), initial_indent="  ", subsequent_indent="    ")


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    key = "not needed" if row["key"] is None else "found" if row["key"] else "missing"
    sdk = "installed" if row["installed"] else "missing"
    return str(row["provider"]), sdk, key, str(row["model"] or "-"), str(row["todo"] or "ready")


def _row(name: str, known: Vendor | None) -> Row:
    if known is None:  # a third party's that does not describe itself
        return {"provider": name, "installed": True, "key": None, "model": None, "todo": None}
    key = known.find_key() is not None if known.needs_key else None
    model = known.from_environment("MODEL") or known.default_model
    todo: str | None = None
    if not known.installed:
        todo = f"pip install {known.install}"
    elif missing := _missing(known):
        todo = f"set {' and '.join(missing)}"
    elif model is None:
        todo = f"set {known.variable('MODEL')}, or give a model"
    return {"provider": name, "installed": known.installed, "key": key, "model": model, "todo": todo}


def _missing(known: Vendor) -> list[str]:
    """Return the variables without which no request can be sent."""
    needed = [suffix for suffix, need in (("API_KEY", known.needs_key), ("BASE_URL", known.needs_base_url)) if need]
    return [known.variable(suffix) for suffix in needed if known.from_environment(suffix) is None]
