"""Define what an endpoint reads an answer from, and make one from the events of a graph."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from streamcore.chunk import Chunk, Usage
from streamcore.completion import Completion, Fold


class Source(Protocol):
    """The chunks of an answer in batches; `Stream` is one."""

    async def next_batch(self) -> list[Chunk] | None:
        """Return what has arrived; None at the end of an answer that is complete."""
        ...

    async def aclose(self) -> None:
        """Close the vendor's response."""
        ...


async def collected(source: Source) -> Completion:
    """Return the complete answer of a source, which the caller closes."""
    fold = Fold()
    while (batch := await source.next_batch()) is not None:
        fold.add(batch)
    return fold.completion(complete=True)


class GraphSource:
    """The tokens of all nodes of a graph as the text of one answer.

    A question ends the answer and is its last text. A graph without tokens answers with the output of its last node.
    """

    def __init__(
        self, open_events: Callable[[], Awaitable[AsyncGenerator[Any]]], ended: Callable[[], Awaitable[None]]
    ) -> None:
        self._open = open_events
        self._ended = ended
        self._events: AsyncGenerator[Any] | None = None
        self._said = False
        self._over = False
        self._output: Mapping[str, Any] = {}
        self._read = self._made = 0

    async def next_batch(self) -> list[Chunk] | None:
        """Return the chunks of the next event; see `Source.next_batch`."""
        if self._over:
            return None
        if self._events is None:
            self._events = await self._open()
            return [Chunk("start")]
        async for event in self._events:
            chunks = self._chunks(event)
            if chunks:
                return chunks
        self._over = True
        return self._end()

    def _chunks(self, event: Mapping[str, Any]) -> list[Chunk]:
        match event["type"]:
            case "token" if event["content"]:
                self._said = True
                return [Chunk("text", event["content"])]
            case "restart":
                return [Chunk("restart")]
            case "interrupt":
                self._said = True
                message = event["message"]
                return [Chunk("text", message if isinstance(message, str) else _json(message))]
            case "node_complete":
                self._output = event["output"] or self._output
                usage = event.get("metadata", {}).get("usage")
                if isinstance(usage, Usage):
                    self._read += usage.input_tokens or 0
                    self._made += usage.output_tokens or 0
            case _:
                pass
        return []

    def _end(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        if not self._said and self._output:
            values = [*self._output.values()]
            text = values[0] if len(values) == 1 and isinstance(values[0], str) else _json(self._output)
            chunks.append(Chunk("text", text))
        chunks.append(Chunk("finish", finish_reason="stop"))
        return [*chunks, Chunk("usage", usage=Usage(self._read, self._made))]

    async def aclose(self) -> None:
        """Close the run, and forget its thread if only memory keeps it."""
        try:
            if self._events is not None:
                await self._events.aclose()
        finally:
            await self._ended()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
