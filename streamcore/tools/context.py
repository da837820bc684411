"""Define `ToolContext`, what a running tool knows of its call and can report."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import anyio
import anyio.from_thread

from streamcore.chunk import Chunk, ToolCall
from streamcore.completion import Completion
from streamcore.stream import Stream


class Reporter(Protocol):
    """Take what a tool reports while it runs."""

    def put(self, chunks: Sequence[Chunk]) -> None:
        """Hand chunks to the reader of the run."""
        ...

    async def below_limit(self) -> None:
        """Wait until the reader has taken most of what was put."""
        ...


class ToolContext:
    """Give a tool its call and the state of the run; a parameter with this annotation is not part of the schema."""

    def __init__(self, call: ToolCall, state: Any, reporter: Reporter) -> None:
        self.call = call
        """The call, with its arguments as the model sent them."""
        self.state = state
        """The `state=` of the run; in a graph, the state that the node was given."""
        self.cancelled = False
        """True once nobody waits for the result: the reader is gone, or the call has timed out. A plain function that
        runs long should look at it, since a thread cannot be stopped."""
        self._reporter = reporter
        self._thread = threading.get_ident()

    @property
    def call_id(self) -> str:
        """The id of the call."""
        return self.call.id or ""

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.call.name or ""

    def progress(self, value: Any) -> Awaitable[None]:
        """Report progress: the reader of the run gets a chunk `tool_progress`; the model does not.

        Args:
            value: a text, which becomes the chunk's `text`, or JSON data, which become its `data["progress"]`.

        Returns:
            What an async tool may await, so that it is as slow as its reader. A plain function ignores it.
        """
        call = replace(self.call, arguments="")
        if isinstance(value, str):
            self._put([Chunk("tool_progress", value, tool_call=call)])
        else:
            self._put([Chunk("tool_progress", tool_call=call, data={"progress": value})])
        return _Waiting(self._reporter.below_limit)

    async def forward(self, stream: Stream) -> Completion:
        """Read a nested run to its end and return its answer; the reader of the outer run gets its chunks.

        The chunks have the tool's name in front of their `path`. Raises what the nested run raises.
        """
        async with stream:
            while (batch := await stream.next_batch()) is not None:
                self._put([replace(chunk, path=(self.name, *chunk.path)) for chunk in batch])
                await self._reporter.below_limit()
        return stream.partial

    def _put(self, chunks: Sequence[Chunk]) -> None:
        if self.cancelled:
            return
        if threading.get_ident() == self._thread:
            self._reporter.put(chunks)
        else:
            anyio.from_thread.run_sync(self._reporter.put, chunks)


class _Waiting:
    """Wait for the reader when awaited; if not awaited, do nothing and warn of nothing."""

    __slots__ = ("_wait",)

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()
