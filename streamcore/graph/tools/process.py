"""Run a program in a process group of its own, of which nothing is left when the call ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

from streamcore.graph.tools.protocol import ToolFailed

MAX_OUTPUT = 8 * 1024 * 1024
"""The maximum number of bytes of each of stdout and stderr."""
_CLOSE_SECONDS = 1.0
"""How long to read on from a process that has left the group, after the program has ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str


async def run_program(
    argv: Sequence[str], environment: Mapping[str, str], folder: Path | None, seconds: float
) -> Ended:
    """Run a program without input and return its exit code and output.

    The program and all processes of its group are killed when it has ended, at the timeout, and when the caller is
    cancelled.

    Raises:
        ToolFailed: the program cannot be started, takes longer than `seconds`, or writes more than `MAX_OUTPUT`.
    """
    process = await _start(argv, environment, folder)
    try:
        with anyio.move_on_after(seconds) as limit:
            return await _output(process)
        assert limit.cancelled_caught  # noqa: S101
        raise ToolFailed(f"the command took longer than {seconds:g} s")
    finally:
        _kill_group(process)
        with anyio.CancelScope(shield=True):
            await process.wait()
            await process.aclose()


async def _start(argv: Sequence[str], environment: Mapping[str, str], folder: Path | None) -> Process:
    with anyio.CancelScope() as scope:
        scope.shield = True  # a process that has started needs its owner
        try:
            return await anyio.open_process(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise ToolFailed(
                    "the arguments are too long for a command; write them to a file, or use a python tool"
                ) from error
            raise ToolFailed(f"the command cannot be started: {error}") from error
        except ValueError as error:
            raise ToolFailed(f"the command cannot be started: {error}") from error
    raise AssertionError("a scope that nothing cancels was cancelled")


async def _output(process: Process) -> Ended:
    out, err = _Reader(process.stdout), _Reader(process.stderr)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(out.read, tasks.cancel_scope)
        tasks.start_soon(err.read, tasks.cancel_scope)
        await process.wait()
        _kill_group(process)  # processes in the background hold the pipes open
        tasks.cancel_scope.deadline = anyio.current_time() + _CLOSE_SECONDS
    if out.too_much or err.too_much:
        raise ToolFailed(f"the command wrote more than {MAX_OUTPUT // 1024 // 1024} MiB")
    return Ended(process.returncode or 0, out.text, err.text)


class _Reader:
    def __init__(self, stream: ByteReceiveStream | None) -> None:
        assert stream is not None  # noqa: S101
        self._stream = stream
        self._data = bytearray()
        self.too_much = False

    async def read(self, scope: anyio.CancelScope) -> None:
        with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            while True:
                self._data += await self._stream.receive()
                if len(self._data) > MAX_OUTPUT:
                    self.too_much = True
                    scope.cancel()

    @property
    def text(self) -> str:
        return self._data.decode("utf-8", "replace")


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
