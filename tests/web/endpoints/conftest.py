"""Serve the endpoints before a simulated vendor."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamcore.testing import FaultServer, Simulator
from streamcore.web import create_app
from tests.serving import serving

ROOT = Path(__file__).resolve().parents[3]
ALLOWED = ("anthropic/*", "openai/*", "openai-responses/*", "mistral/*")


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the requests to all vendors to a server of their wires."""
    for name, path in (("ANTHROPIC", ""), ("OPENAI", "/v1"), ("MISTRAL", "")):
        monkeypatch.setenv(f"{name}_BASE_URL", url + path)
        monkeypatch.setenv(f"{name}_API_KEY", "operator-key")


Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return a function that serves the endpoints before a server of all vendors' wires, and yields their URL."""

    @contextmanager
    def start(upstream: Simulator | FaultServer, target: Any = None, **options: Any) -> Generator[str]:
        point_at(upstream.url, monkeypatch)
        given: dict[str, Any] = {"allow_models": ALLOWED, "prompts_dir": ROOT / "prompts", **options}
        with serving(create_app(target, **given)) as url:
            yield url

    return start
