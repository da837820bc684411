"""Test that docs/troubleshooting.md shows the real output."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCRIPT = "make_troubleshooting.py"
PAGE = "troubleshooting.md"


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, folder / SCRIPT, *arguments], capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in (SCRIPT, PAGE):
        shutil.copy(DOCS / name, tmp_path)
    return tmp_path


@pytest.mark.long
def test_the_page_is_true() -> None:
    done = make(DOCS, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_a_wrong_page_is_found_and_corrected(copy: Path) -> None:
    page = copy / PAGE
    true = page.read_text("utf-8")
    page.write_text(true.replace("the variable 'style' is missing", "something is missing"), "utf-8")
    done = make(copy, "--check")
    assert done.returncode == 1
    assert "out of date: missing-variable" in done.stderr
    assert make(copy).returncode == 0
    assert page.read_text("utf-8") == true


def test_a_case_without_its_block_is_found(copy: Path) -> None:
    page = copy / PAGE
    page.write_text(page.read_text("utf-8").replace("<!-- shown: no-key -->", ""), "utf-8")
    done = make(copy, "--check")
    assert done.returncode == 1
    assert "no-key" in done.stderr


def test_the_page_has_no_key_and_no_path_of_a_machine() -> None:
    text = (DOCS / PAGE).read_text("utf-8")
    assert "sk-" not in text
    assert not re.search(r"(?<![\w.])/(?:tmp|home|root|usr|var|work|Users)\b|Traceback", text)
