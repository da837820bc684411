"""Test that the examples of docs/testing.md do what the page states."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.testing import Answer, Recording, Simulator
from tests.snippets import blocks, run_script, save_files

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
INI = "[pytest]\nfilterwarnings = error\naddopts = -p no:asyncio\n"


def snippets() -> list[str]:
    return list(blocks(PAGE, "python"))


def recording_of_the_page() -> str:
    return next(code for code in blocks(PAGE, "yaml") if code.startswith("streamcore_recording"))


def test_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's examples play its recording, and their output is what the page shows."""
    save_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    played = [code for code in snippets() if '"replay"' in code or "Simulator(recordings" in code]
    for code in played:
        run_script(code)
    assert capsys.readouterr().out == "Good morning, Ada.\nGood morning, Ada. 1\n"
    names = run_script(next(code for code in snippets() if ".recut(" in code))
    whole = names["whole"]
    assert names["in_threes"].exchanges[0].body == whole.body == names["slow"].exchanges[0].body
    assert names["cut"].exchanges[0].body == whole.reads[0].data


def test_recording_is_played_as_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recordings").mkdir()
    monkeypatch.chdir(tmp_path)
    with Simulator(Answer(["Good morning, ", "Ada."])) as simulator:
        for name, value in simulator.environment.items():
            monkeypatch.setenv(name, value)
        run_script(next(code for code in snippets() if "record(" in code and "ReplayTransport(" in code))
    assert capsys.readouterr().out == "True\n"


def test_the_script_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    run_script(next(code for code in snippets() if "ScriptedProvider" in code and "def test_" not in code))
    assert capsys.readouterr().out == "Hel\nlo\n World\n"


@pytest.mark.long
def test_tests(pytester: pytest.Pytester) -> None:
    """The page's tests play the page's recording."""
    save_files(PAGE, pytester.path)
    for test in pytester.path.glob("test_*.py"):
        test.unlink()  # they get other names, and those of the conformance suite test a module that is not shown
    (pytester.path / "pytest.ini").write_text(INI, "utf-8")
    tests = [code for code in snippets() if "def test_" in code]
    for number, code in enumerate(tests):
        (pytester.path / f"test_snippet{number}.py").write_text(code, "utf-8")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2 * len(tests))  # on two backends


def test_the_recording_of_the_page_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "greet.yaml"
    path.write_text(recording_of_the_page(), "utf-8")
    Recording.load(path).save(path)
    assert recording_of_the_page() in path.read_text("utf-8") + "\n"
