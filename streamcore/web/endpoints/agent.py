"""Show a client of an agent's answers what belongs to it: all texts, its own calls, and the sum of the tokens."""

from __future__ import annotations

from dataclasses import replace

from streamcore.chunk import Chunk, Usage
from streamcore.completion import Completion
from streamcore.graph.limits import AnswerTokens
from streamcore.web.endpoints.sources import Source
from streamcore.wire.encoding.wire import RequestRefused

_HIDDEN = frozenset({"step", "tool_progress", "tool_result"})


class OwnCalls:
    """Make one answer of the answers of all steps.

    Calls of tools that run in the service are left out, and the others are numbered through. Each step counts its
    tokens from 0, so the counts of the earlier ones are added.
    """

    def __init__(self, shown: frozenset[str] | None) -> None:
        self._shown = shown
        self._step = 0
        self._positions: dict[tuple[int, int], int] = {}
        self._before = Usage()
        self._now = Usage()

    def visible(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks that the client gets."""
        if len(chunks) == 1 and chunks[0].kind == "text" and not chunks[0].path:
            return chunks
        return [seen for chunk in chunks if (seen := self._seen(chunk)) is not None]

    def _seen(self, chunk: Chunk) -> Chunk | None:
        if chunk.kind == "step":
            self._step += 1
            self._before, self._now = _sum(self._before, self._now), Usage()
        if chunk.kind in _HIDDEN or chunk.path:
            return None
        if chunk.tool_call is not None:
            if self._shown is not None and chunk.tool_call.name not in self._shown:
                return None
            key = self._step, chunk.tool_call.position
            position = self._positions.setdefault(key, len(self._positions))
            if position != chunk.tool_call.position:
                return replace(chunk, tool_call=replace(chunk.tool_call, position=position))
        if chunk.usage is not None and self._step > 1:
            self._now = chunk.usage
            return replace(chunk, usage=_sum(self._before, chunk.usage))
        if chunk.usage is not None:
            self._now = chunk.usage
        return chunk


class VisibleSource:
    """A source without what only the service itself has to know (see `OwnCalls`), whose tokens are counted."""

    def __init__(self, source: Source, shown: frozenset[str] | None, tokens: AnswerTokens | None) -> None:
        self._source = source
        self._shown = shown
        self._calls = OwnCalls(shown)
        self._tokens = tokens

    async def next_batch(self) -> list[Chunk] | None:
        """Return what has arrived; see `Source.next_batch`."""
        batch = await self._source.next_batch()
        if batch is None:
            self._refuse_pending()
            return None
        if self._tokens is not None:
            self._tokens.note(batch)
        return self._calls.visible(batch)

    def _refuse_pending(self) -> None:
        """Raise if a call waits for the approval of a person, whom these clients cannot ask."""
        partial = getattr(self._source, "partial", None)
        pending = partial.pending if isinstance(partial, Completion) else ()
        waiting = [call.name for call in pending if self._shown is not None and call.name not in self._shown]
        if waiting:
            raise RequestRefused(
                f"a call of {waiting[0]!r} needs approval, which this API has no place for; use the page, "
                "or the routes of the service",
                kind="conflict",
            )

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        _added(one.input_tokens, other.input_tokens),
        _added(one.output_tokens, other.output_tokens),
        _added(one.cache_read_tokens, other.cache_read_tokens),
        _added(one.cache_write_tokens, other.cache_write_tokens),
        _added(one.reasoning_tokens, other.reasoning_tokens),
    )


def _added(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)
