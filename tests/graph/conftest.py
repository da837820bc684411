"""Send the requests of graphs to the simulator."""

from __future__ import annotations

import pytest

from streamcore.testing import Simulator
from tests.support import KEY


@pytest.fixture
def vendor(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Set the simulator as `openai`, the default provider."""
    monkeypatch.setenv("STREAMCORE_PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_MODEL", "m")
    return simulator
