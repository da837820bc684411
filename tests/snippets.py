"""Run the code blocks of documents, with `await` at the top level as the documents write it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> Iterator[str]:
    """Yield the fenced blocks of a language."""
    for kind, code in _BLOCK.findall(path.read_text("utf-8")):
        if kind == language:
            yield code


async def run(code: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a block as if typed at an async prompt, and return its names."""
    names = {"__name__": "snippet", **(names or {})}
    compiled = compile(code, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)  # noqa: S307  our own documents
    if inspect.isawaitable(result):
        await result
    return names


def run_module(code: str) -> dict[str, Any]:
    """Run a block as a module of its own, and return its names."""
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(code, "<snippet>", "exec"), names)  # noqa: S102  our own documents
    return names
