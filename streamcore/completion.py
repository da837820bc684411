"""Define `Completion`, the answer of a model, and `Fold`, which combines the chunks of a stream into it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Any

from streamcore.chunk import CONTENT_KINDS, Chunk, FinishReason, Opaque, ToolCall, ToolResult, Usage
from streamcore.cost import Cost, reported
from streamcore.opaque_text import filled
from streamcore.parts import read_part, write_part
from streamcore.request import Message
from streamcore.storage.stored_json import dump, load, read_completion, write_completion
from streamcore.tool_call_fragments import merged, with_ids


@dataclass(frozen=True, slots=True)
class Attempt:
    """Describe one attempt to get an answer."""

    provider: str
    """The provider's name."""
    model: str | None
    """The model of the request; None if the provider chose it."""
    error: str | None = None
    """The error that ended the attempt; None if it succeeded."""
    usage: Usage | None = None
    """The tokens of this attempt. `Completion.usage` counts the last attempt only."""
    reported_cost: Cost | None = None
    """The cost of this attempt as a gateway reports it; None if it reports none."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Represent an answer: the complete one, or the part that has been received.

    All fields are those of choice 0; if the request asked for several answers, `alternatives` has the others.
    """

    text: str = ""
    """The text, exactly as the vendor sent it."""
    reasoning: str = ""
    """The text of the model's reasoning, or the vendor's summary of it."""
    refusal: str = ""
    """The text with which the model refused to answer."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that the model asks for, in order; each has an id."""
    citations: tuple[Mapping[str, Any], ...] = ()
    """The citations, in the vendor's format."""
    usage: Usage | None = None
    """The token counts of this answer; None if the vendor reported none."""
    finish_reason: FinishReason | None = None
    """Why the model stopped; None if the stream has not ended or gave no reason."""
    raw_finish_reason: str | None = None
    """The vendor's own name for the finish reason."""
    finish_detail: str | Mapping[str, Any] | None = None
    """The vendor's details of the finish reason; see `Chunk.finish_detail`."""
    model: str | None = None
    """The model that answered, as the vendor names it."""
    id: str | None = None
    """The vendor's id of the response."""
    request_id: str | None = None
    """The id of the HTTP request, for the vendor's support."""
    parsed: Any = None
    """The validated value of the text, if a schema was requested."""
    attempts: tuple[Attempt, ...] = ()
    """Every attempt that was made, in order."""
    complete: bool = False
    """True only if the vendor marked the end of the answer; a stream that was cut is never complete."""
    opaque: Opaque | None = field(default=None, repr=False)
    """The data that the next request must send back; `to_message` includes them."""
    alternatives: tuple[Completion, ...] = ()
    """The answers of the other choices."""
    reasoning_parts: tuple[str, ...] = ()
    """The parts of `reasoning`: summaries (Responses), thinking blocks (Anthropic)."""
    service_tier: str | None = None
    """The tier that served the request, as the vendor names it."""
    stop_sequence: str | None = None
    """The stop text that ended the answer."""
    logprobs: tuple[Any, ...] = field(default=(), repr=False)
    """An entry for each token, in the vendor's format, if logprobs were requested."""
    served_by: str | None = None
    """The vendor that a gateway sent the request to, as the gateway names it."""
    provider: str | None = None
    """The name of the provider that answers, or answered last."""
    reported_cost: Cost | None = None
    """The cost of the answer as a gateway reports it; None if it reports none. `cost` computes it where it can."""
    tool_results: tuple[ToolResult, ...] = ()
    """The results of those of its tool calls that an agent ran, in the order of the calls."""
    pending: tuple[ToolCall, ...] = ()
    """The calls of the last answer that wait for approval; see `stream_agent`."""
    steps: tuple[Completion, ...] = ()
    """Every answer of an agent's run, in order; all other fields are those of the last one, `usage` is the sum."""

    @property
    def cost(self) -> Cost | None:
        """The cost of all attempts and steps, as reported or from a price list; None if a part of it is unknown.

        It is computed when it is read; `streamcore.pricing.cost_of` takes other prices or another day.
        """
        found: Cost | None = import_module("streamcore.pricing").cost_of(self)  # a higher layer, and seldom used
        return found

    def to_json(self) -> str:
        """Return the answer as JSON, for any database; `from_json` of this version and later ones reads it.

        A `parsed` object is written as plain data, and `from_json` returns plain data.
        """
        return dump("completion", write_completion(self, write_part))

    @classmethod
    def from_json(cls, data: str | bytes) -> Completion:
        """Return the answer that `to_json` wrote.

        Raises:
            ValueError: the data are not JSON, not an answer, or of a later version.
        """
        return load("completion", data, lambda given: read_completion(given, cls, Attempt, read_part))

    def to_message(self) -> Message:
        """Return the assistant's message for the next turn, opaque data included.

        A request with a tool call that was cut raises `ConfigError`; check `ToolCall.complete` first. If the answer
        is empty, so is the message, and requests leave it out.
        """
        return Message(
            role="assistant",
            content=self.text or self.refusal or _transcript(self.opaque),
            tool_calls=self.tool_calls,
            opaque=self.opaque,
        )


def _transcript(opaque: Opaque | None) -> str:
    """Return the transcript of a spoken answer, for vendors that do not know its id."""
    audio: Mapping[str, Any] = (opaque.fields.get("audio") or {}) if opaque is not None else {}
    return audio.get("transcript") or ""


@dataclass(slots=True, eq=False)
class _Answer:
    """Collect the chunks of one choice."""

    text: list[str] = field(default_factory=list[str])
    reasoning: list[str] = field(default_factory=list[str])
    refusal: list[str] = field(default_factory=list[str])
    calls: dict[int, list[ToolCall]] = field(default_factory=dict[int, list[ToolCall]])
    citations: list[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    finish: Chunk | None = None
    logprobs: list[Any] = field(default_factory=list[Any])
    stop_sequence: str | None = None
    part_index: int = 0  # the `index` of the current part of the reasoning
    part_starts: list[int] = field(default_factory=list[int])
    """The positions in `reasoning` at which further parts begin."""
    undecided: list[str] = field(default_factory=list[str])  # text that may turn out to be reasoning
    opaque: Opaque | None = None
    breaks: list[int] = field(default_factory=list[int])
    """The number of texts before each reasoning block that is ordered among them."""

    def add(self, chunk: Chunk) -> None:
        """Add a chunk of this choice, of any kind."""
        match chunk.kind:
            case "reasoning":
                if chunk.data is not None or chunk.index != self.part_index:
                    self._begin_part(chunk)
                self.reasoning.append(chunk.text)
                if chunk.opaque is not None and self.text:
                    self.breaks.append(len(self.text))
            case "refusal":
                self.refusal.append(chunk.text)
            case "tool_call" if chunk.tool_call is not None:
                self.calls.setdefault(chunk.tool_call.position, []).append(chunk.tool_call)
            case "citation" if chunk.data is not None:
                self.citations.append(chunk.data)
            case "finish":
                # The last reason wins; a chunk without a reason does not replace one that has it.
                if self.finish is None or chunk.raw_finish_reason is not None:
                    self.finish = chunk
                self.opaque = chunk.opaque or self.opaque
                self.stop_sequence = (chunk.data or {}).get("stop_sequence") or self.stop_sequence
            case "other" if chunk.data is not None:
                self.logprobs += chunk.data.get("logprobs", ())
            case "text":  # of choice 0, `Fold` appends it
                self.text.append(chunk.text)
            case _:
                pass

    @property
    def begun(self) -> bool:
        """True once any content of this choice has been received."""
        return bool(self.text or self.reasoning or self.refusal or self.calls or self.citations)

    def _begin_part(self, chunk: Chunk) -> None:
        """Note where a part of the reasoning begins, or text of which `pipeline/think_tags.py` cannot yet tell."""
        data = chunk.data or {}
        if UNDECIDED in data:
            self.undecided.append(data[UNDECIDED])
        elif DECIDED in data:
            self.undecided.clear()
        elif chunk.text:
            self.part_index = chunk.index
            if self.reasoning:
                self.part_starts.append(len(self.reasoning))

    def _parts(self) -> tuple[str, ...]:
        """Return the parts of the reasoning."""
        bounds = (0, *self.part_starts, len(self.reasoning))
        parts = ("".join(self.reasoning[start:end]) for start, end in pairwise(bounds))
        return tuple(part for part in parts if part)

    def completion(self, seed: str, **common: Any) -> Completion:
        finish = self.finish
        reasoning = "".join(self.reasoning)
        return Completion(
            text="".join((*self.text, *self.undecided)),
            reasoning=reasoning,
            refusal="".join(self.refusal),
            tool_calls=with_ids([merged(fragments) for _, fragments in sorted(self.calls.items())], seed),
            citations=tuple(self.citations),
            reasoning_parts=self._parts(),
            stop_sequence=self.stop_sequence,
            logprobs=tuple(self.logprobs),
            finish_reason=finish.finish_reason if finish else None,
            raw_finish_reason=finish.raw_finish_reason if finish else None,
            finish_detail=finish.finish_detail if finish else None,
            opaque=None if self.opaque is None else filled(self.opaque, self.text, self.breaks, reasoning),
            **common,
        )


def merged_usage(known: Usage | None, new: Usage) -> Usage:
    """Return the counts of `new`, and those of `known` where `new` has 0 or None: counts never decrease."""
    if known is None:
        return new
    counts = {name: getattr(new, name) or getattr(known, name) or getattr(new, name) for name in _COUNTS}
    if all(counts[name] == getattr(new, name) for name in _COUNTS):
        return new
    return Usage(**counts, raw=new.raw if any(getattr(new, name) for name in _COUNTS) else known.raw)


_KINDS_WITH_FACTS = frozenset({"start", "usage", "finish", "other"})
_FACTS = frozenset({"service_tier", "served_by", "cost"})
_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


UNDECIDED, DECIDED = "undecided", "decided"
"""Keys in the `data` of a `reasoning` chunk without text: text that may be reasoning; the end of such text."""


class Fold:
    """Combine chunks into a `Completion`; `completion()` may be called at any time.

    Rules (each has a test): the last non-null count wins, and 0 does not replace more; a later finish reason wins;
    tool calls merge by `position`; a `restart` discards everything before it.
    """

    __slots__ = ("_answers", "_begun", "_content", "_facts", "_first", "_start", "breaks", "texts", "usage")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Discard everything that was added."""
        self._begun = False
        self._content = False
        self._facts: dict[str, Any] = {}
        self._first = _Answer()
        self._answers = defaultdict(_Answer, {0: self._first})  # by choice
        self._start: Chunk | None = None
        self.usage: Usage | None = None
        """The merged token counts."""
        self.texts, self.breaks = self._first.text, self._first.breaks
        """The texts of choice 0, until the next `reset`; a caller on the token path may append to it directly."""

    def add(self, chunks: Iterable[Chunk]) -> bool:
        """Add the chunks of one network read; return True if one of them is not a text of choice 0."""
        others = False
        for chunk in chunks:
            if chunk.kind == "text" and chunk.choice == 0:
                self.texts.append(chunk.text)
            elif chunk.kind in CONTENT_KINDS:
                self._content = others = True
                self._answers[chunk.choice].add(chunk)
            elif chunk.kind == "restart":
                self.reset()
            else:
                others = True
                self._note(chunk)
                self._answers[chunk.choice].add(chunk)
        return others

    def _note(self, chunk: Chunk) -> None:
        """Store what a chunk that is not content states about the answer as a whole."""
        self._begun = True
        if chunk.kind == "start" and self._start is None:
            self._start = chunk
        if chunk.data is not None and chunk.kind in _KINDS_WITH_FACTS:
            self._facts |= {name: value for name, value in chunk.data.items() if name in _FACTS}
        if chunk.usage is not None:
            self.usage = merged_usage(self.usage, chunk.usage)

    @property
    def finished(self) -> bool:
        """True once every answer that began has a `finish` chunk."""
        if self._first.finish is None and (self._first.begun or len(self._answers) == 1):
            return False
        return all(answer.finish is not None for choice, answer in self._answers.items() if choice)

    @property
    def has_content(self) -> bool:
        """True once a chunk of content was added; see `CONTENT_KINDS`."""
        return self._content or bool(self._first.text)

    @property
    def begun(self) -> bool:
        """True once any chunk was added."""
        return self._begun or self.has_content

    @property
    def model(self) -> str | None:
        """The model that answers, as the vendor names it."""
        return None if self._start is None else self._start.model

    @property
    def reported_cost(self) -> Cost | None:
        """The cost as a gateway reports it."""
        return reported(self._facts.get("cost"))

    def completion(
        self, *, complete: bool, attempts: tuple[Attempt, ...] = (), parsed: Any = None, provider: str | None = None
    ) -> Completion:
        """Return the answer so far; `complete` states whether the vendor marked its end."""
        start = self._start
        common: dict[str, Any] = {
            "complete": complete,
            "model": start.model if start else None,
            "id": start.id if start else None,
            "request_id": start.request_id if start else None,
            "service_tier": self._facts.get("service_tier"),
            "served_by": self._facts.get("served_by"),
        }
        seed = (start and start.id) or ""
        others = (answer.completion(seed, **common) for choice, answer in sorted(self._answers.items()) if choice != 0)
        return self._first.completion(
            seed,
            usage=self.usage,
            reported_cost=self.reported_cost,
            provider=provider,
            alternatives=tuple(others),
            attempts=attempts,
            parsed=parsed,
            **common,
        )
