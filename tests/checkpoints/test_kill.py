"""Kill workers at random instants, on each store; `python -m tests.kill_trials KIND 50` does it longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("sqlite", 2),
        pytest.param("sqlite", 6, marks=pytest.mark.long),
        pytest.param("redis", 6, marks=[pytest.mark.real, pytest.mark.long]),
        pytest.param("postgres", 6, marks=[pytest.mark.real, pytest.mark.long]),
    ],
)
def test_killed_workers_threads_go_on_at_the_right_node(kind: str, runs: int, request: pytest.FixtureRequest) -> None:
    if kind != "sqlite":
        request.getfixturevalue(f"{kind}_url")  # skips where there is none
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.kill_trials", kind, str(runs), "7"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{runs} runs on {kind}: ")
    assert " 0 workers killed" not in done.stdout
