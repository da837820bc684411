"""Test a service without a network: one recording, played in each possible way.

Copied into another project, this needs `streamcore-llm[testing]`, and the service's own dependencies.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import respx

from streamcore.testing import Recording, Simulator, UnrecordedRequest

from .app import app

GREETING = "Good morning, Ada! How lovely to see you 🌞."
FILE = Path(__file__).with_name("recordings") / "greet.yaml"

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service use OpenAI in every environment; a key that is set is kept, for `pytest --record`."""
    monkeypatch.setenv("STREAMCORE_PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_MODEL", "gpt-5.4-mini")


async def ask(name: str = "Ada") -> httpx2.Response:
    """Ask the service as a client would."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://service") as client:
        return await client.get("/greet", params={"name": name})


@pytest.mark.recording("recordings/greet.yaml")
async def test_by_the_marker() -> None:
    """The shortest way; it also makes the recording: `pytest --record`."""
    assert (await ask()).text == GREETING


async def test_by_respx(httpx2_mock: respx.Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")
    (route,) = Recording.load(FILE).mock(httpx2_mock)
    assert (await ask()).text == GREETING
    assert "Greet Ada." in route.calls.last.request.content.decode()


async def test_by_the_provider_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_PROVIDER", "replay")
    monkeypatch.setenv("STREAMCORE_REPLAY", str(FILE))
    assert (await ask()).text == GREETING


async def test_by_the_simulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")
    with Simulator(recordings=[FILE], rate="recorded") as simulator:
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        assert (await ask()).text == GREETING
    assert len(simulator.requests) == 1


async def test_a_connection_that_breaks(httpx2_mock: respx.Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording can be changed: here the connection breaks in the middle."""
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")
    (whole,) = Recording.load(FILE).exchanges
    Recording((replace(whole, reads=whole.reads[:5], end="broken"),)).mock(httpx2_mock)
    assert (await ask()).text == "Good morning,\n[the answer broke off: StreamInterrupted]"


async def test_a_vendor_that_says_no(httpx2_mock: respx.Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-needed")
    (whole,) = Recording.load(FILE).exchanges
    Recording((replace(whole, status=401, reads=()),)).mock(httpx2_mock)
    response = await ask()
    assert (response.status_code, response.json()) == (
        502,
        {"detail": "the model gave no answer (AuthenticationError)"},
    )


async def test_a_question_that_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_PROVIDER", "replay")
    monkeypatch.setenv("STREAMCORE_REPLAY", str(FILE))
    with pytest.raises(UnrecordedRequest, match=r"content is 'Greet Bob\.', recorded is 'Greet Ada\.'"):
        await ask("Bob")
