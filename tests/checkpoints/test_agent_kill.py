"""Kill workers that run an agent; `python -m tests.agent_kill_trials KIND 50` does it longer."""

from __future__ import annotations

import pytest

from tests.checkpoints.trials import run_trials


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
    run_trials("agent_kill_trials", kind, runs, request, timeout=800)
