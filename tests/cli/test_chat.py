"""Use `streamcore chat`, and the tools of `streamcore prompt`, through a pipe and in a pseudo-terminal."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from streamcore import Message
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from tests.commands import COMMAND, Terminal, environment, streamcore

FUNCTIONS = '''
from streamcore.tools import tool

def weather(city: str):
    """Tell the weather."""
    yield {"percent": 50}
    yield f"sun in {city}"

@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with two prompts whose tools run."""
    (tmp_path / "prompts").mkdir()
    for name in ("weather", "delete"):
        prompt = f'user: "{{message}}"\nprovider: demo\ntools: [{{python: "functions.py:{name}"}}]\n'
        (tmp_path / "prompts" / f"{name}.yaml").write_text(prompt, "utf-8")
    (tmp_path / "prompts" / "functions.py").write_text(FUNCTIONS, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(*words: str) -> Callable[[bytes], bool]:
    """Return the condition that the output has these words in this order; escape sequences are ignored."""
    pattern = re.compile(".*".join(map(re.escape, words)), re.DOTALL)
    return lambda shown: pattern.search(plain(shown)) is not None


def plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode("utf-8", "replace")).replace("\r\n", "\n")


def run(*words: str, stdin: str | None = None, simulator: Simulator | None = None) -> subprocess.CompletedProcess[str]:
    return streamcore(*words, stdin=stdin, simulator=simulator, cwd=Path.cwd())


def ticking(asked: Asked) -> Answer:
    return Answer(["tick "] * 2000) if asked.text == "count" else Answer.of("Go on.")


def terminal(folder: Path, *words: str, simulator: Simulator | None = None) -> Terminal:
    return Terminal([*COMMAND, *words], environment(simulator), cwd=folder)


# streamcore prompt


def without_seconds(text: str) -> str:
    """Return a text without how long calls took, which is shown from 0.1 s on: a busy machine may need that."""
    return re.sub(r" \(\d+\.\d s\)$", "", text, flags=re.MULTILINE)


def test_calls_progress_and_results_go_to_stderr() -> None:
    done = run("prompt", "weather", "--var", "message=Hi")
    assert done.stdout == "The tool says: sun in a city\n"
    assert without_seconds(done.stderr).splitlines() == [
        'calls weather {"city": "a city"}',
        'weather: {"percent": 50}',
        "weather returned sun in a city",
    ]


def test_json_has_every_kind() -> None:
    done = run("prompt", "weather", "--var", "message=Hi", "--json")
    chunks = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [chunk["kind"] for chunk in chunks]
    assert kinds[0] == "step"
    assert kinds.count("step") == 2
    assert [chunk["data"] for chunk in chunks if chunk["kind"] == "tool_progress"] == [{"progress": {"percent": 50}}]
    (result,) = [chunk["tool_result"] for chunk in chunks if chunk["kind"] == "tool_result"]
    assert (result["name"], result["content"]) == ("weather", "sun in a city")
    assert done.stderr == ""


def test_approval_without_a_terminal_is_an_error_that_says_what_to_do() -> None:
    done = run("prompt", "delete", "--var", "message=Hi")
    assert done.returncode == 2
    assert (
        "needs approval, and there is no terminal to ask at; run the command in a terminal, or give --yes"
        in done.stderr
    )
    assert run("prompt", "delete", "--var", "message=Hi", "--yes").stdout == "The tool says: deleted a path\n"


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("y\n", "The tool says: deleted a path"),
        ("n\nnot this one\n", "The tool says: This call was denied: not this one"),
        ("n\n\n", "The tool says: This call was denied"),
        ("n too risky\n", "The tool says: This call was denied: too risky"),
        ('what?\ne\n{"path"\ne\n{"path": "b"}\n', "The tool says: deleted b"),
        ("\x04", "The tool says: This call was denied"),
    ],
)
def test_approval_at_the_terminal(folder: Path, keys: str, shown: str) -> None:
    with terminal(folder, "prompt", "delete", "--var", "message=Hi") as command:
        command.read_until(says('delete {"path": "a path"}', "[y]es, [n]o, [e]dit:"))
        command.keys(keys if keys != "\x04" else "\x04\x04")
        assert command.finish() == 0
        assert shown in plain(command.shown)


def test_calls_are_dim_on_a_terminal(folder: Path) -> None:
    with terminal(folder, "prompt", "weather", "--var", "message=Hi") as command:
        assert command.finish() == 0
        assert b'\x1b[2mcalls weather {"city": "a city"}\x1b[0m' in command.shown


def test_ctrl_c_while_the_approval_is_asked_for(folder: Path) -> None:
    with terminal(folder, "prompt", "delete", "--var", "message=Hi") as command:
        command.read_until(says("[e]dit:"))
        command.wait_for_rest()
        command.keys("\x03")
        assert command.finish() == 130
        assert "Traceback" not in plain(command.shown)


# streamcore chat


def test_messages_from_a_pipe(folder: Path) -> None:
    with Simulator(lambda asked: Answer.of("First." if asked.text == "one" else "Second.")) as simulator:
        done = run("chat", "-p", "openai", "-s", "Be brief.", stdin="one\n\ntwo\n", simulator=simulator)
        assert (done.returncode, done.stdout) == (0, "First.\nSecond.\n")
        sent = simulator.requests[1].body["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "First."),
        ("user", "two"),
    ]


def test_a_conversation_with_tools_in_a_terminal(folder: Path) -> None:
    with terminal(folder, "chat", "delete") as command:
        command.read_until(says("/help lists the commands", "> "))
        command.keys("Please do\n")
        command.read_until(says("[e]dit:"))
        command.keys("y\n")
        command.read_until(
            says("calls delete", "delete returned deleted a path", "The tool says: deleted a path\n", "> ")
        )
        command.keys("/history\n")
        command.read_until(
            says("**user**: Please do", "**calls** delete", "**tool**: deleted", "**assistant**: The tool")
        )
        command.keys("/quit\n")
        assert command.finish() == 0


def test_commands(folder: Path) -> None:
    lines = ["/help", "/model", "/model demo/other", "hello", "/save talk.md", "/save talk.jsonl", "/save", "/nope"]
    with terminal(folder, "chat", "-p", "demo") as command:
        for line, expected in zip(
            [*lines, "/clear", "/history", "/quit"],
            [
                "Ctrl-C stops an answer",
                "model: demo\n",
                "model: demo/other\n",
                "with nothing lost.\n",
                "wrote talk.md",
                "wrote talk.jsonl",
                "/save needs the name of a file",
                "there is no command /nope; /help lists them",
                "a new conversation begins",
                "nothing was said yet",
                "",
            ],
            strict=True,
        ):
            before = len(command.shown)
            command.keys(f"{line}\n")
            if expected:
                command.read_until(lambda shown: says(expected, "> ")(shown[before:]))  # noqa: B023
        assert command.finish() == 0
    assert (folder / "talk.md").read_text("utf-8").startswith("**user**: hello\n\n**assistant**: Hello!")
    saved = (folder / "talk.jsonl").read_text("utf-8").splitlines()
    assert [Message.from_json(line).role for line in saved] == ["user", "assistant"]


def test_ctrl_c_stops_the_answer_and_the_conversation_continues(folder: Path) -> None:
    with Simulator(ticking, rate=50) as simulator:
        with terminal(folder, "chat", "-p", "openai", simulator=simulator) as command:
            command.read_until(says("> "))
            command.keys("count\n")
            command.read_until(lambda shown: shown.count(b"tick") >= 3)
            command.keys("\x03")
            command.read_until(says("(stopped; ", "characters arrived)", "> "))
            command.keys("and now\n")
            command.read_until(says("Go on.", "> "))
            command.wait_for_rest()
            command.keys("\x03")
            command.read_until(says("(Ctrl-C again, or /quit, ends the conversation)"))
            command.wait_for_rest()
            command.keys("\x03")
            assert command.finish() == 130
            assert "Traceback" not in plain(command.shown)
        sent = simulator.requests[1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"].startswith("tick tick tick ")


def test_an_error_does_not_end_the_conversation(folder: Path) -> None:
    (folder / "prompts" / "functions.py").write_text("1 / 0\n", "utf-8")
    with terminal(folder, "chat", "weather") as command:
        command.read_until(says("> "))
        command.keys("one\n")
        command.read_until(says("PromptError: prompts/weather.yaml:3: ", "ZeroDivisionError", "> "))
        command.keys("\x04")
        assert command.finish() == 0
    done = run("chat", "weather", stdin="one\n")
    assert (done.returncode, "PromptError: prompts/weather.yaml:3: " in done.stderr) == (2, True)


def test_a_thread_is_continued(folder: Path) -> None:
    for number, text in enumerate(["one", "two"]):
        with Simulator(Answer.of(f"Answer {number}.")) as simulator:
            arguments = ("chat", "-p", "openai", "--thread", "ada")
            done = run(*arguments, stdin=f"{text}\n", simulator=simulator)
            assert done.stdout == f"Answer {number}.\n"
            sent = simulator.requests[0].body["messages"]
            assert len(sent) == 1 + 2 * number


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["weather", "-s", "x"], "--system is for a conversation without a prompt file"),
        (["none"], "there is no prompt 'none'"),
        ([], "no provider"),
        (["weather", "-p", "nobody"], "nobody"),
    ],
)
def test_bad_input(arguments: list[str], said: str) -> None:
    done = run("chat", *arguments, stdin="hi\n")
    assert done.returncode == 2
    assert said in done.stderr


# streamcore run


def test_run_shows_the_tools_of_an_agent(folder: Path) -> None:
    (folder / "prompts" / "ask.yaml").write_text('user: "{message}"\n', "utf-8")
    (folder / "functions.py").write_text("def weather(city: str) -> str:\n    return 'sun in ' + city\n", "utf-8")
    (folder / "g.yaml").write_text(
        "tools: {weather: {type: python, path: functions.py, function: weather}}\n"
        "nodes: {agent: {type: agent, prompt: ask, tools: [weather], variables: {message: Hi}}}\n"
        "edges: [{from: START, to: agent}, {from: agent, to: END}]\n",
        "utf-8",
    )
    done = run("run", "g.yaml", "-p", "demo")
    assert done.stdout == "The tool says: sun in a city\n"
    lines = without_seconds(done.stderr).splitlines()
    assert '[agent] calls weather {"city": "a city"}' in lines
    assert "[agent] weather returned sun in a city" in lines


def test_stats_follow_each_answer_and_the_conversation() -> None:
    with Simulator(Answer(["word "] * 5)) as simulator:
        chat = ("chat", "--provider", "openai", "--model", "gpt-4o-mini", "--stats")
        done = run(*chat, stdin="Hi\nAgain\n", simulator=simulator)
    figures = [line for line in done.stderr.splitlines() if line.startswith("openai gpt-4o-mini")]
    assert len(figures) == 2, done.stderr
    for line in figures:
        assert re.search(r" · first token after \d+ ms · .*tokens in, 5 out · 0\.0\d+ USD · ended with stop$", line)
    assert re.search(r"\nin all: 2 answers, \d+ tokens in, 10 out, 0\.0\d+ USD\n", done.stderr)
