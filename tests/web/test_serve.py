"""Run `streamcore serve` in separate processes, as users do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from streamcore.testing import Answer, Simulator
from tests.serving import listen, messages_in
from tests.support import wait_until

ROOT = Path(__file__).resolve().parents[2]
GRACE = 5.0
"""Seconds after SIGTERM in which the command promises to have ended."""
SLOW = 60.0
"""What a busy machine may take on top."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "streamcore.cli", "serve", *arguments]


def environment(simulator: Simulator | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "PROVIDER"))}
    if simulator is not None:
        kept |= {"OPENAI_BASE_URL": simulator.base_url("openai"), "OPENAI_API_KEY": "serve-planted-key"}
    return kept


@contextmanager
def served(*arguments: str, simulator: Simulator | None = None) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Serve on a free port, and give the process and its address."""
    line = command(*arguments, "--port", "0")
    process = subprocess.Popen(line, cwd=ROOT, env=environment(simulator), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        told_line = process.stderr.readline()
        found = re.search(r"(http://\S+)/  ", told_line)
        assert found, told_line + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def refused(*arguments: str) -> str:
    """Run a command that fails before it serves, and return what it says."""
    done = subprocess.run(
        command(*arguments), cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_example_of_the_readme_works_offline() -> None:
    with served("graphs/interview.yaml", "--provider", "demo") as (process, url):
        assert httpx2.get(f"{url}/about").json()["name"] == "interview"
        asked = listen(url, "/stream/s?format=json")
        assert asked[1].json["message"] == "What is your name?"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, -signal.SIGINT, 130)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.long
def test_a_prompt_by_name_or_by_file() -> None:
    for target in ("greet", "prompts/greet.yaml"):
        with served(target, "--provider", "demo", "--input", "name", "--var", "style=stiff") as (_, url):
            assert "Greet Ada in a stiff style" in "".join(one.data for one in listen(url, "/stream?prompt=Ada"))


def test_sigterm_ends_open_streams_with_a_last_event() -> None:
    with (
        Simulator(Answer(["w "] * 2000), rate=2) as simulator,
        served("chat", "--provider", "openai", "--model", "m", simulator=simulator) as (process, url),
    ):
        bodies: list[bytes] = []

        def read(number: int) -> None:
            bodies.append(httpx2.get(f"{url}/stream/s{number}?prompt=x&format=json", timeout=150).content)

        readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(50)]
        for reader in readers:
            reader.start()
        wait_until(lambda: simulator.open == 50, "every model was asked")
        process.send_signal(signal.SIGTERM)
        process.wait(GRACE + SLOW)
        for reader in readers:
            reader.join(60)
        assert len(bodies) == 50
        for body in bodies:
            *_, trouble, done = messages_in(body)
            assert "server is being stopped" in trouble.json["message"]
            assert (done.name, done.json["complete"]) == ("done", False)
        wait_until(lambda: simulator.open == 0, "every upstream was closed")


@pytest.mark.long
def test_invalid_settings_are_reported_before_it_serves() -> None:
    assert "there is no prompt 'greeet'" in refused("greeet", "--provider", "demo")
    assert "nowhere.yaml" in refused("nowhere.yaml")
    assert "--var takes KEY=VALUE" in refused("greet", "--var", "x")
    assert "no provider for prompt 'chat'; give provider= or --provider" in refused("chat")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "choose another with --port" in refused("chat", "--provider", "demo", "--port", port)


def test_a_missing_key_is_a_warning_though_the_sdk_may_find_another() -> None:
    with served("chat", "--provider", "openai") as (process, url):
        assert process.stderr is not None
        assert process.stderr.readline().startswith("warning: OPENAI_API_KEY is not set")
        answer = httpx2.get(f"{url}/stream?prompt=x&format=json").text
        assert '"type":"MissingAPIKey"' in answer
        assert "OPENAI_API_KEY" not in answer  # the log has the text of an error, never the browser


def test_it_names_packages_that_are_not_installed() -> None:
    code = (
        "import importlib.util as u, sys; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'uvicorn' else find(name, *a)\n"
        "sys.argv = ['streamcore', 'serve', 'chat']\n"
        "from streamcore.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 2
    assert "serve needs the package 'uvicorn', which is not installed; run: pip install -e" in done.stderr


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example"])
def test_on_loopback_no_other_name_reaches_it(host: str) -> None:
    with served("chat", "--provider", "demo") as (_, url):
        assert httpx2.get(f"{url}/about", headers={"Host": host}).status_code == 400
        assert httpx2.get(url.replace("127.0.0.1", "localhost") + "/about").status_code == 200
