"""Keep threads in the memory of this process, for tests and for what may be forgotten at its end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from streamcore.checkpoints.codec import conflict, decode, encode
from streamcore.checkpoints.protocol import Saved

WHERE = "the memory of this process"


class MemoryCheckpointer:
    """Keep threads until the process ends; any event loop and any thread of it may use the same one.

    Nothing ever expires: a service that lives long deletes threads, or takes another store.
    """

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self._lock = threading.Lock()  # for compare-and-set; held for a dictionary's look-up only

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""
        stored = self._stored.get(thread)
        return None if stored is None else decode(thread, stored, WHERE)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the thread stands at `version`."""
        encoded = encode(thread, data, version + 1)
        with self._lock:
            stored = self._stored.get(thread)
            found = 0 if stored is None else decode(thread, stored, WHERE).version
            if found != version:
                raise conflict(thread, WHERE, version, found)
            self._stored[thread] = encoded
        return version + 1

    async def delete(self, thread: str) -> None:
        """Forget the thread."""
        self._stored.pop(thread, None)

    async def aclose(self) -> None:
        """Do nothing: the threads stay until the process ends."""


PROCESS = MemoryCheckpointer()
"""What graphs share that name no checkpointer, or `type: memory`."""
