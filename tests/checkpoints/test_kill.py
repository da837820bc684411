"""Kill workers at random instants, on each store; `python -m tests.kill_trials KIND 50` does it longer."""

from __future__ import annotations

import pytest

from tests.checkpoints.trials import run_trials


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
    run_trials("kill_trials", kind, runs, request, timeout=250)
