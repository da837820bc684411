"""Run the snippets of docs/testing.md: first against the simulator in a vendor's place, then by what that recorded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from streamcore import stream_request
from streamcore.testing import Answer, Recording, Simulator
from tests.snippets import blocks, run
from tests.support import ask

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:asyncio\n"


def snippets() -> list[str]:
    return list(blocks(PAGE, "python"))


def _is_about_recordings(code: str) -> bool:
    """Leave the page's tests, and the sections that `test_conformance.py` runs, to others."""
    return not any(word in code for word in ("def test_", "ProviderSuite", "FaultServer", "ScriptedProvider"))


def test_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page goes on with what its first snippets made."""
    monkeypatch.chdir(tmp_path)
    with Simulator(Answer(["Good morning, ", "Ada."])) as simulator:
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        monkeypatch.setenv("OPENAI_API_KEY", "docs-key-of-nobody")
        names = [asyncio.run(run(code)) for code in snippets() if _is_about_recordings(code)]
    assert len(names) == 4
    assert {found["answer"].text for found in names[:3]} == {"Good morning, Ada."}
    whole = names[3]["whole"]
    assert names[3]["in_threes"].exchanges[0].body == whole.body == names[3]["slow"].exchanges[0].body
    assert names[3]["cut"].exchanges[0].body == whole.reads[0].data


def test_the_script_of_the_page() -> None:
    (code,) = [code for code in snippets() if "ScriptedProvider" in code and "def test_" not in code]

    async def play() -> str:
        names = await run(code)
        names["gate"].set()
        return (await stream_request(ask(), provider=names["provider"]).collect()).text

    assert asyncio.run(play()) == "Hello World"


def test_tests(pytester: pytest.Pytester) -> None:
    """The page's tests play the page's recording."""
    (pytester.mkdir("prompts") / "greet.yaml").write_text("user: Greet {name}.", "utf-8")
    (pytester.mkdir("recordings") / "greet.yaml").write_text(next(blocks(PAGE, "yaml")), "utf-8")
    (pytester.path / "pytest.ini").write_text(INI, "utf-8")
    tests = [code for code in snippets() if "def test_" in code]
    for number, code in enumerate(tests):
        (pytester.path / f"test_snippet{number}.py").write_text(code, "utf-8")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2 * len(tests))  # on two backends


def test_the_recording_of_the_page_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "greet.yaml"
    path.write_text(next(blocks(PAGE, "yaml")), "utf-8")
    Recording.load(path).save(path)
    assert next(blocks(PAGE, "yaml")) in path.read_text("utf-8") + "\n"
