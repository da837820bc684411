"""Read a stream as the object in its text, which grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from streamcore.chunk import Chunk
from streamcore.structured.json_text import NOTHING, GrowingJson


class Batches(Protocol):
    """What is read: a `Stream`."""

    async def next_batch(self) -> list[Chunk] | None:
        """Return the chunks of the next network read; None at the end."""
        ...


class GrowingObjects:
    """Iterate over the object in a stream's text as it grows."""

    def __init__(self, stream: Batches, document: Callable[[], str]) -> None:
        self._stream = stream
        self._document = document  # the JSON that was found to fit, at the end
        self._growing = GrowingJson()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._ended:
            batch = await self._stream.next_batch()
            if batch is None:
                self._ended = True
                found = self._growing.end(self._document())
            else:
                found = self._add(batch)
            if found is not NOTHING:
                return found
        raise StopAsyncIteration

    def _add(self, batch: list[Chunk]) -> Any:
        new: list[str] = []
        for chunk in batch:
            if chunk.kind in ("restart", "step"):
                self._growing, new = GrowingJson(), []
            elif chunk.kind == "text" and not (chunk.choice or chunk.path):
                new.append(chunk.text)
        return self._growing.add("".join(new)) if any(new) else NOTHING
