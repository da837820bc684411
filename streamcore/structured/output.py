"""Ask for an answer that fits a schema, and check it once, at its end.

Every answer imports this file, and few have a schema: what finds and checks JSON is imported when it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from streamcore.completion import Completion
from streamcore.errors import ConfigError, OutputValidationError
from streamcore.request import Message, Request, Text

INSTRUCTION = "Answer with JSON only: no other text, no code fence. It must fit this JSON Schema:\n"
"""The instruction for a model whose vendor does not enforce a schema; the schema follows."""

_CUT = ("length", "refusal", "content_filter")  # ends at which calls may be incomplete

_SHOWN = 5
_EXCERPT = 80

Errors = Sequence[Mapping[str, Any]]
Load = Callable[[str], Any]


class MisfitError(ValueError):
    """Report a JSON text that does not fit the schema; `errors` have `type`, `loc`, `msg`, `input`, as in pydantic."""

    def __init__(self, errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = tuple(errors)

    def __str__(self) -> str:
        return explain(self.errors)


def is_unfinished(answer: Completion) -> bool:
    """Return True if the answer follows in a later turn: the model has called tools, or paused.

    Several servers end an answer that calls tools with the finish reason of any other answer.
    """
    if answer.finish_reason in ("tool_calls", "pause"):
        return True
    return bool(answer.tool_calls) and answer.finish_reason not in _CUT


@dataclass(frozen=True, slots=True)
class Output:
    """Define the schema of an answer, and the function that validates it."""

    name: str
    schema: Mapping[str, Any]
    """The JSON Schema that is sent."""
    load: Load | None
    """Return the value of a JSON text, or raise `MisfitError`. None: the schema is sent, but nothing is checked."""

    @classmethod
    def of(cls, wanted: Any) -> Output:
        """Return the output for a type that pydantic accepts, or for a JSON Schema.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(wanted, Output):
            return wanted
        if isinstance(wanted, Mapping):
            try:
                return _of_schema(json.dumps(dict(cast("Mapping[str, Any]", wanted))))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"the output schema is not JSON: {error}") from error
            except RecursionError as error:
                raise ConfigError("the output schema is nested too deeply; use fewer levels") from error
        try:
            hash(wanted)
        except TypeError:  # it has a part without a hash, as `Annotated[int, []]`, and cannot be cached
            return _of_type.__wrapped__(wanted)
        return _of_type(wanted)

    def find(self, answer: Completion) -> tuple[str, Any]:
        """Return the JSON text and the value of a complete answer: the first JSON in it that fits.

        Raises:
            OutputValidationError: none fits; without `errors` if another request would not help.
        """
        from streamcore.structured.json_text import documents

        assert self.load is not None  # noqa: S101  called only to check
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
    """Describe what the model sent instead of an answer; None if it was an answer."""
    if answer.finish_reason == "content_filter":
        return f"a content filter stopped the answer, so there is no {name!r}"
    if answer.finish_reason == "refusal" or (answer.refusal and not answer.text):
        return f"the model refused to answer, so there is no {name!r}"
    if answer.finish_reason == "length":
        return f"the answer was cut at its token limit, so {name!r} is not complete; raise max_tokens"
    return None


def _beginning(text: str) -> str:
    if not text.strip():
        return "; it is empty"
    return f"; it begins with {text[:_EXCERPT]!r}" if len(text) > _EXCERPT else f"; it is {text!r}"


def _no_json(text: str) -> Errors:
    """Return the error that describes why a text has no JSON."""
    from streamcore.structured.json_text import is_too_deep, unfenced

    text = unfenced(text)
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        return ({"type": "json_missing", "loc": (), "msg": "The answer has no JSON", "input": text[:_EXCERPT]},)
    from pydantic_core import from_json

    if is_too_deep(text[start:]):
        return (_too_deep(text[start:]),)
    try:
        from_json(text[start:])
    except ValueError as error:
        why = f"Invalid JSON: {error}"
    else:
        why = "Invalid JSON"
    return ({"type": "json_invalid", "loc": (), "msg": why, "input": text[start : start + _EXCERPT]},)


def _too_deep(text: str) -> Mapping[str, Any]:
    """Return the error that describes JSON with too many levels."""
    from streamcore.structured.json_text import MAX_DEPTH

    why = f"The JSON is nested too deeply; use at most {MAX_DEPTH} levels"
    return {"type": "json_invalid", "loc": (), "msg": why, "input": text[:_EXCERPT]}


def explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Describe in one line which fields are wrong, and what was expected."""
    parts: list[str] = []
    for error in errors[:_SHOWN]:
        where = ".".join(map(str, error["loc"]))
        is_scalar = isinstance(error["input"], str | int | float | None)
        got, message = repr(error["input"]) if is_scalar else "", str(error["msg"])
        has_input = message.startswith(got) or error["type"] in ("json_missing", "json_invalid")
        but = f", got {_short(got)}" if is_scalar and not has_input else ""
        parts.append((f"{where}: " if where else "") + _short(message) + but)
    if len(errors) > _SHOWN:
        parts.append(f"and {len(errors) - _SHOWN} more")
    return "; ".join(parts)


def _short(text: str) -> str:
    return text if len(text) <= 2 * _EXCERPT else f"{text[: 2 * _EXCERPT - 1]}…"


@lru_cache(maxsize=256)
def _of_type(wanted: Any) -> Output:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(wanted)
        schema = adapter.json_schema()
    except RecursionError as error:
        raise ConfigError(f"output_model {wanted!r} refers to itself without an end") from error
    except (PydanticUserError, NameError) as error:
        raise ConfigError(
            f"output_model {wanted!r} is not a type that pydantic can validate and describe: {error.args[0]}"
        ) from error

    def load(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            raise MisfitError(error.errors(include_url=False, include_context=False)) from error
        except RecursionError as error:  # in a validator of the caller's
            raise MisfitError([_too_deep(text)]) from error

    return Output(str(schema.get("title") or getattr(wanted, "__name__", wanted)), schema, load)


@lru_cache(maxsize=256)
def _of_schema(text: str) -> Output:
    from referencing.exceptions import Unresolvable

    from streamcore.structured.json_schema import schema_validator

    schema: dict[str, Any] = json.loads(text)
    validator = schema_validator(schema)

    def load(text: str) -> Any:
        try:
            found: list[Any] = list(validator.iter_errors(value := json.loads(text)))
        except Unresolvable as error:
            raise ConfigError(f"the output schema has a reference to something outside it: {error}") from error
        except RecursionError as error:  # jsonschema calls itself several times for each level
            raise MisfitError([_too_deep(text)]) from error
        if found:
            raise MisfitError(
                [
                    {"type": one.validator, "loc": tuple(one.absolute_path), "msg": one.message, "input": one.instance}
                    for one in found
                ]
            )
        return value

    return Output(str(schema.get("title") or "answer"), schema, load)


def instructed(request: Request, schema: Mapping[str, Any]) -> Request:
    """Return the request with the schema as an instruction at the end of the system message."""
    instruction = INSTRUCTION + json.dumps(schema, ensure_ascii=False)
    first, *others = request.messages
    if first.role != "system":
        return replace(request, output_schema=None, messages=[Message("system", instruction), *request.messages])
    content = (
        f"{first.content}\n\n{instruction}"
        if isinstance(first.content, str)
        else [*first.content, Text(f"\n\n{instruction}")]
    )
    return replace(request, output_schema=None, messages=[replace(first, content=content), *others])


def corrected(request: Request, answer: Completion, errors: Errors) -> Request:
    """Return the next request, with the answer and a user message about its errors added to the conversation."""
    turns = [answer.to_message()] if answer.text else []
    correction = f"That does not fit the schema: {explain(errors)}. Answer again: the whole JSON, and nothing else."
    return replace(request, messages=[*request.messages, *turns, Message("user", correction)])
