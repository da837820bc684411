"""Use the command as people and scripts do, in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamcore.testing import Answer, Simulator

ROOT = Path(__file__).resolve().parent.parent
PROMPT = ["prompt", "greet", "--var", "name=World"]
PROVIDERS = ["anthropic", "openai", "openai-responses", "mistral"]


def environment(simulator: Simulator | None = None) -> dict[str, str]:
    hidden = ("_API_KEY", "_BASE_URL", "_MODEL", "PROVIDER")
    found = {key: value for key, value in os.environ.items() if not key.endswith(hidden)}
    for name in ("anthropic", "openai", "mistral") if simulator else ():
        assert simulator is not None
        found[f"{name.upper()}_BASE_URL"] = simulator.base_url(name)
        found[f"{name.upper()}_API_KEY"] = "cli-planted-key"
    return found


def streamcore(
    *arguments: str, simulator: Simulator | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "streamcore.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env=environment(simulator),
        check=False,
    )


def until(condition: Any, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_demo_needs_no_key_and_no_network() -> None:
    done = streamcore(*PROMPT, "--provider", "demo")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Hello!")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("provider", PROVIDERS)
def test_prompt_through_the_sdk(provider: str) -> None:
    with Simulator("Hi,\n  World!") as simulator:
        done = streamcore(*PROMPT, "--provider", provider, "--model", "m-1", "--stats", simulator=simulator)
        assert simulator.requests[-1].body["model"] == "m-1"
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Hi,\n  World!\n"
    assert f"{provider} m-1" in done.stderr
    assert "first token after" in done.stderr
    assert "12 tokens in" in done.stderr


def test_json_lines() -> None:
    with Simulator("Hi, World!") as simulator:
        done = streamcore(*PROMPT, "--provider", "openai", "--json", simulator=simulator)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["kind"] for line in lines][:2] == ["start", "text"]
    assert "".join(line.get("text", "") for line in lines) == "Hi, World!"
    assert lines[-2]["finish_reason"] == "stop"
    assert lines[-1]["usage"]["input_tokens"] == 12


def test_failed_stream_keeps_text_and_exits_with_1() -> None:
    with Simulator(Answer(["Hello", ", ", "World"], cut=2)) as simulator:
        done = streamcore(*PROMPT, "--provider", "anthropic", simulator=simulator)
        as_json = streamcore(*PROMPT, "--provider", "anthropic", "--json", simulator=simulator)
    assert done.returncode == 1
    assert done.stdout == "Hello, "
    assert done.stderr.startswith("StreamInterrupted: ")
    assert "7 characters of text came before it" in done.stderr
    assert as_json.returncode == 1
    last = json.loads(as_json.stdout.splitlines()[-1])
    assert (last["kind"], last["type"], last["partial"]["text"]) == ("error", "StreamInterrupted", "Hello, ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prompt", "gret", "-p", "demo"], "did you mean 'greet'?"),
        (["prompt", "greet", "-p", "demo"], "'name'"),
        (["prompt", "greet", "--var", "name", "-p", "demo"], "--var takes KEY=VALUE"),
        ([*PROMPT, "-p", "antropic"], "did you mean 'anthropic'?"),
        ([*PROMPT, "-p", "mistral"], "MISTRAL_API_KEY"),
        ([*PROMPT], "STREAMCORE_PROVIDER"),
        (["prompt", "../greet", "-p", "demo"], "name of a prompt"),
    ],
)
def test_bad_input_exits_with_2_and_no_traceback(arguments: list[str], said: str) -> None:
    done = streamcore(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback() -> None:
    done = streamcore("prompt", "gret", "-p", "demo", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@contextmanager
def in_terminal(*arguments: str, simulator: Simulator) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streamcore.cli", *arguments],
        stdin=follower,
        stdout=follower,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(simulator),
        start_new_session=True,
    )
    os.close(follower)
    try:
        yield process, leader
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        os.close(leader)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_ctrl_c_closes_the_upstream_and_says_how_much_came(provider: str) -> None:
    with Simulator(Answer(["tick "] * 2000), rate=50) as simulator:
        with in_terminal(*PROMPT, "-p", provider, simulator=simulator) as (process, terminal):
            shown = b""
            while shown.count(b"tick") < 3:  # tokens are shown as they come, not at the end
                shown += os.read(terminal, 1024)
            assert simulator.open == 1
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, said = process.communicate(timeout=20)
            assert process.returncode == 130
            assert time.monotonic() - start < 5
        assert b"interrupted: the connection is closed; " in said
        assert b" characters of text had come" in said
        assert b"Traceback" not in said
        until(lambda: simulator.abandoned == 1 and simulator.open == 0)


def test_a_reader_that_goes_away_closes_the_upstream() -> None:
    with Simulator(Answer(["tick\n"] * 2000), rate=100) as simulator:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamcore.cli", *PROMPT, "-p", "openai"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(simulator),
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(timeout=20) == 1
        assert b"Traceback" not in said
        until(lambda: simulator.open == 0)


def test_providers_table_and_json() -> None:
    with Simulator() as simulator:
        rows = [json.loads(line) for line in streamcore("providers", "--json", simulator=simulator).stdout.splitlines()]
    by_name = {row["provider"]: row for row in rows}
    assert by_name["openai"] == {
        "provider": "openai",
        "installed": True,
        "key": True,
        "model": by_name["openai"]["model"],
        "todo": None,
    }
    assert by_name["groq"]["todo"] == "set GROQ_API_KEY"
    assert by_name["demo"]["key"] is None
    table = streamcore("providers")
    assert table.returncode == 0
    assert "set ANTHROPIC_API_KEY" in table.stdout
    assert "cli-planted-key" not in table.stdout
    assert "\x1b" not in table.stdout


def test_without_typer_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from streamcore.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "pip install typer" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches() -> None:
    done = streamcore("prompt", "--help")
    assert done.returncode == 0
    assert "Example: streamcore prompt greet --var name=World --provider demo" in done.stdout


def test_keys_are_never_shown() -> None:
    with Simulator("x") as simulator:
        for arguments in ([*PROMPT, "-p", "openai", "--json"], ["providers"], [*PROMPT, "-p", "anthropic", "--debug"]):
            done = streamcore(*arguments, simulator=simulator)
            assert "cli-planted-key" not in done.stdout + done.stderr
