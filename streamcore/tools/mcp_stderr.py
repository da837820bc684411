"""Read what a server's process writes to stderr: its last lines explain why it ended."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from functools import partial
from typing import Self

import anyio.to_thread

from streamcore.tools.mcp_server import McpServer

log = logging.getLogger("streamcore.mcp")

_LINES = 5
_LINE_LENGTH = 500
_JOIN_SECONDS = 0.5


class ServerStderr:
    """Give a process a pipe as its stderr; a thread reads it, logs each line at level DEBUG and keeps the last ones.

    A thread, since neither event loop can read a pipe on Windows. It ends when every process that has the pipe has.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._last: deque[str] = deque(maxlen=_LINES)

    def __enter__(self) -> Self:
        reading, writing = os.pipe()
        self.file = os.fdopen(writing, "w")
        """The end of the pipe for the process; to be closed once the process has it."""
        self._thread = threading.Thread(target=self._read, args=(reading,), name="streamcore-mcp-stderr", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def _read(self, pipe: int) -> None:
        with os.fdopen(pipe, encoding="utf-8", errors="replace") as file:
            while line := file.readline(_LINE_LENGTH):
                line = self._server.clean(line.rstrip())
                if line:
                    self._last.append(line)
                    log.debug("%s: %s", self._server.name, line)

    async def last_lines(self) -> str:
        """Return the last lines of a process that has ended."""
        await anyio.to_thread.run_sync(partial(self._thread.join, _JOIN_SECONDS))
        return self.lines()

    def lines(self) -> str:
        """Return the last lines until now."""
        return "\n".join(list(self._last))
