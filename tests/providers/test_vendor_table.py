"""Check that the table of vendors in docs/providers.md shows what the providers do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def make(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


@pytest.mark.long
def test_the_table_is_true() -> None:
    done = make(DOCS / "make_vendors.py", "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_a_false_table_is_found_and_rewritten(tmp_path: Path) -> None:
    for name in ("make_vendors.py", "providers.md"):
        shutil.copy(DOCS / name, tmp_path)
    page = tmp_path / "providers.md"
    before = page.read_text("utf-8")
    page.write_text(before.replace("| can be sent: tools | yes |", "| can be sent: tools | no |"), "utf-8")
    done = make(tmp_path / "make_vendors.py", "--check")
    assert (done.returncode, "providers.md is out of date" in done.stderr) == (1, True)
    assert make(tmp_path / "make_vendors.py").returncode == 0
    assert page.read_text("utf-8") == before
