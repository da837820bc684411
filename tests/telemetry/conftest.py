"""Give the tests of telemetry the graph of the tests of observers, and a list of prices that is loaded."""

from weakref import WeakSet

import pytest

from streamcore.pricing.loading import load_list
from tests.observe.test_trees import graph

__all__ = ["graph"]


@pytest.fixture(scope="session", autouse=True)
def prices() -> None:
    """Load the list first, so that every span has its cost, and every point is there at once."""
    load_list()


@pytest.fixture(autouse=True)
def no_other_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count no bytes of relays that other tests have left in this process."""
    monkeypatch.setattr("streamcore.relay.memory._logs", WeakSet())
