"""Start a project in a folder: `streamcore init`."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from streamcore.cli.output import bad_input, put

_NAMES = {"env.example": ".env.example"}  # tools that build wheels leave files out whose names begin with a dot
_SCHEMAS = ".streamcore"
"""The folder of the JSON Schemas that the YAML files name in their first lines."""


def init(
    folder: Annotated[Path, typer.Argument(help="The folder for the files; it is created if needed.")] = Path(),
) -> None:
    """Start a project: write a prompt, a graph, main.py, .env.example and JSON Schemas for editors into a folder.

    Example: streamcore init hello && python hello/main.py

    The project streams at once, without a key and without a network. Existing files are never overwritten.
    """
    starter = {_target(name): content for name, content in _walk(files("streamcore.cli") / "starter")}
    starter |= {f"{_SCHEMAS}/{name}": content for name, content in _walk(files("streamcore.files") / "schemas")}
    existing = [name for name in starter if (folder / name).exists() or (folder / name).is_symlink()]
    if existing:
        bad_input(f"{', '.join(map(repr, existing))} in {str(folder)!r} would be overwritten; choose an empty folder")
    try:
        for name, content in starter.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(content)
            put(f"wrote {path}\n")
    except OSError as error:
        bad_input(f"cannot write into {str(folder)!r}: {error.strerror}")
    change = "" if folder == Path() else f"  cd {folder}\n"
    put(
        f"\nNow try:\n{change}"
        "  python main.py\n"
        "  streamcore prompt greet --var name=Ada --stats\n"
        "  streamcore run graph.yaml --var name=Ada\n"
        "  streamcore serve graph.yaml\n"
        "Then name a vendor as `provider:` in prompts/greet.yaml, copy .env.example to .env, put the vendor's key\n"
        "there, and add --env-file .env to the streamcore commands.\n"
    )


def _walk(folder: Traversable, before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            found += [] if item.name == "__pycache__" else _walk(item, f"{before}{item.name}/")
        else:
            found.append((before + item.name, item.read_text("utf-8")))
    return found


def _target(name: str) -> str:
    return _NAMES.get(name, name)
