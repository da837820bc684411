"""Run the snippets of docs/threads.md, and check its statements about the code."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore.checkpoints.sqlite import SQLiteCheckpointer
from streamcore.files.yaml_file import parse_yaml
from tests.snippets import blocks, run_script

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threads.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with the project's graphs and prompts."""
    for name in ("graphs", "prompts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_python(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interview, by_hand, suite = blocks(PAGE, "python")
    run_script(interview)
    assert capsys.readouterr().out == "What is your name?\n"
    run_script(by_hand)
    assert "{'name_question': 'What is your name?', 'name': 'Ada'" in capsys.readouterr().out
    assert asyncio.run(SQLiteCheckpointer("threads.db").load("interview/ada")) is None
    (folder / "test_mine.py").write_text(suite, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE)


def test_its_commands(folder: Path) -> None:
    (commands,) = blocks(PAGE, "sh")
    first, second = commands.replace("streamcore ", f"{sys.executable} -m streamcore.cli ").splitlines()
    asked = subprocess.run(first, shell=True, capture_output=True, text=True, timeout=250, check=False)  # noqa: S602
    assert (asked.returncode, asked.stdout) == (3, "What is your name?\n"), asked.stderr
    then = subprocess.run(second, shell=True, capture_output=True, text=True, timeout=250, check=False)  # noqa: S602
    assert then.returncode == 3, then.stderr
    assert "Ada Lovelace" in then.stdout
    assert (folder / "streamcore-threads.db").exists()


def test_its_yaml() -> None:
    from streamcore import GraphError
    from streamcore.checkpoints import open_checkpointer

    (text,) = blocks(PAGE, "yaml")
    parsed: Any = parse_yaml(PAGE, text.encode(), GraphError).data
    assert isinstance(open_checkpointer(parsed["checkpointer"]), SQLiteCheckpointer)
