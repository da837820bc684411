"""Make up answers: what the demo provider and the simulator say when no model is there to ask."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from streamcore.testing.simulator.example import example

_TOKEN = re.compile(r"\s*\w{1,5}|\s*[^\w\s]|\s+")


def tokens(text: str) -> list[str]:
    """Cut a text about where a model would; the pieces concatenate to the text."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool call that an answer makes; its arguments are streamed in small fragments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str = "call_simulated_1"

    @property
    def fragments(self) -> list[str]:
        """The arguments as JSON, in the pieces in which they are sent."""
        text = json.dumps(self.arguments)
        return [text[start : start + 8] for start in range(0, len(text), 8)]


@dataclass(frozen=True, slots=True)
class Answer:
    """Say what to stream, and how: `tokens` one by one, then `calls`; `cut` ends it early without a mark."""

    tokens: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    calls: Sequence[PlannedCall] = ()
    model: str = "simulated"
    cut: int | None = None
    """After how many frames of content the bytes end, cleanly but without the terminal mark."""

    @classmethod
    def of(cls, text: str, **more: Any) -> Answer:
        """Return the answer that says this text."""
        return cls(tokens(text), **more)


def counted(number: int) -> Answer:
    """Return an answer of so many tokens."""
    words = tokens("The quick brown fox jumps over the lazy dog, again and again. ")
    return Answer([words[place % len(words)] for place in range(number)])


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides the answer."""

    text: str
    model: str = "simulated"
    tools: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Names and JSON Schemas of the tools that may be called."""
    schema: Mapping[str, Any] | None = None
    answered: str | None = None
    """The result of a tool call, if the last message is one."""


def plausible(asked: Asked) -> Answer:
    """Return a fitting answer: an object for a schema, a call where there are tools, else some sentences."""
    if asked.answered is not None:
        return Answer.of(f"The tool says: {asked.answered}", model=asked.model)
    if asked.tools:
        name, schema = asked.tools[0]
        return Answer(calls=[PlannedCall(name, cast("dict[str, Any]", example(schema)))], model=asked.model)
    if asked.schema is not None:
        return Answer.of(json.dumps(example(asked.schema), indent=2), model=asked.model)
    subject = " ".join(asked.text.split())
    shown = subject if len(subject) <= 160 else subject[:159].rstrip() + "…"
    return Answer.of(
        f"Hello! You asked: “{shown}”\n\n"
        "No model was called for this answer. It is made up here, cut into tokens and streamed through the "
        "same decoder as a vendor's, so what you see is how a real one arrives: word by word, with nothing lost.",
        model=asked.model,
    )
