"""Run graphs from the command line: piped, in a terminal, in processes that end while a question waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from tests.commands import Terminal
from tests.graphs import answers, write_graph
from tests.support import KEY, wait_until
from tests.warm_process import PATH, warm_process

INTERVIEW = """
    name: interview
    nodes:
      ask_name: {type: interrupt, prompt: ask, state_key: question, resume_key: name}
      ask_topic: {type: interrupt, message: "What about, {state.name}?", state_key: second, resume_key: topic}
      keep: {type: passthrough, output: {both: "{state.name} / {state.topic}"}}
      greet: {prompt: greet}
    edges:
      - {from: START, to: ask_name}
      - {from: ask_name, to: ask_topic}
      - {from: ask_topic, to: keep}
      - {from: keep, to: greet}
      - {from: greet, to: END}
"""
PROMPTS = {"ask": "Ask", "greet": "Greet {name} about {topic}"}
SAID = {"Ask": "Who are you?", "Greet Ada about tea": "Hello Ada, tea it is."}
TWO = """
    name: two
    nodes:
      first: {prompt: first}
      second: {prompt: second}
    edges:
      - {from: START, to: first}
      - {from: first, to: second}
      - {from: second, to: END}
"""
BOTH = """
    name: both
    nodes:
      left: {prompt: left}
      right: {prompt: right}
      end: {type: passthrough, output: {done: "{True}"}}
    edges:
      - {from: START, to: [left, right]}
      - {from: left, to: end}
      - {from: right, to: end}
      - {from: end, to: END}
"""


@pytest.fixture
def vendor(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Simulator:
    """Set the simulator as `openai` for this process and its children; change to the graph's folder."""
    monkeypatch.setenv("STREAMCORE_PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.chdir(tmp_path)
    return simulator


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "streamcore.cli", "run", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm_process().run(
        "streamcore.cli", ["run", *arguments], env={**os.environ, "PYTHONPATH": PATH}, cwd=Path.cwd()
    )


def test_a_graphs_text_is_written_to_stdout_and_the_rest_to_stderr(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, TWO, first="About {topic} and {n}", second="{first}!")
    answers(
        vendor, lambda asked: {"About tea and 1, 2": "One two.", "One two.!": "Three.\n"}.get(asked.text, asked.text)
    )
    (tmp_path / "state.yaml").write_text("n: [1, 2]", "utf-8")
    done = run(str(path), "--var", "topic=tea", "--vars-file", "state.yaml")
    assert (done.returncode, done.stdout) == (0, "One two.\nThree.\n"), done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == ["[first]", "[second]"]
    assert lines[2].startswith("done: 2 nodes in ")
    assert lines[2].endswith(" s, 24 tokens in, 6 out")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.long
def test_questions_are_answered_by_other_processes(tmp_path: Path, vendor: Simulator) -> None:
    """Each process ends with code 3 and says what to run; no question is asked of the model twice."""
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    first = run(str(path), "--thread", "my thread", "--model", "m")
    assert (first.returncode, first.stdout) == (3, "Who are you?\n"), first.stderr
    again = run(str(path), "--thread", "my thread")
    assert (again.returncode, again.stdout) == (3, "Who are you?\n")
    hint = first.stderr.splitlines()[-1].strip()
    assert hint == f"streamcore run {path} --thread 'my thread' --model m --resume VALUE"
    second = run(str(path), "--thread", "my thread", "--resume", "Ada")
    assert (second.returncode, second.stdout) == (3, "What about, Ada?\n"), second.stderr
    last = run(str(path), "--thread", "my thread", "--resume", "tea")
    assert (last.returncode, last.stdout) == (0, "Hello Ada, tea it is.\n"), last.stderr
    assert "keep: both = Ada / tea" in last.stderr
    assert len(vendor.requests) == 2
    over = run(str(path), "--thread", "my thread", "--resume", "more")
    assert (over.returncode, over.stdout) == (2, "")
    assert "no interrupt waits for an answer" in over.stderr


def test_a_question_without_a_thread_says_what_is_missing(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    done = run(str(path))
    assert done.returncode == 3
    assert "run it with --thread NAME" in done.stderr
    assert not (tmp_path / "streamcore-threads.db").exists()


def test_json_is_a_line_for_each_event(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    done = run(str(path), "--thread", "t", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert [event["type"] for event in events if event["type"] != "token"] == ["node_start", "interrupt"]
    assert "".join(event["content"] for event in events if event["type"] == "token") == "Who are you?"
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    rest = run(str(path), "--thread", "t", "--json", "--resume", "Ada")
    assert json.loads(rest.stdout.splitlines()[-1])["message"] == "What about, Ada?"
    end = run(str(path), "--thread", "t", "--json", "--resume", "tea")
    assert json.loads(end.stdout.splitlines()[-1])["state"]["greet"] == "Hello Ada, tea it is."


def test_parallel_nodes_do_not_mix_their_text(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, BOTH, left="left", right="right")
    answers(vendor, {"left": "left " * 30, "right": "right " * 30})
    vendor.rate = 300
    done = run(str(path))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["left " * 30, "right " * 30]
    assert sorted(done.stderr.splitlines()[:2]) == ["[left]", "[right]"]


def test_one_node(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, TWO, first="first", second="{first}!")
    answers(vendor, {"Hi!": "It alone."})
    done = run(str(path), "--node", "second", "--var", "first=Hi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "It alone.\n", "")
    as_json = run(str(path), "--node", "second", "--var", "first=Hi", "--json")
    assert json.loads(as_json.stdout.splitlines()[0]) == {"type": "token", "node": "second", "content": "It"}
    wrong = run(str(path), "--node", "secnd")
    assert (wrong.returncode, "did you mean 'second'?" in wrong.stderr) == (2, True)


@pytest.mark.long
def test_the_text_of_an_interrupted_node_is_saved_and_reported(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, TWO, first="first", second="second")
    vendor.decide = lambda asked: Answer.of("word " * 10, cut=3 if asked.text == "second" else None)
    done = run(str(path), "--thread", "t")
    assert done.returncode == 1
    assert done.stdout == "word " * 10 + "\n" + "word word word"
    assert "NodeError: node 'second' of graph 'two' failed: StreamInterrupted: " in done.stderr
    assert "(14 characters of text arrived before it)" in done.stderr
    assert "thread 't' is saved" in done.stderr
    assert "Traceback" not in done.stderr
    vendor.decide = lambda asked: Answer.of("whole")
    again = run(str(path), "--thread", "t")
    assert (again.returncode, again.stdout) == (0, "whole\n")
    assert "second: was interrupted in an earlier run, after 'word word word'" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope.yaml"], "nope.yaml"),
        (["graph.yaml", "--var", "x"], "--var takes KEY=VALUE"),
        (["graph.yaml", "--resume", "x"], "give --thread NAME"),
        (["graph.yaml", "-p", "antropic"], "did you mean 'anthropic'?"),
        (["broken.yaml", "--thread", "t"], "did you mean 'sqlite'?"),
    ],
)
def test_invalid_input_exits_with_code_2(tmp_path: Path, vendor: Simulator, arguments: list[str], says: str) -> None:
    path = write_graph(tmp_path, TWO, first="first", second="second")
    broken = path.read_text("utf-8") + "checkpointer: {type: sqlte, path: x.db}\n"
    (tmp_path / "broken.yaml").write_text(broken, "utf-8")
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_the_thread(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, TWO, first="first", second="second")
    vendor.decide = lambda asked: Answer.of("word " * (2000 if asked.text == "second" else 2))
    vendor.rate = 100
    process = subprocess.Popen(
        command(str(path), "--thread", "t"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "word word \n"
    assert process.stdout.read(5) == "word "
    process.send_signal(signal.SIGINT)
    _, printed_lines = process.communicate(timeout=250)
    assert process.returncode == 130
    assert "interrupted: the connections are closed; thread 't' is saved" in printed_lines
    assert "Traceback" not in printed_lines
    wait_until(lambda: vendor.open == 0, "the answer was given up")

    def whole(asked: Asked) -> Answer:
        return Answer.of("whole")

    vendor.decide, vendor.rate = whole, None
    again = run(str(path), "--thread", "t")
    assert (again.returncode, again.stdout) == (0, "whole\n")


def test_output_that_is_closed(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, TWO, first="first", second="second")
    answers(vendor, lambda asked: "word " * 20_000)
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command(str(path)), stdout=full, stderr=subprocess.PIPE, text=True, timeout=250)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    process = subprocess.Popen(command(str(path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.read(4) == "word"
    process.stdout.close()
    assert process.stderr is not None
    printed_lines = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert printed_lines == "[first]\n"
    wait_until(lambda: vendor.open == 0, "the answer was given up")


def in_terminal(*arguments: str) -> Terminal:
    return Terminal(command(*arguments), os.environ, cwd=Path.cwd())


def test_questions_are_asked_in_a_terminal(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    with in_terminal(str(path)) as screen:
        screen.read_until(lambda shown: b"Who are you?" in shown and b"> " in shown)
        screen.keys("Ada\n")
        screen.read_until(lambda shown: b"What about, Ada?" in shown and b"topic)\r\n> " in shown)
        screen.keys("tea\n")
        assert screen.finish() == 0, screen.shown
    assert b"Hello Ada, tea it is.\r\n" in screen.shown
    assert screen.shown.count(b"Who are you?") == 1
    assert b"done: 4 nodes in " in screen.shown
    assert len(vendor.requests) == 2


@pytest.mark.parametrize(("key", "code"), [("\x04", 3), ("\x03", 130)], ids=["ctrl-d", "ctrl-c"])
def test_a_question_can_be_left(tmp_path: Path, vendor: Simulator, key: str, code: int) -> None:
    """The thread waits, and another process answers."""
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    answers(vendor, SAID)
    with in_terminal(str(path), "--thread", "t") as screen:
        screen.read_until(lambda shown: b"> " in shown)
        screen.wait_for_rest()
        screen.keys(key)
        assert screen.finish() == code, screen.shown
    assert b"Traceback" not in screen.shown
    assert run(str(path), "--thread", "t", "--resume", "Ada").stdout == "What about, Ada?\n"
    assert len(vendor.requests) == 1


def test_the_figures_are_those_of_all_answers(
    tmp_path: Path, vendor: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer that is an interrupt's question counts, too; a price makes its cost known."""
    path = write_graph(tmp_path, INTERVIEW, **PROMPTS)
    prices = tmp_path / "prices.yaml"
    prices.write_text('"*": {input: 1, output: 1}\n', "utf-8")
    answers(vendor, lambda asked: "Who are you?")
    monkeypatch.setenv("STREAMCORE_PRICES", str(prices))
    done = run(str(path), "--json", "--stats", "--log-json")
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert logged, done.stderr
    assert all(one["event"] == "answer" and one["outcome"] == "finished" for one in logged)
    assert logged[0]["cost"]
    assert logged[0]["target"].startswith("interview/")
