"""Make the answers that the demo provider and the simulator send in place of a model's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from streamcore.testing.simulator.example import example

_NO_ID, _NO_MODEL = "call_simulated_1", "simulated"
_TOKEN = re.compile(r"\s*\w{1,5}|\s*[^\w\s]|\s+")


def tokens(text: str) -> list[str]:
    """Cut a text into pieces about as a model does; they concatenate to the text."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A tool call of an answer; its arguments are streamed in small fragments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str = _NO_ID

    @property
    def fragments(self) -> list[str]:
        """The arguments as JSON, in the fragments in which they are sent."""
        text = json.dumps(self.arguments)
        return [text[start : start + 8] for start in range(0, len(text), 8)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What to stream: `reasoning`, then `tokens` one by one, then `calls`; `cut` ends it early."""

    tokens: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    calls: Sequence[PlannedCall] = ()
    model: str = _NO_MODEL
    cut: int | None = None
    """After this many events of content the body ends, properly but without the mark of the end."""

    @classmethod
    def of(cls, text: str, **more: Any) -> Answer:
        """Return the answer with this text."""
        return cls(tokens(text), **more)


def counted(number: int) -> Answer:
    """Return an answer of this many tokens."""
    words = tokens("The quick brown fox jumps over the lazy dog, again and again. ")
    return Answer([words[position % len(words)] for position in range(number)])


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a request that an answer may depend on."""

    text: str
    model: str = "simulated"
    tools: Sequence[tuple[str, Mapping[str, Any]]] = ()
    """Names and JSON Schemas of the tools that may be called."""
    schema: Mapping[str, Any] | None = None
    answered: str | None = None
    """The result of a tool call, if the last message is one."""
    step: int = 0
    """How many answers the conversation has since the user's last message: of an agent, the steps that are done."""


def in_steps(answers: Sequence[Answer | str]) -> Callable[[Asked], Answer]:
    """Return a function that plays these answers for the steps of an agent in turn; the last one is repeated.

    Calls without an id of their own get one that no other step has.

    Raises:
        ValueError: there is no answer.
    """
    if not answers:
        raise ValueError("a list of answers needs at least one")
    found = [Answer.of(one) if isinstance(one, str) else one for one in answers]

    def decide(asked: Asked) -> Answer:
        answer = found[min(asked.step, len(found) - 1)]
        calls = with_call_ids(answer.calls, f"call_{asked.step + 1}_{{}}")
        return replace(answer, calls=calls, model=asked.model if answer.model == _NO_MODEL else answer.model)

    return decide


def with_call_ids(calls: Sequence[PlannedCall], form: str, first: int = 1) -> list[PlannedCall]:
    """Return the calls with an id for those that have none of their own: `form` with the call's number."""
    numbered = enumerate(calls, first)
    return [replace(call, id=form.format(number)) if call.id == _NO_ID else call for number, call in numbered]


def plausible(asked: Asked) -> Answer:
    """Return a suitable answer: an object for a schema, a call if there are tools, else some sentences."""
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
