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
from streamcore.graph.context import Context, State, failed
from streamcore.graph.events import Metadata, NodeEvent
from streamcore.graph.llm_node import has_metadata, open_stream, output_of, stream_key
from streamcore.graph.node_schema import CandidateBlock, LlmNode, candidates_of
from streamcore.provider import provider_names, vendor
from streamcore.stream import Stream

SECONDS = 30.0
"""How long all candidates together may take, by default."""


@dataclass(slots=True)
class _Runner:
    """One candidate, and what it has said so far."""

    block: CandidateBlock
    stream: Stream | None = None
    text: str = ""
    error: Exception | None = None
    output: dict[str, Any] | None = None
    facts: Metadata = field(default_factory=lambda: Metadata())

    @property
    def label(self) -> str:
        """The candidate as messages name it."""
        return _name(self.block) + (f"/{self.block.model}" if self.block.model else "")

    def winner(self) -> dict[str, Any]:
        """Return the value of `_race_winner`."""
        return {"provider": _name(self.block), "model": self.block.model or self.facts.get("model")}


_Text = tuple[str, ...]
"""What a candidate yields: new pieces of text; none if it has failed, has won, or begins again."""


async def run_race(name: str, node: LlmNode, state: State, context: Context) -> AsyncGenerator[NodeEvent]:
    """Yield the leader's tokens, and the output of the winner.

    Raises:
        NodeError: no candidate gave a valid answer in time; the message has the reason of each.
    """
    runners = [_Runner(block) for block in candidates_of(node)]
    seconds = SECONDS if context.seconds is None else context.seconds
    sources = [_answer(name, node, state, context, one, seconds) for one in runners]
    show = _Shown(name, node, context)
    winner: _Runner | None = None
    async with opened(merged(sources, len(sources))) as pieces:
        async for number, new in pieces:
            one = runners[number]
            for event in show.update(one, new, runners):
                yield event
            if one.output is not None:
                winner = one
                break
    if winner is None:
        context.streams.pop(name, None)
        reasons = "; ".join(f"{one.label}: {type(one.error).__name__}: {one.error}" for one in runners)
        failure = failed(name, context, f"no candidate gave a valid answer: {reasons}")
        failure.partial = getattr(show.best(runners).error, "partial", None)
        raise failure from runners[0].error
    for event in show.take_over(winner):
        yield event
    context.streams.pop(name, None)
    output = {**(winner.output or {}), "_race_winner": winner.winner()}
    yield {"type": "node_complete", "node": name, "output": output, "metadata": winner.facts}


class _Shown:
    """Decide which candidate's text is shown."""

    def __init__(self, name: str, node: LlmNode, context: Context) -> None:
        self._name = name
        self._node = node
        self._context = context
        self._leader: _Runner | None = None
        self._length = 0  # of the leader's text that was shown
        self._numbered = has_metadata(node, context)

    def update(self, one: _Runner, new: _Text, runners: Sequence[_Runner]) -> list[NodeEvent]:
        """Return the events of what a candidate did."""
        if not self._context.restarts:
            return []  # the reader gets the winner's text only
        if one.error is not None:
            if self._leader is not one:
                return []
            return self.take_over(self.best([other for other in runners if other.error is None] or [one]))
        if self._leader is None and new:
            return self.take_over(one)
        if self._leader is one and not new and not one.text and self._length:  # it begins again
            self._length = 0
            return [{"type": "restart", "node": self._name}]
        return self._rest(new) if self._leader is one else []

    def take_over(self, one: _Runner) -> list[NodeEvent]:
        """Make a candidate the leader; return the events that show its text."""
        if self._leader is one and (one.error is None or not self._length):
            return []
        events: list[NodeEvent] = [{"type": "restart", "node": self._name}] if self._length else []
        self._length = 0
        self._leader = one if one.error is None else None
        if self._leader is not None and one.stream is not None:
            self._context.streams[self._name] = one.stream
            events += self._rest((one.text,) if one.text else ())
        return events

    @staticmethod
    def best(runners: Sequence[_Runner]) -> _Runner:
        """Return the candidate with the longest text."""
        return max(runners, key=lambda one: len(one.text))

    def _rest(self, pieces: _Text) -> list[NodeEvent]:
        if not self._node.stream:
            return []
        events: list[NodeEvent] = []
        for piece in pieces:
            self._length += len(piece)
            if self._numbered:
                facts = stream_key(self._node)
                events.append({"type": "token", "node": self._name, "content": piece, "metadata": facts})
            else:
                events.append({"type": "token", "node": self._name, "content": piece})
        return events


async def _answer(
    name: str, node: LlmNode, state: State, context: Context, one: _Runner, seconds: float
) -> AsyncGenerator[_Text]:
    """Yield the pieces of a candidate's text; its error or output is set when it ends."""
    deadline = anyio.current_time() + seconds
    try:
        context.budget.count_model_call(name)
        keys: dict[str, Any] = {"provider": _provider(one.block), "model": one.block.model, "fallback": []}
        stream = one.stream = open_stream(node.model_copy(update=keys), state, context)
        tokens = context.budget.answer(name)
        async with stream:
            while (batch := await _next_batch(stream, deadline, seconds)) is not None:
                tokens.note(batch)
                for again, pieces in _pieces(batch):
                    one.text = "" if again else one.text + "".join(pieces)
                    yield pieces
        tokens.end()
        one.output, one.facts = output_of(name, node, stream)
    except (PromptError, RunLimitReached):
        raise
    except Exception as error:  # noqa: BLE001  the candidate has lost
        one.error = error
    yield ()


async def _next_batch(stream: Stream, deadline: float, seconds: float) -> list[Chunk] | None:
    with anyio.move_on_after(deadline - anyio.current_time()):
        return await stream.next_batch()
    raise TimeoutError(f"no whole answer within {seconds:g} s")


def _pieces(batch: Sequence[Chunk]) -> list[tuple[bool, _Text]]:
    """Return the pieces of text of a read, and True at every point where the answer begins again."""
    found: list[tuple[bool, _Text]] = []
    for chunk in batch:
        if chunk.kind == "restart":
            found.append((True, ()))
        elif chunk.text and chunk.kind in ("text", "refusal") and chunk.choice == 0:
            found.append((False, (chunk.text,)))
    return found


def _name(block: CandidateBlock) -> str:
    provider = block.provider
    return provider if isinstance(provider, str) else str(provider["name"])


def _provider(block: CandidateBlock) -> Any:
    """Return the provider of a candidate; `google` is `gemini` where Google's SDK is not installed."""
    if block.provider != "google":
        return block.provider
    found = vendor("google") if "google" in provider_names() else None
    return "google" if found is not None and found.installed else "gemini"
