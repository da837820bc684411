"""Run real servers for tests on free loopback ports: Redis, and PostgreSQL with its own folder."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support import DEADLINE, free_port, require

PASSWORD = "correct-horse-battery"
"""The password of PostgreSQL's user."""


class ServerProcess:
    """A server that stops with the test; `kill` and `start` play its failures."""

    name = "server"

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

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

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            assert self._process.poll() is None, f"{self.name} ended at once"
            assert time.monotonic() < deadline, f"{self.name} does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _command(self) -> list[str]:
        """Return the command that runs it."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Return whether it answers."""
        raise NotImplementedError


class RedisServer(ServerProcess):
    """A redis-server.

    Args:
        folder: where it keeps its files.
        password: what clients must send.
        keep: write every change to the disk, so that a killed server has it when it starts again.
    """

    name = "redis-server"

    def __init__(self, folder: Path, *, password: str | None = None, keep: bool = False) -> None:
        program = shutil.which("redis-server")
        require(program, "redis-server is not installed (Debian: apt-get install redis-server)")
        super().__init__()
        self._password = password
        self._words = [
            *(str(program), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *(("--appendonly", "yes", "--appendfsync", "always") if keep else ()),
            *(("--requirepass", password) if password else ()),
        ]

    @property
    def url(self) -> str:
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def send(self, number: int) -> None:
        """Send it a signal: SIGSTOP makes it hang, SIGCONT go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def _command(self) -> list[str]:
        return self._words

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(100).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: Debian's newest, or that of the search path."""
    found: Iterable[Path] = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda program: int(program.parts[-3]), default=None)
    known = shutil.which("postgres")
    return newest.parent if newest else Path(known).parent if known else None


class PostgresServer(ServerProcess):
    """A PostgreSQL.

    It refuses to run as root, so root runs it as the user `postgres`, or `nobody`. Its folder is not one of pytest's,
    whose parents are root's alone.
    """

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers; after `kill`, it recovers first."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        super().start()

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

    def _command(self) -> list[str]:
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
        return [*self._as, str(self._programs / "postgres"), "-D", str(self._data), *options]

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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Redis, and return its address."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Run a PostgreSQL, and return its address."""
    with PostgresServer() as server:
        yield server.url


def open_store(kind: str, folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Run the server of a checkpointer until the stack is closed, and return the settings of the checkpointer.

    Args:
        kind: `sqlite`, which needs no server, `redis` or `postgres`.
        folder: where a server or SQLite keeps its files.
        stack: what ends the server.
    """
    if kind == "redis":
        return {"type": "redis", "url": stack.enter_context(RedisServer(folder)).url, "ttl": 60}
    if kind == "postgres":
        return {"type": "postgres", "url": stack.enter_context(PostgresServer()).url}
    return {"type": "sqlite", "path": str(folder / "threads.db")}
