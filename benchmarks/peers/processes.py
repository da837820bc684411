"""Run the simulator and the readers in separate processes, and send them commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds, after which a reader that does not answer is ended
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


class WorkerError(Exception):
    """Report a reader that failed or did not answer."""


class _Process:
    def __init__(self, command: list[str], log: Path) -> None:
        # A reader gets no key, address or proxy of the caller. litellm would download a list of prices when it is
        # imported, and print an error if it cannot.
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def line(self) -> str:
        """Return the next line of its output; empty if it ended or had to be ended."""
        assert self.process.stdout is not None
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline()
        finally:
            timer.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End the process now."""
        self.process.kill()
        self.process.communicate()


class Server(_Process):
    """Run the simulator; it sends answers as fast as they are read, or at a rate of tokens per second after a pause.

    The pause begins with each request, or, with a gate, with the first of all.
    """

    def __init__(
        self, log: Path, tokens: int, rate: float | None = None, pause: float = 0, *, gate: bool = False
    ) -> None:
        paced = ["benchmarks.peers.server", "--rate", str(rate), "--pause", str(pause), *(["--gate"] if gate else [])]
        module = ["streamcore.testing"] if rate is None else paced
        super().__init__([sys.executable, "-m", *module, "--tokens", str(tokens)], log)
        self.url = self.line().strip()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used; NaN if the system does not report them."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def statistics(self) -> dict[str, float]:
        """Return the simulator's statistics, such as how late it sent."""
        with urllib.request.urlopen(f"{self.url}/statistics", timeout=30) as response:  # noqa: S310  our own server
            found: dict[str, float] = json.load(response)
            return found


class Worker(_Process):
    """Run a reader in its own environment; it begins to import its library."""

    def __init__(self, log: Path, python: Path, reader: str, variant: str) -> None:
        super().__init__([str(python), "-m", "benchmarks.peers.worker", reader, variant], log)

    def imported(self) -> dict[str, float]:
        """Wait until it has imported everything, and return the cost; call this once, before `ask`.

        Raises:
            WorkerError: it cannot be imported.
        """
        return self._answer()

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Send a command and return the measurement.

        Raises:
            WorkerError: it failed, or did not answer.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise WorkerError("the process ended") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.line()
        if not line:
            raise WorkerError("the process ended without an answer")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise WorkerError(said["error"])
        return said
