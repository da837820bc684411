"""Record, replay, simulate and start a project from the command line, as a newcomer would."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.testing import Answer, Recording, Simulator
from tests.commands import COMMAND, KEY, PROMPT, PROVIDERS, environment, streamcore
from tests.support import first_short

RECORD = ["record", *PROMPT[1:]]


def texts(shown: str) -> str:
    return "".join(json.loads(line).get("text", "") for line in shown.splitlines())


@pytest.mark.long
@pytest.mark.parametrize("provider", first_short(PROVIDERS))
def test_a_recording_is_replayed(provider: str, tmp_path: Path) -> None:
    path = tmp_path / "greet.yaml"
    with Simulator("Hi,\n  World! ☀️") as simulator:
        done = streamcore(*RECORD, "-p", provider, "-o", str(path), simulator=simulator)
        chunks = streamcore(*PROMPT, "-p", provider, "--json", simulator=simulator).stdout
    assert (done.returncode, done.stdout) == (0, "Hi,\n  World! ☀️\n"), done.stderr
    assert re.search(r"recorded \d+ reads with 15 characters of text to ", done.stderr)
    assert KEY not in path.read_text("utf-8")
    for pace in ("500", "recorded"):
        again = streamcore("replay", str(path), "--pace", pace)
        assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
    assert streamcore("replay", str(path), "--json", "--pace", "0").stdout == chunks


@pytest.mark.long
def test_a_recorded_failure_fails_again(tmp_path: Path) -> None:
    path = tmp_path / "cut.yaml"
    with Simulator(Answer(["Hello", ", ", "World"], cut=2)) as simulator:
        done = streamcore(*RECORD, "-p", "anthropic", "-o", str(path), simulator=simulator)
    again = streamcore("replay", str(path))
    assert done.returncode == again.returncode == 1
    assert done.stdout == again.stdout == "Hello, "
    assert again.stderr.startswith("StreamInterrupted: ")


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "greet.yaml"
    path.write_text("mine", "utf-8")
    with Simulator("Hi") as simulator:
        done = streamcore(*RECORD, "-p", "openai", "-o", str(path), simulator=simulator)
        assert (done.returncode, path.read_text("utf-8"), len(simulator.requests)) == (2, "mine", 0)
        assert "--force" in done.stderr
        assert streamcore(*RECORD, "-p", "openai", "-o", str(path), "--force", simulator=simulator).returncode == 0
    assert Recording.load(path).exchanges


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        ([*RECORD, "-p", "demo", "-o", "x.yaml"], "uses no network"),
        ([*RECORD, "-o", "x.yaml"], "STREAMCORE_PROVIDER"),
        (["replay", "none.yaml"], "none.yaml"),
        (["replay", "none.yaml", "--pace", "fast"], "none.yaml"),
        (["simulate", "none.yaml"], "none.yaml"),
        (["simulate", "--fault", "stal"], "did you mean 'stall'?"),
        (["simulate", "--fault", "unknown-host"], "is a fault of the address"),
        (["simulate", "--rate", "0"], "--rate takes"),
        (["simulate", "--rate", "quick"], "--rate takes"),
    ],
)
def test_bad_input(arguments: list[str], reported: str) -> None:
    done = streamcore(*arguments)
    assert done.returncode == 2
    assert reported in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@contextmanager
def simulating(*arguments: str) -> Generator[tuple[dict[str, Any], list[str]]]:
    """Run the simulator; yield the variables that it prints, and a list that gets its last lines."""
    process = subprocess.Popen(
        [*COMMAND, "simulate", "--json", *arguments], stdout=subprocess.PIPE, text=True, env=environment()
    )
    reported: list[str] = []
    try:
        assert process.stdout is not None
        message: dict[str, Any] = json.loads(process.stdout.readline())
        yield {**message["environment"], "url": message["url"]}, reported
        process.send_signal(signal.SIGINT)
        reported += process.stdout
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.mark.long
def test_simulate_serves_all_wires_and_reports_its_lag() -> None:
    with simulating("--text", "Hi, you!", "--rate", "200") as (settings, reported):
        for provider in PROVIDERS:
            done = streamcore(*PROMPT, "-p", provider, **settings)
            assert (done.returncode, done.stdout) == (0, "Hi, you!\n"), done.stderr
    figures = json.loads(reported[-1])
    assert (figures["served"], figures["open"], figures["most_open"]) == (4, 0, 1)
    assert figures["paced"] > 8
    assert 0 < figures["lag_p50"] <= figures["lag_p99"] <= figures["lag_max"]


@pytest.mark.long
def test_simulate_plays_recordings_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "greet.yaml"
    with Simulator("From the recording") as simulator:
        streamcore(*RECORD, "-p", "mistral", "-o", str(path), simulator=simulator)
    with simulating(str(path)) as (settings, _):
        assert streamcore(*PROMPT, "-p", "mistral", **settings).stdout == "From the recording\n"
        other = streamcore("prompt", "greet", "--var", "name=Eve", "-p", "mistral", **settings)
        assert other.returncode == 1
        assert "NotFoundError" in other.stderr
    with simulating("--fault", "reset-mid-stream") as (settings, _):
        done = streamcore(*PROMPT, "-p", "openai", **settings)
        assert done.returncode == 1
        assert done.stderr.startswith("StreamInterrupted: ")


def test_simulate_reports_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = streamcore("simulate", "--port", str(port))
    assert done.returncode == 2
    assert f"cannot listen on port {port}: " in done.stderr


def test_simulate_lists_its_faults() -> None:
    shown = streamcore("simulate", "--fault", "list").stdout
    assert re.search(r"^stall +\S", shown, re.MULTILINE)
    assert "unknown-host" not in shown


def test_the_page_says_what_to_set_and_no_key(simulator: Simulator) -> None:
    streamcore(*PROMPT, "-p", "openai", "-m", "<b>m-1</b>", simulator=simulator)
    page = httpx2.get(simulator.url + "/").text
    for name, value in simulator.environment.items():
        assert f"export {name}={value}" in page
    assert "/v1/chat/completions" in page
    assert "&lt;b&gt;m-1&lt;/b&gt;" in page
    assert "<b>m-1" not in page
    assert KEY not in page
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert httpx2.get(simulator.url + "/statistics").json()["served"] == 1
    assert httpx2.get(simulator.url + "/nothing").status_code == 404


def test_init_starts_a_project(tmp_path: Path) -> None:
    folder = tmp_path / "hello"
    done = streamcore("init", str(folder))
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    schemas = {f".streamcore/{kind}.schema.json" for kind in ("graph", "prompt", "recording")}
    assert names == {".env.example", "graph.yaml", "main.py", "prompts/greet.yaml", "prompts/shorten.yaml"} | schemas
    ran = subprocess.run(
        [sys.executable, "-W", "error", "main.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=250,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "World" in ran.stdout
    assert streamcore("prompt", "shorten", "--var", "text=x", "--var", "words=3", cwd=folder).returncode == 0


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("mine", "utf-8")
    done = streamcore("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "'main.py'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]
    assert (tmp_path / "main.py").read_text("utf-8") == "mine"


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    done = streamcore("init", str(tmp_path / "file" / "below"))
    assert done.returncode == 2
    assert "cannot write into" in done.stderr
