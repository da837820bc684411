"""Run a script of kill trials as a test does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run_trials(script: str, kind: str, runs: int, request: pytest.FixtureRequest, *, timeout: float) -> None:
    """Run the trials of `tests/SCRIPT.py` on a store; skip the test where its server is not installed."""
    if kind != "sqlite":
        request.getfixturevalue(f"{kind}_url")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"tests.{script}", kind, str(runs), "7"],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{runs} runs on {kind}: ")
    assert " 0 workers killed" not in done.stdout
