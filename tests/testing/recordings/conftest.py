"""Run these tests as those of a user: with the default transport that the pytest plugin sets."""

from __future__ import annotations

import pytest

from streamcore.net.transports import AUTO_VARIABLE


@pytest.fixture(autouse=True)
def default_of_the_plugin(monkeypatch: pytest.MonkeyPatch, no_environment: None) -> None:
    """Send requests over httpx2 by default, where respx sees them; `no_environment` removes the variable."""
    monkeypatch.setenv(AUTO_VARIABLE, "httpx2")
