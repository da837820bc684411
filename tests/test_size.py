"""Limit the size of the token path and of every function, so that the token path is read in an afternoon."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "streamcore").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])

REQUEST_SIDE = ("chat_request.py", "closed_schema.py", "turns.py")
"""The files of `wire/` that build requests; all others decode."""
OTHER_FRAMING = ("event_stream.py",)
"""The files of `wire/` for vendors that do not send Server-Sent Events."""


def _files_of(folder: str, without: tuple[str, ...] = ()) -> list[str]:
    paths = sorted((ROOT / folder).glob("*.py"))
    return [path.relative_to(ROOT).as_posix() for path in paths if path.name not in ("__init__.py", *without)]


TOKEN_PATH = [
    *(f"streamcore/{name}.py" for name in ("chunk", "request", "completion", "stream")),
    *_files_of("streamcore/wire", REQUEST_SIDE + OTHER_FRAMING),
    *_files_of("streamcore/pipeline", ("json_text.py",)),  # an old import path
    "providers/streamcore_openai/chat.py",
    "providers/streamcore_openai/sdk.py",
]
"""The files between a vendor's bytes and the caller, with one provider; docs/architecture.md lists the same."""

MOST_LINES = 3100
LONGEST_FUNCTION = 60
HIGHEST_COMPLEXITY = 20
RUN_LOOP = ("streamcore/pipeline/run.py", "chunks")
"""The one function that may have more lines: every token passes through it."""

_NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _lines(node: ast.expr | ast.stmt) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def code_lines(source: str) -> int:
    """Count the lines of code: no docstrings, comments and blank lines."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _is_text(node):
            lines -= _lines(node)
    return len(lines)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the name and the lines of every function, its docstring not counted."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = len(_lines(node.body[0])) if _is_text(node.body[0]) else 0
            yield node.name, len(_lines(node)) - docstring


def test_only_code_is_counted() -> None:
    module = '"""Doc\nstring."""\n\n# comment\nx = """a\n\nb"""\n\n\n'
    source = module + 'def f() -> None:\n    """Doc."""\n    return  # comment\n'
    assert code_lines(source) == 5


def test_the_token_path_is_short() -> None:
    counts = {name: code_lines((ROOT / name).read_text("utf-8")) for name in TOKEN_PATH}
    assert sum(counts.values()) <= MOST_LINES, counts


def test_the_architecture_lists_the_token_path() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    section = text.partition("## The token path")[2].partition("\n## ")[0]
    for name in TOKEN_PATH:
        folder, _, file = name.rpartition("/")
        assert f"`{file}`" in section, name
        assert f"`{folder}/`" in section, name


def test_functions_are_short() -> None:
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        for function, lines in functions(path):
            assert lines <= LONGEST_FUNCTION or (name, function) == RUN_LOOP, f"{name}: {function} has {lines} lines"


def test_functions_are_simple() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--exit-zero", "--output-format=json"]
    found = subprocess.run(
        [
            *(*command, "--select=C901", "--ignore-noqa"),
            f"--config=lint.mccabe.max-complexity={HIGHEST_COMPLEXITY}",
            *("streamcore", "providers"),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert json.loads(found) == []
