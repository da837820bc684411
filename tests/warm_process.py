"""Run programs in forked children of one process that has imported the libraries that they need.

Most of the time of a short command is its imports. `pytest -n` runs one such process for all workers, at no cost until
the first request. A child has the arguments, the environment, the folder, the standard streams and the end that a new
process has. Only what a library reads from the environment while it is imported is that of the tests.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIRST = ("streamcore.cli.app",)
"""Modules that are imported before the first child is forked. What a child imports besides, the next ones find."""

PATH = f"{ROOT}{os.pathsep}{ROOT / 'providers'}"
"""The variable `PYTHONPATH` of all programs."""

KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_", "LD_", "PYTHON")
"""The beginnings of the variables that libraries may read while they are imported."""

LIBRARIES = (
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("purelib"),
    str(ROOT / "streamcore"),
    str(ROOT / "providers"),
)
"""Where the modules are that may be imported for all children."""

NO_STATUS = 1000
"""The exit code if the process that forks has ended itself."""

LONGEST = 250.0
"""Seconds after which a program is stopped."""

_tried: set[str] = set()
_shared: list[WarmProcess] = []


def warm_process(address: str | None = None) -> WarmProcess:
    """Return the process of this run of the tests; it ends with the process that has started it.

    Args:
        address: the address of a process that another one has started, given before the first use.
    """
    if not _shared:
        _shared.append(WarmProcess(address))
        atexit.register(_shared[0].close)
    return _shared[0]


class WarmProcess:
    """The process that forks, and a client of it.

    Args:
        address: the address of one that runs already; by default, starts one that ends with this object's process.
    """

    def __init__(self, address: str | None = None) -> None:
        if address is not None:
            self.address = address
            return
        self._folder = tempfile.TemporaryDirectory(prefix="streamcore-warm-")
        self.address = str(Path(self._folder.name) / "socket")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(100)
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.warm_process", str(listener.fileno())],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name.startswith(KEPT)} | {"PYTHONPATH": PATH},
                stdin=subprocess.PIPE,  # its end is the end of the process that started it
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def close(self) -> None:
        """End the process, if this object started it."""
        if hasattr(self, "_process"):
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._folder.cleanup()

    def run(
        self,
        program: str | Path,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with warnings as errors.

        Args:
            program: the name of a module, or the path of a script.
            arguments: what follows its name on the command line.
            env: its whole environment.
            cwd: its folder.
            stdin: what it reads; by default, nothing.
        """
        request = json.dumps(
            {"program": str(program), "arguments": arguments, "env": dict(env), "cwd": str(cwd)}
        ).encode()
        (child_in, into), (out, child_out), (err, child_err) = os.pipe(), os.pipe(), os.pipe()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            socket.send_fds(connection, [len(request).to_bytes(8, "big")], [child_in, child_out, child_err])
            connection.sendall(request)
            for descriptor in (child_in, child_out, child_err):
                os.close(descriptor)
            status, shown, errors = _communicate(connection, (stdin or "").encode(), into, out, err)
        return subprocess.CompletedProcess([str(program), *arguments], status, shown, errors)


def _communicate(connection: socket.socket, given: bytes, into: int, out: int, err: int) -> tuple[int, str, str]:
    """Write the input and read both outputs until the program ends."""
    texts: dict[int, str] = {}

    def write() -> None:
        with suppress(BrokenPipeError), open(into, "wb") as pipe:
            pipe.write(given)

    def read(descriptor: int) -> None:
        with open(descriptor, encoding="utf-8") as pipe:
            texts[descriptor] = pipe.read()

    threads = [threading.Thread(target=write), *(threading.Thread(target=read, args=(end,)) for end in (out, err))]
    for thread in threads:
        thread.start()
    connection.settimeout(LONGEST)
    process = 0
    try:
        with connection.makefile() as answers:
            process = int(answers.readline() or 0)
            status = int(answers.readline() or NO_STATUS)
    except BaseException:
        if process:
            os.kill(process, signal.SIGKILL)
        raise
    finally:
        for thread in threads:
            thread.join()
    return status, texts[out], texts[err]


@dataclass(slots=True)
class Child:
    """A child, and the client that waits for its exit code."""

    process: int
    client: socket.socket
    imported: bytes = b""
    """The names of modules that it has imported, as far as they have been read."""


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Fork a child for every request.

    Returns:
        In a child, its request; in this process None, when the standard input has ended.
    """
    children: dict[int, Child] = {}
    while True:
        ready, _, _ = select.select([0, listener.fileno(), *children], [], [])
        if 0 in ready:
            return None
        for end in set(ready) & set(children):
            names = os.read(end, 100_000)
            children[end].imported += names
            if not names:
                os.close(end)
                _ended(children.pop(end))
        if listener.fileno() in ready:
            client, _ = listener.accept()
            size, streams, _, _ = socket.recv_fds(client, 8, 3)
            with client.makefile("rb") as sent:
                request: dict[str, Any] = json.loads(sent.read(int.from_bytes(size, "big")))
            end, childs_end = os.pipe()
            _import(FIRST)
            process = os.fork()
            if not process:
                for one in (listener, client, *(child.client for child in children.values())):
                    one.close()
                for descriptor in (end, *children):
                    os.close(descriptor)
                return {**request, "streams": streams, "report": childs_end}
            for descriptor in (childs_end, *streams):
                os.close(descriptor)
            children[end] = Child(process, client)
            with suppress(OSError):
                client.sendall(f"{process}\n".encode())


def _ended(child: Child) -> None:
    """Send a child's exit code to the client, and import what the child imported."""
    status = os.waitstatus_to_exitcode(os.waitpid(child.process, 0)[1])
    with suppress(OSError), child.client:
        child.client.sendall(f"{status}\n".encode())
    _import(child.imported.decode().split())


def _import(names: Iterable[str]) -> None:
    """Import modules; one that cannot be imported is left to the programs that need it."""
    new = [name for name in names if name not in _tried]
    _tried.update(new)
    for name in new:
        with suppress(Exception):
            importlib.import_module(name)
    if new:
        assert threading.active_count() == 1, f"a thread, which does not outlive a fork, runs after the import of {new}"
        gc.collect()
        gc.freeze()


def run(
    program: str, arguments: Sequence[str], env: Mapping[str, str], cwd: str, streams: Sequence[int], report: int
) -> None:
    """Run a program as a new interpreter does, and return or raise what it does."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for number, (name, mode) in enumerate((("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb"))):
        old: io.TextIOWrapper = getattr(sys, name)
        data: Any = open(number, mode, 0 if mode == "wb" and old.write_through else -1, closefd=False)  # noqa: SIM115
        text = io.TextIOWrapper(data, old.encoding, old.errors, "\n", old.line_buffering, old.write_through)
        setattr(sys, name, text)
        setattr(sys, f"__{name}__", text)
    atexit.register(_report, report, frozenset(sys.modules))
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        sys.path[0] = str(Path(program).parent)
        runpy.run_path(program, run_name="__main__")
    else:
        sys.path[0] = cwd
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _report(end: int, before: Set[str]) -> None:
    """Write the names of the libraries' modules that this process has imported."""
    names = [
        name
        for name, module in sys.modules.items()
        if name not in before and (getattr(module, "__file__", None) or "").startswith(LIBRARIES)
    ]
    data = " ".join(names).encode()
    while data:  # and the pipe stays open: its end is that of this process
        data = data[os.write(end, data) :]


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        received = serve(listening)
    if received is not None:
        run(**received)
