"""Control characters of a model's text do not reach a terminal unless the user asks for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamcore.cli.output import printable
from streamcore.testing import Answer, Simulator
from tests.commands import COMMAND, Terminal, environment, streamcore

TEXT = "a\x1b[2Jb\x07\tc\r\nd\x9b31m é"


def test_a_terminal_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printable(TEXT) == "a\\x1b[2Jb\\x07\tc\\x0d\nd\\x9b31m é"


def test_raw_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printable(TEXT, raw=True) == TEXT


def test_files_and_pipes_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert printable(TEXT) == TEXT


ANSWER = "red \x1b[31m, bell \x07, title \x9d0;x\x9c"
GRAPH = """
name: say
state: {message: str}
nodes: {say: {type: llm, prompt: say, state_key: said}}
edges: [{from: START, to: say}, {from: say, to: END}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a prompt, a graph and a recording whose answers have control characters."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "say.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "say.graph.yaml").write_text(GRAPH, "utf-8")
    return tmp_path


@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize(
    "arguments",
    [
        ("prompt", "say", "--var", "message=x"),
        ("run", "say.graph.yaml", "--var", "message=x"),
        ("run", "say.graph.yaml", "--node", "say", "--var", "message=x"),
        ("replay", "recording.yaml", "--pace", "0"),
    ],
    ids=["prompt", "run", "run --node", "replay"],
)
def test_every_command_shows_them_on_a_terminal_and_sends_them_with_raw(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    with Simulator(Answer.of(ANSWER)) as simulator:
        model = ("-m", "openai/m")
        recorded = ("record", "say", "--var", "message=x", *model, "--output", "recording.yaml")
        if arguments[0] == "replay":
            made = streamcore(*recorded, simulator=simulator, cwd=folder)
            assert made.returncode == 0, made.stderr
        else:
            arguments = (*arguments, *model)
        shown: list[bytes] = []
        for more in ((), ("--raw",)):
            command = [*COMMAND, *arguments, *more]
            with Terminal(command, environment(simulator), cwd=folder, columns=200) as terminal:
                assert terminal.finish() == 0, terminal.shown
                shown.append(terminal.shown)
    assert b"red \\x1b[31m, bell \\x07, title \\x9d0;x\\x9c" in shown[0]
    assert ANSWER.encode() in shown[1]
