"""Test the agent without a network: recordings answer for the model, and the tools really run."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import ToolCall
from streamcore.tools import Deny

from .agent import ask

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use OpenAI, and a folder of notes of its own; a key that is set is kept, for `pytest --record`."""
    monkeypatch.setenv("STREAMCORE_PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_MODEL", "gpt-5.4-mini")
    monkeypatch.setenv("NOTES", str(tmp_path))
    (tmp_path / "lisbon.md").write_text("Tram 28 is full from ten o'clock.\n", "utf-8")
    return tmp_path


@pytest.mark.recording("recordings/search.yaml")
async def test_it_searches_before_it_answers() -> None:
    """One run of two steps: the recording has both exchanges."""
    answer = await ask("When should I take tram 28?").collect()
    assert answer.text == "Take it before ten."
    (result,) = answer.steps[0].tool_results
    assert (result.name, "Tram 28 is full" in result.content) == ("search_notes", True)


@pytest.mark.recording("recordings/save.yaml")
async def test_it_saves_what_was_approved(notes: Path) -> None:
    """A person agrees, and the note is there."""

    def agree(call: ToolCall) -> bool:
        return call.name == "save_note"

    answer = await ask("Keep this: the market of Porto closes on Sunday.", agree).collect()
    assert answer.text == "I have saved it."
    assert (notes / "porto.md").read_text("utf-8") == "The market closes on Sunday.\n"


@pytest.mark.recording("recordings/denied.yaml")
async def test_it_saves_nothing_that_was_denied(notes: Path) -> None:
    """The model gets the reason."""
    answer = await ask("Keep this: the market of Porto closes on Sunday.", lambda _call: Deny("no space")).collect()
    assert answer.text == "I have not saved it."
    assert not (notes / "porto.md").exists()


async def test_nothing_is_saved_before_a_person_was_asked(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an `approve=` function, the run ends with the call that waits."""
    monkeypatch.setenv("STREAMCORE_PROVIDER", "replay")
    monkeypatch.setenv("STREAMCORE_REPLAY", str(Path(__file__).with_name("recordings") / "save.yaml"))
    answer = await ask("Keep this: the market of Porto closes on Sunday.").collect()
    assert [call.name for call in answer.pending] == ["save_note"]
    assert not (notes / "porto.md").exists()
