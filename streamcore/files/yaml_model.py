"""Check YAML files with pydantic models, and describe what is wrong: file, line, key, what was expected."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from streamcore.files.yaml_file import Location, MakeError, YamlFile

Model = TypeVar("Model", bound="FileModel")
_building = threading.Lock()
"""Lets one thread at a time build validators."""


class FileModel(BaseModel):
    """A mapping in a YAML file: no unknown keys, and no guessing of types (`"1"` is no number).

    The validators are built with the first file that needs one: that takes longer than reading ten prompts, and most
    prompts need none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


@dataclass(frozen=True, slots=True)
class FromMapping:
    """Annotate a field whose type is a dataclass of settings: the file has a mapping, checked like a `FileModel`.

    The dataclass declares each setting once, for Python and for YAML: see `streamcore.files.settings`.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate with the model of the dataclass, then make the dataclass."""

        def make(found: FileModel) -> Any:
            return source(**found.model_dump(exclude_unset=True))

        return core_schema.no_info_after_validator_function(make, handler.generate_schema(settings_model(source)))


@cache
def settings_model(kind: Any) -> type[FileModel]:
    """Return the model that checks a mapping with the fields of a dataclass: their types, defaults and bounds."""
    hints = get_type_hints(kind)
    made: dict[str, Any] = {}
    for one in fields(kind):
        bounds = {name: bound for name, bound in one.metadata.items() if name in ("gt", "ge")}
        made[one.name] = (hints[one.name], Field(default=one.default, **bounds))
    return create_model(kind.__name__, __base__=FileModel, __doc__=kind.__doc__, **made)


def wrong(message: str, *at: str | int) -> PydanticCustomError:
    """Return the error that a validator raises; `at` is the path from its model to the key that is not valid."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "at": at})


def validate(model: type[Model], source: YamlFile, error: MakeError) -> Model:
    """Return a file's data as a model; everything that is wrong is raised at once, a line each, as `error(message)`."""
    if not model.__pydantic_complete__:
        with _building:
            model.model_rebuild()
    try:
        return model.model_validate(source.data)
    except ValidationError as problem:
        raise error(_explain(model, source, problem)) from problem


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return a suggestion to append to a message, "" if no name is similar."""
    import difflib

    near = difflib.get_close_matches(word, known, n=1) or [one for one in known if one.lower() == word.lower()]
    return f"; did you mean {near[0]!r}?" if near else ""


_EXPECTED: Mapping[str, str] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
}


def _explain(model: type[BaseModel], source: YamlFile, error: ValidationError) -> str:
    """Describe each problem: in which file and line it is, which key, and what was expected."""
    problems: dict[Location, list[ErrorDetails]] = {}
    for problem in error.errors(include_url=False):
        at = problem.get("ctx", {}).get("at", ())
        problems.setdefault(_where(source, (*problem["loc"], *at)), []).append(problem)
    # A union reports what each of its members expected; only the member that got furthest is of interest.
    reported = [
        (where, found)
        for where, found in problems.items()
        if not any(len(other) > len(where) and other[: len(where)] == where for other in problems)
        or not all(problem["type"] in _EXPECTED for problem in found)
    ]
    return "\n".join(
        f"{source.path}:{source.line(where)}: {message}"
        for where, found in sorted(reported, key=lambda one: source.line(one[0]))
        for message in _messages(model, source, where, found)
    )


def _where(source: YamlFile, location: Sequence[str | int]) -> Location:
    """Return the parts of pydantic's location that are keys of the file; it also names union members."""
    found: Location = ()
    for part in location:
        if (*found, part) in source.lines:
            found = (*found, part)
    return found


def _messages(
    model: type[BaseModel], source: YamlFile, where: Location, found: Sequence[ErrorDetails]
) -> Iterator[str]:
    key = ".".join(map(str, where))
    expected: list[str] = []
    for problem in found:
        context = problem.get("ctx", {})
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, where[:-1])
            yield f"unknown key {key!r}" + (did_you_mean(str(where[-1]), known) or f"; known are {', '.join(known)}")
        elif problem["type"] == "invalid_key":
            yield f"a key is text, not {key}"
        elif problem["type"] == "missing":
            yield f"the key {'.'.join(map(str, (*where, problem['loc'][-1])))!r} is missing"
        elif problem["type"] in _EXPECTED:
            expected.append(_EXPECTED[problem["type"]].format_map(context))
        else:
            message = context.get("message") or problem["msg"].removeprefix("Value error, ")
            yield f"{key}: {message}" if key else message
    if expected:
        value = found[0]["input"]
        what = f"expected {' or '.join(dict.fromkeys(expected))}, {_shown(value)}"
        yield (f"{key}: {what}" if key else what) + _hint(value, source.source(where), expected)


def _shown(value: object) -> str:
    if value is None:
        return "but there is nothing"
    if isinstance(value, Mapping):
        return "not a mapping"
    if isinstance(value, list):
        return "not a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return "not " + (text if len(text) <= 60 else text[:57] + "...")


def _hint(value: object, source: str, expected: Sequence[str]) -> str:
    if "text" in expected:
        if isinstance(value, Mapping | list) and source[:1] in ("{", "["):
            return "; a text that begins with a bracket must be in quotes or in a block (key: |)"
        if isinstance(value, bool | int | float):
            return "; put it in quotes"
    return ""


def _known_keys(model: type[BaseModel], where: Location) -> list[str]:
    """Return the keys that a model knows at a location."""
    kinds: list[Any] = [model]
    for part in where:
        kinds = [inner for kind in kinds for inner in _inside(kind, part)]
    return [field.alias or name for kind in kinds if _is_model(kind) for name, field in kind.model_fields.items()]


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    """Yield the models and containers that may be at a key of a model, or in a container."""
    if _is_model(kind):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                yield from _alternatives(field.annotation)
    else:
        yield from _alternatives(get_args(kind)[-1])


def _alternatives(kind: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself, as far as they contain models."""
    if get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _alternatives(member)
    elif get_origin(kind) is Annotated and any(isinstance(one, FromMapping) for one in kind.__metadata__):
        yield settings_model(kind.__origin__)
    elif get_origin(kind) in (list, dict) or _is_model(kind):
        yield kind


def _is_model(kind: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
