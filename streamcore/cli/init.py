"""Start a project in a folder: `streamcore init`."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated

import typer

from streamcore.cli.output import bad_input, put

_NAMES = {"env.example": ".env.example"}  # a name that a wheel's tools do not leave out


def init(
    folder: Annotated[Path, typer.Argument(help="Where to put the files; made if it is not there.")] = Path(),
) -> None:
    """Write a prompt, a graph, main.py and .env.example into a folder, to start from.

    Example: streamcore init hello && python hello/main.py

    What it writes streams at once, without a key and without a network. Files that are there are never overwritten.
    """
    starter = {_target(name): content for name, content in _walk(files("streamcore.cli") / "starter")}
    there = [name for name in starter if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        bad_input(f"{', '.join(map(repr, there))} in {str(folder)!r} would be overwritten; choose an empty folder")
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
        "Then put a vendor's name into prompts/greet.yaml and its key into the environment; see .env.example.\n"
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
