"""Run the command in separate processes, through pipes and in terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streamcore.testing import Simulator
from tests.warm_process import PATH, warm_process

ROOT = Path(__file__).resolve().parent.parent
KEY = "cli-planted-key"
PROMPT = ["prompt", "greet", "--var", "name=World"]
PROVIDERS = ["anthropic", "openai", "openai-responses", "mistral"]
COMMAND = [sys.executable, "-W", "error", "-m", "streamcore.cli"]
DEADLINE = 120.0


def environment(simulator: Simulator | None = None, /, **more: str) -> dict[str, str]:
    """Return an environment without the user's settings, connected to the simulator."""
    hidden = ("_API_KEY", "_BASE_URL", "_MODEL", "PROVIDER", "COLUMNS", "STREAMCORE_REPLAY")
    found = {key: value for key, value in os.environ.items() if not key.endswith(hidden)}
    if simulator is not None:
        found |= {name: KEY if name.endswith("KEY") else value for name, value in simulator.environment.items()}
    return {**found, "PYTHONPATH": PATH, **more}


def streamcore(
    *arguments: str, simulator: Simulator | None = None, cwd: Path = ROOT, stdin: str | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end: in a forked process, or in a new one if libraries may read a variable at import."""
    if all(name.startswith("STREAMCORE_") or name.endswith(("_API_KEY", "_BASE_URL", "_MODEL")) for name in more):
        env = environment(simulator, **more)
        return warm_process().run("streamcore.cli", arguments, env=env, cwd=cwd, stdin=stdin)
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=250,
        cwd=cwd,
        env=environment(simulator, **more),
        check=False,
        input=stdin,
    )


def until(condition: Any, seconds: float = DEADLINE) -> None:
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition was not met in time"
        time.sleep(0.01)


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, columns: int = 80, cwd: Path = ROOT) -> None:
        self.shown = b""
        self._leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=cwd,
            env={"TERM": "xterm-256color", **env},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that a typed ^C is a signal
        )
        os.close(follower)

    def read_until(self, wanted: Callable[[bytes], bool], seconds: float = DEADLINE) -> None:
        """Read the output until the condition is true for it."""
        end = time.monotonic() + seconds
        while not wanted(self.shown):
            left = end - time.monotonic()
            assert left > 0, f"only this was shown: {self.shown!r}"
            if select.select([self._leader], [], [], left)[0]:
                try:
                    data = os.read(self._leader, 4096)
                except OSError:  # the other side is closed
                    data = b""
                assert data or wanted(self.shown), f"it ended with: {self.shown!r}"
                self.shown += data

    def wait_for_rest(self) -> None:
        """Wait until the command is idle: a signal that arrives just before a read is handled only after it."""
        state = Path(f"/proc/{self.process.pid}/stat")
        seen: list[str] = []

        def rests() -> bool:
            seen.append(state.read_text().rpartition(")")[2].split()[0])
            return seen[-5:] == ["S"] * 5

        until(rests)

    def keys(self, text: str) -> None:
        """Type keys, as `\\x03` for Ctrl-C."""
        os.write(self._leader, text.encode())

    def finish(self, seconds: float = DEADLINE) -> int:
        """Read to the end and return the exit code."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._leader], [], [], 0.01)[0]:
                try:
                    data = os.read(self._leader, 4096)
                except OSError:
                    data = b""
                self.shown += data
                if not data:
                    break
        try:
            return self.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the command did not end; it had shown: {self.shown!r}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._leader)
