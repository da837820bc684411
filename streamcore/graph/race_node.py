"""Ask several models at once; the first whole, valid answer is the node's, and the others are cancelled and closed.

The tokens are those of one candidate, the leader: the first that has text. When it fails, or another one wins, a
`restart` event comes before the text of the other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from streamcore.chunk import Chunk
from streamcore.concurrency.generators import opened
from streamcore.concurrency.merge import merged
from streamcore.errors import PromptError, RunLimitReached
from streamcore.graph.answer_events import has_metadata, stream_key
from streamcore.graph.context import Context, State, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.llm_node import open_stream, output_of
from streamcore.graph.node_schema import CandidateBlock, LlmNode, candidates_of
from streamcore.provider import provider_names, vendor
from streamcore.stream import Stream

SECONDS = 30.0
"""How long all candidates together may take, by default."""


@dataclass(slots=True)
class _Candidate:
    """One candidate, as far as the node has read it; the candidate itself may be further."""

    block: CandidateBlock
    stream: Stream | None = None
    text: str = ""
    error: Exception | None = None

    @property
    def label(self) -> str:
        """The candidate as messages name it."""
        return _name(self.block) + (f"/{self.block.model}" if self.block.model else "")


@dataclass(frozen=True, slots=True)
class _Update:
    """What a candidate did: it gave text, began again, failed, or gave its output."""

    text: str = ""
    again: bool = False
    error: Exception | None = None
    output: dict[str, Any] | None = None
    facts: Metadata = field(default_factory=lambda: Metadata())


async def run_race(name: str, node: LlmNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Yield the leader's tokens, and the output of the winner.

    Raises:
        NodeError: no candidate gave a valid answer in time; the message has the reason of each.
    """
    candidates = [_Candidate(block) for block in candidates_of(node)]
    seconds = SECONDS if context.seconds is None else context.seconds
    sources = [_answer(name, node, state, context, one, seconds) for one in candidates]
    shown = _Shown(name, node, context, candidates)
    won: tuple[_Candidate, _Update] | None = None
    async with opened(merged(sources, len(sources))) as found:
        async for number, update in found:
            if update.output is not None:
                won = candidates[number], update
                break
            for event in shown.take(candidates[number], update):
                yield event
    context.streams.pop(name, None)
    if won is None:
        reasons = "; ".join(f"{one.label}: {type(one.error).__name__}: {one.error}" for one in candidates)
        failure = failed(name, context, f"no candidate gave a valid answer: {reasons}")
        failure.partial = getattr(max(candidates, key=lambda one: len(one.text)).error, "partial", None)
        raise failure from candidates[0].error
    winner, update = won
    for event in shown.finish(winner):
        yield event
    chosen = {"provider": _name(winner.block), "model": winner.block.model or update.facts.get("model")}
    output = {**(update.output or {}), "_race_winner": chosen}
    yield {"type": "node_complete", "node": name, "output": output, "metadata": update.facts}


class _Shown:
    """Decide which candidate's text is shown."""

    def __init__(self, name: str, node: LlmNode, context: Context, candidates: Sequence[_Candidate]) -> None:
        self._name = name
        self._node = node
        self._context = context
        self._candidates = candidates
        self._leader: _Candidate | None = None
        self._visible = False  # True if text was shown that is not void
        self._numbered = has_metadata(node, context)

    def take(self, one: _Candidate, update: _Update) -> list[NodeEvent]:
        """Add what a candidate did; return the events that show it."""
        one.text = "" if update.again else one.text + update.text
        one.error = update.error
        if not self._context.restarts:
            return []  # the reader gets the winner's text only
        if one.error is not None:
            others = [other for other in self._candidates if other.error is None]
            best = max(others, key=lambda other: len(other.text), default=None)
            return self._lead(best if best is not None and best.text else None) if self._leader is one else []
        if self._leader is None and one.text:
            return self._lead(one)
        if self._leader is not one:
            return []
        return self._void() if update.again else self._tokens(update.text)

    def finish(self, winner: _Candidate) -> list[NodeEvent]:
        """Return the events that show the winner's text."""
        return [] if self._leader is winner else self._lead(winner)

    def _lead(self, one: _Candidate | None) -> list[NodeEvent]:
        """Make a candidate the leader."""
        self._leader = one
        if one is None:
            return self._void()
        if one.stream is not None:
            self._context.streams[self._name] = one.stream
        return [*self._void(), *self._tokens(one.text)]

    def _void(self) -> list[NodeEvent]:
        """Return the event that makes void what was shown."""
        visible, self._visible = self._visible, False
        return [{"type": "restart", "node": self._name}] if visible else []

    def _tokens(self, text: str) -> list[NodeEvent]:
        if not text or not self._node.stream:
            return []
        self._visible = True
        if self._numbered:
            return [{"type": "token", "node": self._name, "content": text, "metadata": stream_key(self._node)}]
        return [{"type": "token", "node": self._name, "content": text}]


async def _answer(
    name: str, node: LlmNode, state: State, context: Context, one: _Candidate, seconds: float
) -> AsyncGenerator[_Update]:
    """Yield what a candidate does, its failure or its output last."""
    deadline = anyio.current_time() + seconds
    try:
        context.budget.count_model_call(name)
        keys: dict[str, Any] = {"provider": _provider(one.block), "model": one.block.model, "fallback": []}
        stream = one.stream = open_stream(node.model_copy(update=keys), state, context)
        tokens = context.budget.answer(name)
        async with stream:
            while (batch := await _next_batch(stream, deadline, seconds)) is not None:
                tokens.note(batch)
                for chunk in batch:
                    if chunk.kind == "restart" and not chunk.path:
                        yield _Update(again=True)
                    elif chunk.text and chunk.kind in ("text", "refusal") and not (chunk.choice or chunk.path):
                        yield _Update(chunk.text)
        tokens.end()
        output, facts = output_of(name, node, stream)
    except (PromptError, RunLimitReached):
        raise
    except Exception as error:  # noqa: BLE001  the candidate has lost
        last = _Update(error=error)
    else:
        last = _Update(output=output, facts=facts)
    yield last


async def _next_batch(stream: Stream, deadline: float, seconds: float) -> list[Chunk] | None:
    with anyio.move_on_after(deadline - anyio.current_time()):
        return await stream.next_batch()
    raise TimeoutError(f"no whole answer within {seconds:g} s")


def _name(block: CandidateBlock) -> str:
    provider = block.provider
    return provider if isinstance(provider, str) else str(provider["name"])


def _provider(block: CandidateBlock) -> Any:
    """Return the provider of a candidate, or its substitute if its SDK is not installed."""
    provider = block.provider
    found = vendor(provider) if isinstance(provider, str) and provider in provider_names() else None
    return provider if found is None or found.installed else found.substitute or provider
