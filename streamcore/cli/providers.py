"""List the providers and what each still needs: `streamcore providers`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamcore.cli.output import put
from streamcore.provider import Vendor, provider_names, vendor

Row = dict[str, str | bool | None]


def providers(
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON for each provider.")] = False,
) -> None:
    """Show every provider: is its SDK installed, is there a key, which model, and what to do next.

    Example: streamcore providers --json

    Keys are never shown.
    """
    rows = [_row(name, vendor(name)) for name in provider_names()]
    if as_json:
        for row in rows:
            put(json.dumps(row) + "\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("provider", "SDK", "key", "default model", "to do"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            str(row["provider"]),
            "installed" if row["installed"] else "missing",
            {True: "found", False: "missing", None: "not needed"}[row["key"]],  # type: ignore[index]
            str(row["model"] or "-"),
            str(row["todo"] or "ready"),
        )
    console = Console(width=None if sys.stdout.isatty() else 200)
    with console.capture() as shown:
        console.print(table)
    put(shown.get())


def _row(name: str, known: Vendor | None) -> Row:
    if known is None:  # a third party's, which says nothing of itself
        return {"provider": name, "installed": True, "key": None, "model": None, "todo": None}
    key = known.from_environment("API_KEY") is not None if known.needs_key else None
    model = known.from_environment("MODEL") or known.default_model
    todo: str | None = None
    if not known.installed:
        todo = f"pip install {known.install}"
    elif key is False:
        todo = f"set {known.variable('API_KEY')}"
    elif model is None:
        todo = f"set {known.variable('MODEL')}, or give a model"
    return {"provider": name, "installed": known.installed, "key": key, "model": model, "todo": todo}
