"""Let these tests, and only these, reach vendors with the keys of the environment."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_network() -> None:
    """Do not block the network."""


@pytest.fixture(autouse=True)
def no_environment() -> None:
    """Do not remove keys and addresses from the environment."""


@pytest.fixture
def anyio_backend() -> str:
    """Run on the one backend that every SDK knows."""
    return "asyncio"
