"""Define what keeps a thread: compare-and-set of plain JSON under the thread's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Saved:
    """What a thread holds: its data, plain JSON, and which version of the thread that is (1 is the first)."""

    version: int
    data: Mapping[str, Any]


@runtime_checkable
class Checkpointer(Protocol):
    """What keeps threads. `streamcore.testing.suites.checkpointer` is the suite that each one passes."""

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none.

        Raises:
            CheckpointError: the store cannot be reached, or what it holds is damaged.
        """
        ...

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store `data` as version + 1 if the thread stands at `version` (0: has no checkpoint), and return that.

        It is durable when this returns. After an error of another kind than the two below, and after a cancellation,
        either the old or the new checkpoint is there, whole; `load` tells which.

        Raises:
            ThreadConflict: the thread stands at another version; nothing was stored.
            CheckpointError: `data` is not plain JSON, or the store failed; the old checkpoint is still there.
        """
        ...

    async def delete(self, thread: str) -> None:
        """Forget the thread; one that is not there is no error."""
        ...

    async def aclose(self) -> None:
        """Release what this checkpointer alone owns."""
        ...
