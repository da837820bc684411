"""Let these tests, and only these, reach vendors with the keys of the environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_network() -> None:
    """Leave the network as it is."""


@pytest.fixture(autouse=True)
def no_environment() -> None:
    """Leave keys and addresses where they are."""


@pytest.fixture
def anyio_backend() -> str:
    """Run on the one backend that every SDK knows."""
    return "asyncio"
