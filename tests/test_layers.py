"""Test the layers of docs/architecture.md: imports point down only, in no circle, and the core knows no vendor."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "streamcore"

# From the bottom of the package to its top; a part may import from its own line and from those before it.
LAYERS = [
    {"base"},
    {"chunk", "cost"},
    {"storage", "parts", "opaque_text", "tool_call_fragments", "usage_sum"},
    {"request_checks"},
    {"request"},
    {"completion"},
    {"errors"},
    {"concurrency"},
    {"observe", "reports"},
    {"files"},
    {"structured", "timeouts"},
    {"wire"},
    {"provider"},
    {"fallback", "pricing", "token_count"},
    {"answer_log"},
    {"net", "aiohttp_client", "transport"},
    {"pipeline"},
    {"stream"},
    {"tools"},
    {"prompts", "checkpoints"},
    {"execute"},
    {"sync"},
    {"graph"},
    {"executor_async", "node_factory"},
    {"sse"},
    {"relay"},
    {"telemetry", "durable"},
    {"testing", "bulk"},
    {"web"},
    {"cli"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
VENDORS = re.compile(r"anthropic|openai|mistral|gemini|ollama|groq|openrouter", re.IGNORECASE)
FILES = sorted(CORE.rglob("*.py"))


def part_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@functools.cache
def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_imports_point_down(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    assert part in RANK, f"{part} has no layer yet: add it here and in docs/architecture.md"
    for name in imported(path):
        if name.startswith("streamcore."):
            other = name.split(".")[1]
            if other in RANK:
                assert RANK[other] <= RANK[part], f"{path} imports {name}, which is in a higher layer"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_core_imports_no_vendor(path: Path) -> None:
    assert not [name for name in imported(path) if VENDORS.search(name)]


def test_decoders_and_the_smoother_are_pure() -> None:
    for path in [*(CORE / "wire").glob("*.py"), CORE / "pipeline" / "smoother.py", CORE / "pipeline" / "retry.py"]:
        assert not {"asyncio", "socket", "time", "httpx2", "anyio"} & imported(path), path


def test_core_code_names_no_vendor() -> None:
    """Comments and docstrings may say where a quirk was seen; code may not branch on a vendor."""
    for path in FILES:
        if part_of(path) in ("testing", "cli"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            named = isinstance(node, ast.Name | ast.Attribute | ast.FunctionDef | ast.ClassDef)
            text = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None) or ""
            if not named or "x_groq" in text.lower():  # a key of the dialect, sent by several servers
                text = ""
            assert not (text and VENDORS.search(text)), f"{path}:{getattr(node, 'lineno', 0)} {text}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                allowed = re.sub(r"openai-chat|x_groq", "", node.value)  # the name of the dialect
                assert not VENDORS.search(allowed), f"{path}:{node.lineno} {node.value!r}"


def test_every_part_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for part in RANK:
        assert f"{part}.py" in text or f"{part}/" in text, part


def test_no_circle_of_imports() -> None:
    """Count the imports inside functions, too: two files that need each other are one file."""
    modules = {module_of(path): path for path in FILES if path.name not in ("__init__.py", "__main__.py")}
    graph = {
        name: {other for other in imported(path) if other in modules and other != name}
        for name, path in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above[above.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_file_says_what_it_is_for() -> None:
    for path in [*FILES, *(ROOT / "providers").rglob("*.py"), *(ROOT / "examples").glob("*.py")]:
        doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert doc, path
        assert doc.splitlines()[0].endswith((".", ":")), path


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("unregistered", "streamcore/concurrency"),
        ("set_asyncgen_hooks", "streamcore/concurrency"),
        ("in_trio_task", "streamcore/concurrency/event_loop.py"),
        ("in_trio_run", "streamcore/concurrency/event_loop.py"),
        ("spawn_system_task", "streamcore/concurrency/event_loop.py"),
    ],
)
def test_a_name_is_used_in_one_file_only(name: str, package: str) -> None:
    """Open generators with `opened` or `OwnedStream`; ask `event_loop` which loop runs."""
    for path in [*FILES, *(ROOT / "providers").rglob("*.py")]:
        text = path.read_text("utf-8")
        if name in text and not path.relative_to(ROOT).as_posix().startswith(package):
            for node in ast.walk(ast.parse(text)):
                names = {getattr(node, field, None) for field in ("id", "attr")}
                if isinstance(node, ast.ImportFrom):
                    names |= {alias.name for alias in node.names}
                assert name not in names, f"{path}:{getattr(node, 'lineno', 0)} uses {name}, which belongs to {package}"
