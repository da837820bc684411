"""Limit what `import streamcore` may load, and its cost to about that of httpx2."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = (
    "anthropic",
    "openai",
    "mistralai",
    "google.genai",
    "pydantic",
    "yaml",
    "jinja2",
    "fastapi",
    "starlette",
    "typer",
    "rich",
    "pytest",
    "respx",
    "hypothesis",
    "redis",
    "psycopg",
    "mcp",
    "sqlite3",
    "opentelemetry",
    "streamcore.observe",
    "streamcore.telemetry",
    "streamcore.testing",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_loads_nothing_heavy() -> None:
    loaded = run("import streamcore, sys; print('\\n'.join(sys.modules))").split()
    assert "streamcore.execute" in loaded
    assert not [name for name in FORBIDDEN if name in loaded]


def test_import_loads_few_modules() -> None:
    """Modules are counted rather than timed: the figure does not depend on how busy the machine is."""
    count = "import sys; before = set(sys.modules); import {0}; print(len(set(sys.modules) - before))"
    assert int(run(count.format("streamcore"))) < 2.5 * int(run(count.format("httpx2")))


def test_public_names_exist() -> None:
    assert run("import streamcore; print(all(hasattr(streamcore, name) for name in streamcore.__all__))") == "True\n"
