"""Kill workers that run an agent; `python -m tests.agent_kill_trials KIND 50` does it longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("kind", "runs"),
    [
        ("sqlite", 2),
        pytest.param("sqlite", 50, marks=pytest.mark.long),
        pytest.param("redis", 50, marks=[pytest.mark.real, pytest.mark.long]),
        pytest.param("postgres", 20, marks=[pytest.mark.real, pytest.mark.long]),
    ],
)
@pytest.mark.timeout(900)
def test_no_saved_result_is_computed_again(kind: str, runs: int, request: pytest.FixtureRequest) -> None:
    if kind != "sqlite":
        request.getfixturevalue(f"{kind}_url")  # skips where there is none
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.agent_kill_trials", kind, str(runs), "7"],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{runs} runs on {kind}: ")
    assert " 0 workers killed" not in done.stdout
