"""Save threads in the memory of this process, for tests and for data that need not outlive it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from streamcore.checkpoints.codec import conflict, decode, encode
from streamcore.checkpoints.protocol import Saved

WHERE = "the memory of this process"


class MemoryCheckpointer:
    """Save threads until the process ends; all its event loops and system threads may share one.

    Nothing expires: a service that runs for long deletes threads, or uses another store.
    """

    def __init__(self) -> None:
        self._stored: dict[str, bytes] = {}
        self.size = 0
        """The bytes of all threads."""
        self._lock = threading.Lock()  # for compare-and-set; taken for a look-up in a dictionary only

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""
        stored = self._stored.get(thread)
        return None if stored is None else decode(thread, stored, WHERE)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the stored version is `version`."""
        encoded = encode(thread, data, version + 1)
        with self._lock:
            stored = self._stored.get(thread)
            found = 0 if stored is None else decode(thread, stored, WHERE).version
            if found != version:
                raise conflict(thread, WHERE, version, found)
            self._stored[thread] = encoded
            self.size += len(encoded) - len(stored or b"")
        return version + 1

    async def delete(self, thread: str) -> None:
        """Delete the thread."""
        with self._lock:
            self.size -= len(self._stored.pop(thread, b""))

    async def aclose(self) -> None:
        """Do nothing: the threads are kept until the process ends."""


PROCESS = MemoryCheckpointer()
"""The checkpointer that all graphs share that name none, or `type: memory`."""
