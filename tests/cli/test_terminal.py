"""Use the command in a terminal: output as it comes, Ctrl-C at any time, completion, narrow windows."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamcore.testing import Answer, FaultServer, Simulator
from streamcore.testing.faults.steps import Hold, Repeat, Send, Step
from streamcore.testing.simulator.frames import frames
from streamcore.testing.simulator.received import BASE_PATHS
from tests.commands import COMMAND, KEY, PROMPT, PROVIDERS, ROOT, Terminal, environment, until
from tests.support import first_short, wire_of

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PROMPT_BACK = 1.0
"""Seconds after Ctrl-C in which the command ends."""
SLOW = 30.0
"""How much more a machine that does many things at once may take. The timer in the command limits it to the second."""


def begun(provider: str) -> bytes:
    """Return a response that says `tick` three times and then does not go on."""
    pieces = [data for data, _ in frames(wire_of(provider), Answer(["tick "] * 4, cut=3))]
    return HEAD + b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in pieces)


def showing(wanted: bytes) -> Callable[[bytes], bool]:
    """Return the condition that the output has this."""
    return lambda shown: wanted in shown


def stalls(provider: str) -> dict[str, list[Step]]:
    return {
        "before the headers": [Hold()],
        "before the first byte": [Send(HEAD), Hold()],
        "after some tokens": [Send(begun(provider)), Hold()],
        "with keep-alives": [Send(begun(provider)), Repeat(b"5\r\n: hi\n\r\n", every=0.02)],
    }


def aimed_at(server: FaultServer, provider: str) -> dict[str, str]:
    name = provider.removesuffix("-responses").upper()
    return environment() | {f"{name}_BASE_URL": server.url + BASE_PATHS.get(provider, "/v1"), f"{name}_API_KEY": KEY}


@pytest.mark.parametrize("stall", first_short(list(stalls("openai"))))
@pytest.mark.parametrize("provider", first_short(PROVIDERS))
def test_ctrl_c_in_a_stall_returns_the_prompt(provider: str, stall: str) -> None:
    tokens = 3 if "tokens" in stall or "keep" in stall else 0
    with (
        FaultServer(stalls(provider)[stall]) as server,
        Terminal([*COMMAND, *PROMPT, "-p", provider], aimed_at(server, provider)) as terminal,
    ):
        terminal.read_until(lambda shown: shown.count(b"tick") == tokens)
        until(lambda: len(server.requests) == 1)
        terminal.keys("\x03")
        start = time.monotonic()
        assert terminal.finish() == 130
        assert time.monotonic() - start < PROMPT_BACK + SLOW
        shown = terminal.shown.replace(b"\r\n", b"\n").replace(b"^C", b"").decode()
        assert shown.startswith("tick " * tokens)
        assert shown.endswith(f"interrupted: the connection is closed; {5 * tokens} characters of text arrived\n")
        assert "Traceback" not in shown


def test_ctrl_c_while_a_name_is_looked_up() -> None:
    """A thread cannot be cancelled: the command does not wait for it."""
    code = (
        "import socket, sys, time\n"
        "def hang(*arguments, **options):\n"
        "    print('looking', flush=True)\n"
        "    time.sleep(60)\n"
        "socket.getaddrinfo = hang\n"
        "from streamcore.cli import main\n"
        "main()\n"
    )
    env = environment() | {"OPENAI_BASE_URL": "http://name.invalid/v1", "OPENAI_API_KEY": KEY}
    with Terminal([sys.executable, "-c", code, *PROMPT, "-p", "openai"], env) as terminal:
        terminal.read_until(lambda shown: b"looking" in shown)
        terminal.keys("\x03")
        start = time.monotonic()
        assert terminal.finish() == 130
        assert time.monotonic() - start < PROMPT_BACK + SLOW
        assert b"interrupted: the connection is closed; 0 characters of text arrived" in terminal.shown


@pytest.mark.parametrize("provider", first_short(PROVIDERS))
def test_ctrl_c_closes_the_upstream_and_reports_how_much_was_received(provider: str) -> None:
    with Simulator(Answer(["tick "] * 2000), rate=10) as simulator:
        with Terminal([*COMMAND, *PROMPT, "-p", provider], environment(simulator)) as terminal:
            terminal.read_until(lambda shown: shown.count(b"tick") >= 3)  # as they come, not at the end
            assert simulator.open == 1
            terminal.keys("\x03")
            assert terminal.finish() == 130
            text = re.search(rb"(\d+) characters of text arrived", terminal.shown)
            assert text is not None
            assert int(text[1]) == 5 * terminal.shown.count(b"tick")
            assert b"Traceback" not in terminal.shown
        until(lambda: simulator.abandoned == 1 and simulator.open == 0)


def test_ctrl_c_keeps_the_recording(tmp_path: Path) -> None:
    from streamcore.testing import Recording

    path = tmp_path / "cut.yaml"
    with Simulator(Answer(["tick "] * 2000), rate=10) as simulator:
        command = [*COMMAND, "record", *PROMPT[1:], "-p", "openai", "-o", str(path)]
        with Terminal(command, environment(simulator)) as terminal:
            terminal.read_until(lambda shown: shown.count(b"tick") >= 3)
            terminal.keys("\x03")
            assert terminal.finish() == 130
            assert f"to {path}".encode() in terminal.shown.replace(b"\r\n", b"")
    (exchange,) = Recording.load(path).exchanges
    assert exchange.end == "left"
    assert exchange.body.count(b"tick") >= 3
    assert KEY not in path.read_text("utf-8")


@pytest.mark.parametrize("columns", first_short([30, 60, 100]))
@pytest.mark.parametrize("arguments", [["providers"], ["prompt", "--help"], ["simulate", "--help"]])
def test_narrow_windows(arguments: list[str], columns: int) -> None:
    with Terminal([*COMMAND, *arguments], environment(), columns=columns) as terminal:
        assert terminal.finish() == 0
    lines = re.sub(rb"\x1b\[[0-9;]*m", b"", terminal.shown).decode().splitlines()
    assert len(lines) > 5
    assert max(len(line) for line in lines) <= columns


@pytest.mark.long
def test_completion_in_a_shell(tmp_path: Path) -> None:
    """Type the beginning of a word and the tabulator into a real shell."""
    (tmp_path / "prompts" / "mail").mkdir(parents=True)
    (tmp_path / "prompts" / "mail" / "answer.yaml").write_text("user: x\n", "utf-8")
    program = tmp_path / "bin" / "streamcore"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n', "utf-8")
    program.chmod(0o755)
    env = environment(PATH=f"{program.parent}:/usr/bin:/bin", PS1="$ ", HOME=str(tmp_path))
    with Terminal(["bash", "--norc", "--noprofile", "-i"], env, cwd=tmp_path, columns=200) as shell:
        shell.keys('eval "$(_STREAMCORE_COMPLETE=source_bash streamcore)"; echo rea""dy\n')
        shell.read_until(lambda shown: b"ready" in shown)
        for typed, completed in (
            ("streamcore sim", b"streamcore simulate"),
            ("streamcore prompt ma", b"streamcore prompt mail/answer"),
            ("streamcore prompt x -p openai-r", b"-p openai-responses"),
            ("streamcore simulate --fault reset-mid", b"--fault reset-mid-stream"),
        ):
            shell.shown = b""
            shell.keys(typed + "\t")
            shell.read_until(showing(completed))
            shell.keys("\x15")  # delete the line
        shell.keys("exit\n")
        assert shell.finish() == 0


def test_help_of_the_terminal_is_coloured_and_of_a_pipe_is_not() -> None:
    with Terminal([*COMMAND, "--help"], environment()) as terminal:
        assert terminal.finish() == 0
    assert b"\x1b[" in terminal.shown
    assert str(ROOT).encode() not in terminal.shown
