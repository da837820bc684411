"""Run a real PostgreSQL for tests, on a free port of loopback, with a folder of its own."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import free_port, require

PASSWORD = "correct-horse-battery"


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian's newest, or that of the search path."""
    found: Iterable[Path] = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda program: int(program.parts[-3]), default=None)
    known = shutil.which("postgres")
    return newest.parent if newest else Path(known).parent if known else None


class PostgresServer:
    """A PostgreSQL that stops with the test; `kill` and `start` play its failures.

    PostgreSQL refuses to run as root, so root runs it as the user `postgres`, or `nobody`. Its folder is not one of
    pytest's, whose parents are root's alone.
    """

    def __init__(self) -> None:
        programs = _programs()
        require(programs, "postgresql is not installed (Debian: apt-get install postgresql)")
        assert programs is not None
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="streamcore-postgres-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = next(one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        words = self._folder / "password"
        words.write_text(PASSWORD)
        words.chmod(0o644)
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "scram-sha-256", "-N", f"--pwfile={words}")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://tester:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers; after `kill`, it recovers first."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "shared_buffers": "16MB",
            "fsync": "off",  # no test cuts the power
            "dynamic_shared_memory_type": "mmap",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [*self._as, str(self._programs / "postgres"), "-D", str(self._data), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._process.poll() is None, "postgres ended at once"
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once: it aborts all sessions and writes nothing more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tester"]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
