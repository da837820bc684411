"""Check that the tables of docs/providers.md are what the providers really send and return."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRIPT = "make_capabilities.py"
PAGE = "providers.md"


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, folder / SCRIPT, *arguments], capture_output=True, text=True)


@pytest.mark.long
def test_the_tables_are_current() -> None:
    done = make(DOCS, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_cell_that_is_not_true_is_found_and_rewritten(tmp_path: Path) -> None:
    for name in (SCRIPT, PAGE):
        shutil.copy(DOCS / name, tmp_path)
    page = tmp_path / PAGE
    current = page.read_text("utf-8")
    page.write_text(current.replace("| `seed` | no |", "| `seed` | yes |"), "utf-8")
    done = make(tmp_path, "--check")
    assert done.returncode == 1
    assert "run: python docs/make_capabilities.py" in done.stderr
    assert make(tmp_path).returncode == 0
    assert page.read_text("utf-8") == current
