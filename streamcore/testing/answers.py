"""Make up answers: what the demo provider and the simulator say when no model is there to ask."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

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


def example(schema: Mapping[str, Any], name: str = "value") -> Any:
    """Return a value that fits a JSON Schema, as far as `type`, `enum`, limits and nesting go."""
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("enum", "examples"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(schema[key][0], name)
    return _of_type(schema, name)


def _of_type(schema: Mapping[str, Any], name: str) -> Any:
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    match cast("list[str]", kind)[0] if isinstance(kind, list) else str(kind):
        case "object":
            properties = cast("Mapping[str, Mapping[str, Any]]", schema.get("properties", {}))
            return {key: example(inner, key) for key, inner in properties.items()}
        case "array":
            return [example(schema.get("items", {}), name)] * max(1, int(schema.get("minItems", 1)))
        case "integer":
            return int(_within(schema, 1))
        case "number":
            return _within(schema, 0.5)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            text = f"a {name.replace('_', ' ')}"
            return text.ljust(int(schema.get("minLength", 0)), ".")[: int(schema.get("maxLength", 1000))]


def _within(schema: Mapping[str, Any], wanted: float) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if "exclusiveMinimum" in schema and "minimum" not in schema:
        low = schema["exclusiveMinimum"] + (1 if schema.get("type") == "integer" else 0.001)
    if low is not None and wanted < low:
        return float(low)
    if high is not None and wanted > high:
        return float(high)
    return wanted
