"""Ask for an answer that fits a schema, and check it once, at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from streamcore.completion import Completion
from streamcore.errors import ConfigError, OutputValidationError
from streamcore.pipeline.json_text import documents, unfenced
from streamcore.request import Message, Request, Text

INSTRUCTION = "Answer with JSON only: no other text, no code fence. It must fit this JSON Schema:\n"
"""What a model is told whose vendor cannot hold it to a schema; the schema follows."""

UNFINISHED = ("tool_calls", "pause")
"""Finish reasons after which the answer is still to come, so that there is nothing to check."""

_SHOWN = 5
_EXCERPT = 80

Errors = Sequence[Mapping[str, Any]]
Load = Callable[[str], Any]


class MisfitError(ValueError):
    """A JSON text that does not fit; `errors` are mappings with `type`, `loc`, `msg` and `input`, as pydantic's."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(explain(errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True)
class Output:
    """What an answer must be."""

    name: str
    schema: Mapping[str, Any]
    """The JSON Schema that the model is asked to fit."""
    load: Load | None
    """Make the value of a JSON text, or raise `MisfitError`. None: the schema is asked for, but nothing is checked."""

    @classmethod
    def of(cls, wanted: Any) -> Output:
        """Return the output for a type that pydantic takes, or for a JSON Schema.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(wanted, Output):
            return wanted
        if isinstance(wanted, Mapping):
            try:
                return _of_schema(json.dumps(dict(cast("Mapping[str, Any]", wanted))))
            except TypeError as error:
                raise ConfigError(f"the output schema is no JSON: {error}") from error
        try:
            hash(wanted)
        except TypeError:  # a type with something in it that cannot be kept by, as `Annotated[int, []]`
            return _of_type.__wrapped__(wanted)
        return _of_type(wanted)

    def find(self, answer: Completion) -> tuple[str, Any]:
        """Return the JSON text and the value of a whole answer: the first JSON in it that fits.

        Raises:
            OutputValidationError: none does; without `errors` where asking again would not help.
        """
        assert self.load is not None  # noqa: S101  who does not check does not call
        misfits: list[tuple[int, Errors]] = []
        for document in documents(answer.text):
            try:
                return document, self.load(document)
            except MisfitError as misfit:
                misfits.append((len(document), misfit.errors))
        why = _no_answer(answer, self.name)
        if why is not None:
            raise OutputValidationError(f"{why}{_beginning(answer.text or answer.refusal)}")
        errors = max(misfits, key=lambda one: one[0])[1] if misfits else _no_json(answer.text)
        raise OutputValidationError(
            f"the answer does not fit {self.name!r}: {explain(errors)}{_beginning(answer.text)}", errors=errors
        )


def _no_answer(answer: Completion, name: str) -> str | None:
    """Say what came instead of an answer; None if it was one."""
    if answer.finish_reason == "content_filter":
        return f"a content filter stopped the answer, so there is no {name!r}"
    if answer.finish_reason == "refusal" or (answer.refusal and not answer.text):
        return f"the model refused to answer, so there is no {name!r}"
    if answer.finish_reason == "length":
        return f"the answer was cut at its token limit, so {name!r} is not whole; give more max_tokens"
    return None


def _beginning(text: str) -> str:
    if not text.strip():
        return "; it is empty"
    return f"; it begins with {text[:_EXCERPT]!r}" if len(text) > _EXCERPT else f"; it is {text!r}"


def _no_json(text: str) -> Errors:
    """Say why there is no JSON in a text."""
    text = unfenced(text)
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        return ({"type": "json_missing", "loc": (), "msg": "There is no JSON in it", "input": text[:_EXCERPT]},)
    from pydantic_core import from_json

    try:
        from_json(text[start:])
    except ValueError as error:
        why = f"Invalid JSON: {error}"
    else:
        why = "Invalid JSON"
    return ({"type": "json_invalid", "loc": (), "msg": why, "input": text[start : start + _EXCERPT]},)


def explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line which fields are wrong, and what was expected."""
    said: list[str] = []
    for error in errors[:_SHOWN]:
        where = ".".join(map(str, error["loc"]))
        got, message = repr(error["input"]), str(error["msg"])
        told = message.startswith(got) or error["type"] in ("json_missing", "json_invalid")
        plain = isinstance(error["input"], str | int | float | None)
        but = f", got {_short(got)}" if plain and not told else ""
        said.append((f"{where}: " if where else "") + _short(message) + but)
    if len(errors) > _SHOWN:
        said.append(f"and {len(errors) - _SHOWN} more")
    return "; ".join(said)


def _short(text: str) -> str:
    return text if len(text) <= 2 * _EXCERPT else f"{text[: 2 * _EXCERPT - 1]}…"


@lru_cache(maxsize=256)
def _of_type(wanted: Any) -> Output:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(wanted)
        schema = adapter.json_schema()
    except (PydanticUserError, NameError) as error:
        raise ConfigError(
            f"output_model {wanted!r} is nothing that pydantic can validate and describe: {error.args[0]}"
        ) from error

    def load(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            raise MisfitError(error.errors(include_url=False, include_context=False)) from error

    return Output(str(schema.get("title") or getattr(wanted, "__name__", wanted)), schema, load)


@lru_cache(maxsize=256)
def _of_schema(text: str) -> Output:
    from referencing.exceptions import Unresolvable

    schema: dict[str, Any] = json.loads(text)
    validator = schema_validator(schema)

    def load(text: str) -> Any:
        try:
            found: list[Any] = list(validator.iter_errors(value := json.loads(text)))
        except Unresolvable as error:
            raise ConfigError(f"the output schema refers to something outside of it: {error}") from error
        if found:
            raise MisfitError(
                [
                    {"type": one.validator, "loc": tuple(one.absolute_path), "msg": one.message, "input": one.instance}
                    for one in found
                ]
            )
        return value

    return Output(str(schema.get("title") or "answer"), schema, load)


def schema_validator(schema: Mapping[str, Any]) -> Any:
    """Return what checks data against a JSON Schema; references lead nowhere outside of it.

    Raises:
        ConfigError: it is no valid schema.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(
            f"the output schema is no JSON Schema: {f'{where}: ' if where else ''}{error.message}"
        ) from error
    return kind(schema, registry=Registry())  # pyright: ignore[reportUnknownArgumentType]  empty: fetches nothing


def instructed(request: Request, schema: Mapping[str, Any]) -> Request:
    """Return the request with the schema said in words, at the end of the system message."""
    told = INSTRUCTION + json.dumps(schema, ensure_ascii=False)
    first, *others = request.messages
    if first.role != "system":
        return replace(request, output_schema=None, messages=[Message("system", told), *request.messages])
    content = f"{first.content}\n\n{told}" if isinstance(first.content, str) else [*first.content, Text(f"\n\n{told}")]
    return replace(request, output_schema=None, messages=[replace(first, content=content), *others])


def corrected(request: Request, answer: Completion, errors: Errors) -> Request:
    """Return the request that asks again: the answer and what is wrong with it are the next turns."""
    said = [answer.to_message()] if answer.text else []
    told = f"That does not fit the schema: {explain(errors)}. Answer again: the whole JSON, and nothing else."
    return replace(request, messages=[*request.messages, *said, Message("user", told)])
