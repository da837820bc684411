"""Find the code blocks of documents, and run them as a reader does who pastes them into a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the name of the file that it is (or None), its text, the line where it begins."""

    language: str
    title: str | None
    code: str
    line: int


def all_blocks(path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document."""
    text = path.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        yield Block(found[1], found[2], found[3], text.count("\n", 0, found.start()) + 1)


def blocks(path: Path, language: str) -> Iterator[str]:
    """Yield the text of the fenced blocks of a language."""
    for block in all_blocks(path):
        if block.language == language:
            yield block.code


def save_files(page: Path, folder: Path) -> None:
    """Save the blocks that have a file's name, as the reader of a page does."""
    for block in all_blocks(page):
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, "utf-8")


def run_script(code: str, name: str = "snippet") -> dict[str, Any]:
    """Run a block as `python file.py` runs a file, and return its names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, f"<{name}>", "exec"), names)  # noqa: S102  our own documents
    return names
