"""Split reasoning that a model writes between `<think>` and `</think>` from its text, however the tags were cut."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from streamcore.chunk import Chunk, ChunkKind, content
from streamcore.completion import DECIDED, UNDECIDED
from streamcore.concurrency.generators import opened
from streamcore.errors import StreamcoreError
from streamcore.provider import Provider
from streamcore.request import Request, ThinkTags

OPENING, CLOSING = "<think>", "</think>"


class _Answer:
    """Split the text of one choice.

    Many chat templates write the opening tag themselves, so that an answer begins inside of it and only `</think>`
    comes. Unless the mode tells, text before the first tag is therefore kept back as undecided: `</think>` makes
    reasoning of it, `<think>` or the end of the answer text. A closing tag after that is text.
    """

    __slots__ = ("_choice", "_index", "_kept", "_noted", "_thinking", "_undecided")

    def __init__(self, choice: int, mode: ThinkTags) -> None:
        self._choice = choice
        self._index = 0
        # None once the first tag has arrived, or if the mode determines what the beginning is.
        self._undecided: list[str] | None = [] if mode is True else None
        self._thinking = mode == "open"
        self._kept = ""  # the beginning of a tag, perhaps
        self._noted = False  # the fold knows text that has not been passed on

    def feed(self, chunk: Chunk, out: list[Chunk]) -> None:
        """Append what a chunk of text turns out to be."""
        self._index = chunk.index
        rest, self._kept = self._kept + chunk.text, ""
        while rest:
            tags = (CLOSING,) if self._thinking else (OPENING,) if self._undecided is None else (OPENING, CLOSING)
            at, tag = min(((rest.find(tag), tag) for tag in tags if tag in rest), default=(-1, ""))
            if at < 0:
                keep = _beginning_of_tag(rest, tags)
                self._pass(rest[: len(rest) - keep], out)
                self._kept = rest[len(rest) - keep :]
                break
            self._pass(rest[:at], out)
            self._decide(tag, out)
            rest = rest[at + len(tag) :]
        if self._undecided is not None:
            self._note(chunk.text, out)
        elif self._kept:
            self._clear(out)
            self._note(self._kept, out)

    def end(self, out: list[Chunk]) -> None:
        """Append what was kept back: the answer ends here, or something else follows."""
        self._pass(self._kept, out)
        self._kept = ""
        self._decide("", out)
        self._clear(out)

    def _pass(self, text: str, out: list[Chunk]) -> None:
        if not text:
            return
        if self._undecided is not None:
            self._undecided.append(text)
            return
        self._clear(out)
        out.append(content("reasoning" if self._thinking else "text", text, self._index, self._choice))

    def _decide(self, tag: str, out: list[Chunk]) -> None:
        """Pass on the text before the first tag; `tag` is that tag, "" for the end of the answer."""
        self._clear(out)
        if self._undecided is not None:
            text, self._undecided = "".join(self._undecided), None
            kind: ChunkKind = "reasoning" if tag == CLOSING else "text"
            if text:
                out.append(content(kind, text, self._index, self._choice))
        self._thinking = tag == OPENING

    def _note(self, text: str, out: list[Chunk]) -> None:
        """Report text that is kept back to the fold and the clocks, so that `partial` has it and no clock runs out."""
        if text:
            self._noted = True
            out.append(replace(content("reasoning", "", self._index, self._choice), data={UNDECIDED: text}))

    def _clear(self, out: list[Chunk]) -> None:
        if self._noted:
            self._noted = False
            out.append(replace(content("reasoning", "", self._index, self._choice), data={DECIDED: True}))


def _beginning_of_tag(text: str, tags: tuple[str, ...]) -> int:
    """Return how many characters at the end of a text may be the beginning of a tag."""
    longest = min(len(text), max(map(len, tags)) - 1)
    return next((size for size in range(longest, 0, -1) if any(tag.startswith(text[-size:]) for tag in tags)), 0)


class ThinkTagSplitter:
    """Split the text of every choice of a stream; all other chunks pass in their place. See `request.ThinkTags`."""

    def __init__(self, mode: ThinkTags = True) -> None:
        self._mode: ThinkTags = mode
        self._answers: dict[int, _Answer] = {}

    def feed(self, chunks: list[Chunk]) -> list[Chunk]:
        """Return the chunks of one read with the reasoning split off."""
        out: list[Chunk] = []
        for chunk in chunks:
            if chunk.kind == "text":
                answer = self._answers.get(chunk.choice)
                if answer is None:
                    answer = self._answers[chunk.choice] = _Answer(chunk.choice, self._mode)
                answer.feed(chunk, out)
            else:
                answer = self._answers.get(chunk.choice)
                # A server that sends reasoning apart, or has finished, has no more to say on what was kept back.
                if answer is not None and (chunk.kind == "finish" or (chunk.kind == "reasoning" and chunk.text)):
                    answer.end(out)
                out.append(chunk)
        return out

    def end(self) -> list[Chunk]:
        """Return what is kept back when the stream has ended without a finish."""
        out: list[Chunk] = []
        for answer in self._answers.values():
            answer.end(out)
        return out


def with_thinking_split(
    source: AsyncGenerator[list[Chunk]], provider: Provider, request: Request
) -> AsyncGenerator[list[Chunk]]:
    """Return the source, split if `think_tags` of the request asks for it, or else that of the provider."""
    mode = getattr(provider, "think_tags", False) if request.think_tags is None else request.think_tags
    return split_thinking(source, mode) if mode in (True, "paired", "open") else source


async def split_thinking(source: AsyncGenerator[list[Chunk]], mode: ThinkTags) -> AsyncGenerator[list[Chunk]]:
    """Yield the chunks of a provider's stream with the reasoning between think tags split off."""
    tags = ThinkTagSplitter(mode)
    failure: StreamcoreError | None = None
    async with opened(source) as hidden:
        try:
            async for chunks in hidden:
                yield tags.feed(chunks)
        except StreamcoreError as error:  # raised after the text that was kept back
            failure = error
    rest = tags.end()
    if rest:
        yield rest
    if failure is not None:
        raise failure
