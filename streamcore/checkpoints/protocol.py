"""Define the protocol of a store of threads: compare-and-set of plain JSON under the thread's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Saved:
    """The saved data of a thread, plain JSON, and its version (the first is 1)."""

    version: int
    data: Mapping[str, Any]


@runtime_checkable
class Checkpointer(Protocol):
    """A store of threads. `streamcore.testing.suites.checkpointer` is the test suite for implementations."""

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none.

        Raises:
            CheckpointError: the store cannot be reached, or its data is damaged.
        """
        ...

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store `data` as version + 1 if the stored version is `version` (0: none), and return the new version.

        The data is durable when this returns. After an error of another class than the two below, and after a
        cancellation, the store has either the old or the new checkpoint, whole; `load` returns it.

        Raises:
            ThreadConflict: the stored version is another one; nothing was stored.
            CheckpointError: `data` is not plain JSON, or the store failed; the old checkpoint is unchanged.
        """
        ...

    async def delete(self, thread: str) -> None:
        """Delete the thread; a thread that does not exist is no error."""
        ...

    async def aclose(self) -> None:
        """Close what this checkpointer alone owns."""
        ...
