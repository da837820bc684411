"""Test that docs/cli.md shows the real output of the command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.cli.app import COMMANDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "cli.md"


def make(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_page_is_true() -> None:
    done = make(DOCS / "make_cli.py", "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_false_page_is_found(tmp_path: Path) -> None:
    for name in ("make_cli.py", "cli.md"):
        shutil.copy(DOCS / name, tmp_path)
    page = tmp_path / "cli.md"
    page.write_text(page.read_text("utf-8").replace("Hello, Ada", "Hi, Ada").replace("--pace", "--speed"), "utf-8")
    done = make(tmp_path / "make_cli.py", "--check")
    assert done.returncode == 1
    assert "recordings" in done.stderr
    assert "reference" in done.stderr


def test_every_command_is_there_and_no_machine() -> None:
    text = PAGE.read_text("utf-8")
    for command in COMMANDS:
        assert f"\n### {command.__name__.rstrip('_')}\n" in text
    assert not re.search(r"(?<![\w.])/(?:tmp|home|root|usr|var|work|Users)\b|Traceback|\x1b", text)
