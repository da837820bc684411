"""Test the live tests against the simulator, so that their own faults are found without keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.testing import Answer, Recording, Simulator
from streamcore.testing.simulator.answers import Asked, counted, plausible
from tests.commands import KEY, PROVIDERS, ROOT, environment
from tests.support import wait_until


def live(simulator: Simulator | None, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "tests/live/vendors.py"],
        cwd=ROOT,
        env=environment(simulator, **more),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def model(asked: Asked) -> Answer:
    """Answer as the live tests expect of a model."""
    if "Count" in asked.text:
        return counted(20_000)  # 40 s at the rate below, in which the busiest machine has cancelled it
    return plausible(asked)


SIMULATED = [*PROVIDERS, "google", "bedrock"]
"""The providers that the simulator serves."""


@pytest.mark.long
def test_all_simulated_pass_and_can_be_recorded(tmp_path: Path) -> None:
    with Simulator(model, rate=500) as simulator:
        done = live(simulator, STREAMCORE_LIVE_RECORD=str(tmp_path))
        assert done.returncode == 0, done.stdout
        assert f"{4 * len(SIMULATED)} passed" in done.stdout
        wait_until(lambda: simulator.abandoned == len(SIMULATED), "one stream of each was closed")
    recorded = {path.stem for path in tmp_path.iterdir()}
    assert recorded == {
        f"{name}-{what}" for name in SIMULATED for what in ("prompt", "tool", "structured", "cancelled")
    }
    for path in tmp_path.iterdir():
        assert Recording.load(path).exchanges
        assert KEY not in path.read_text("utf-8")


def test_without_keys_nothing_is_asked() -> None:
    done = live(None)
    assert done.returncode == 0
    assert " passed" not in done.stdout
    assert "set OPENAI_API_KEY" in done.stdout


@pytest.mark.long
def test_a_vendor_that_cuts_its_streams_is_found() -> None:
    with Simulator(Answer(["Hello", " you"], cut=1)) as simulator:
        done = live(simulator)
    assert done.returncode == 1
    assert "StreamInterrupted" in done.stdout
