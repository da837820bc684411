"""Evaluate the expressions of a graph file, `{state.turn + 1}` or `critique.score < 0.8`, in Jinja2's sandbox."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2 import TemplateError as JinjaError

from streamcore.files.sandbox import Sandbox
from streamcore.files.template import TemplateError
from streamcore.files.yaml_file import is_list, is_mapping

# `{{ x }}` means `{x}`: authors write it, since prompts may be Jinja2.
_PART = re.compile(r"\{\{([^{}]++)\}\}|\{([^\W\d][^{}]*+)\}")

MAX_LENGTH = 10_000
"""The maximum number of characters of an expression."""
_SHOWN = 200

State = Mapping[str, Any]


class _Missing(ChainableUndefined):
    """Represent a path that does not exist: equal to null, and false in every other comparison."""

    def _no(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, _Missing)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __lt__ = __le__ = __gt__ = __ge__ = _no  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def _is_none(value: Any) -> bool:
    return value is None or isinstance(value, _Missing)


class _Expressions(Sandbox):
    def __init__(self) -> None:
        super().__init__()
        self.undefined = _Missing
        names: dict[str, Any] = self.globals
        names["null"] = None
        self.tests["none"] = _is_none

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Read a key of a mapping, never one of its methods."""
        if is_mapping(obj) and isinstance(argument, str):
            return obj[argument] if argument in obj else self.undefined(obj=obj, name=argument)
        return super().getitem(obj, argument)


_sandbox = functools.cache(_Expressions)


@functools.lru_cache(maxsize=1024)
def _compiled(text: str) -> Callable[[State], Any]:
    """Return an expression, without its braces, as a function of the state."""
    if len(text) > MAX_LENGTH:
        raise TemplateError(f"an expression may have at most {MAX_LENGTH} characters; {_shown(text)} has {len(text)}")
    try:
        return _sandbox().expression(text)
    except TemplateSyntaxError as error:
        raise TemplateError(f"{_shown(text)} is not a valid expression: {error.message}") from error
    except (RecursionError, SyntaxError) as error:  # of Python's compiler
        raise TemplateError(f"{_shown(text)} is nested too deeply; write it in parts") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def check_value(value: Any) -> None:
    """Check the syntax of the expressions in a value, nested values included.

    Raises:
        TemplateError: an expression is not valid.
    """
    if isinstance(value, str):
        if _is_expression(value):
            _whole(value)
    elif is_mapping(value) or is_list(value):
        _refuse_without_quotes(value)
        for inner in value.values() if is_mapping(value) else value:
            check_value(inner)


def _refuse_without_quotes(value: Any) -> None:
    """Refuse `{state.x}` without quotes, which YAML reads as the mapping `{"state.x": null}`."""
    if is_mapping(value) and len(value) == 1:
        ((key, inner),) = value.items()
        if inner is None and not key.isidentifier() and _is_expression(f"{{{key}}}"):
            raise TemplateError(f'{{{key}}} without quotes is a mapping in YAML; write "{{{key}}}"')


def check_condition(text: str) -> None:
    """Check the syntax of a condition; see `check_value`."""
    _condition(text)


def holds(text: str, state: State) -> bool:
    """Return whether a condition is true; a missing path and values that cannot be compared make it false.

    Raises:
        TemplateError: the condition failed.
    """
    return bool(_run(_condition(text), text, state, unfit=False))


def check_guard(text: str) -> None:
    """Check the syntax of a guard's check: a condition without calls, with the filters of `_GUARD_FILTERS` only.

    Raises:
        TemplateError: the check is not valid, or uses more than a check may.
    """
    inside = text.strip()[1:-1] if _is_expression(text) else text
    try:
        parsed = _guards().parse("{{" + inside + "}}")
    except TemplateSyntaxError as error:
        raise TemplateError(f"{text!r} is not a valid expression: {error.message}") from error
    call = parsed.find(nodes.Call)
    if call is not None:
        raise TemplateError(f"{text!r} calls a function, which a check may not; use a python node before it")
    for found in parsed.find_all(nodes.Filter):
        if found.name not in _GUARD_FILTERS:
            allowed = ", ".join(_GUARD_FILTERS)
            raise TemplateError(f"{text!r} uses the filter {found.name!r}; a check may use {allowed}")
    _guard(text)


def guard_holds(text: str, state: State, output: Any = None) -> bool:
    """Return whether a guard's check is true; it reads the state, and the node's output as `output`.

    Raises:
        TemplateError: the check failed.
    """
    return bool(_run(_guard(text), text, {**state, "output": output}, unfit=False))


def _file_exists(path: Any) -> bool:
    with suppress(OSError, ValueError):
        return isinstance(path, str) and Path(path).is_file()
    return False


def _dir_exists(path: Any) -> bool:
    with suppress(OSError, ValueError):
        return isinstance(path, str) and Path(path).is_dir()
    return False


def _type(value: Any) -> str:
    return type(None if isinstance(value, _Missing) else value).__name__


def _keys(value: Any) -> list[str]:
    return [*value] if is_mapping(value) else []


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | Mapping) else 0  # pyright: ignore[reportUnknownArgumentType]


_GUARD_FILTERS: Mapping[str, Callable[[Any], Any]] = {
    "length": _length,
    "file_exists": _file_exists,
    "dir_exists": _dir_exists,
    "type": _type,
    "keys": _keys,
}


@functools.cache
def _guards() -> _Expressions:
    """Return the sandbox of checks."""
    made = _Expressions()
    made.filters.update(_GUARD_FILTERS)
    return made


@functools.lru_cache(maxsize=256)
def _guard(text: str) -> Callable[[State], Any]:
    inside = text.strip()
    try:
        return _guards().expression(inside[1:-1] if _is_expression(inside) else inside)
    except TemplateSyntaxError as error:
        raise TemplateError(f"{text!r} is not a valid expression: {error.message}") from error


def resolve(value: Any, state: State) -> Any:
    """Return a value with its expressions evaluated; `state` is JSON data.

    A text that is one `{...}` as a whole becomes the expression's value, with its type; in any other text, each
    `{path}` is replaced by its value as text. A path that does not exist is null, and null as text is "".

    Raises:
        TemplateError: an expression failed.
    """
    if isinstance(value, str):
        if _is_expression(value):
            return _run(_whole(value), value, state)
        return _PART.sub(lambda part: _written(part, state), value)
    if is_mapping(value):
        return {key: resolve(inner, state) for key, inner in value.items()}
    if is_list(value):
        return [resolve(inner, state) for inner in value]
    return value


def names_in(text: str, *, condition: bool = False) -> Iterator[str]:
    """Yield the keys of the state that the expressions of a text, or a condition, read."""
    if condition or _is_expression(text):
        inside = [text.strip()[1:-1] if _is_expression(text) else text]
    else:
        inside = [part[1] or part[2] for part in _PART.finditer(text)]
    for one in inside:
        try:
            parsed = _sandbox().parse("{{" + one + "}}")
        except (TemplateSyntaxError, RecursionError):
            continue
        yield from meta.find_undeclared_variables(parsed) - {"state", *_sandbox().globals}
        for node in parsed.find_all(nodes.Getattr):
            if isinstance(node.node, nodes.Name) and node.node.name == "state":
                yield node.attr


def _is_expression(text: str) -> bool:
    """True if the text is one `{...}` as a whole."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return False
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return place == len(text) - 1
    return False


def _whole(text: str) -> Callable[[State], Any]:
    text = text.strip()
    doubled = _PART.fullmatch(text)
    if doubled is not None and doubled[1] and ":" not in doubled[1]:
        return _compiled(doubled[1].strip())
    try:
        return _compiled(text[1:-1].strip())
    except TemplateError as error:
        try:
            return _compiled(text)  # a literal mapping, {'role': 'user'}
        except TemplateError:
            raise error from None


def _condition(text: str) -> Callable[[State], Any]:
    return _whole(text) if _is_expression(text) else _compiled(text.strip())


def _written(part: re.Match[str], state: State) -> str:
    try:
        found = _run(_compiled((part[1] or part[2]).strip()), part[0], state)
    except TemplateError as error:
        if isinstance(error.__cause__, TemplateSyntaxError):
            return part[0]  # braces without an expression stay as they are
        raise
    return "" if found is None else ", ".join(map(str, found)) if is_list(found) else str(found)


def _run(expression: Callable[[State], Any], text: str, state: State, *, unfit: Any = None) -> Any:
    given = {key: value for key, value in state.items() if value is not None}  # null behaves like a missing path
    try:
        return _cleared(expression({**given, "state": given}))
    except UndefinedError:
        return unfit
    except TypeError as error:
        if unfit is not None:
            return unfit
        raise TemplateError(f"the expression {_shown(text)} failed: {error}") from error
    except (JinjaError, ArithmeticError, ValueError, LookupError, RecursionError) as error:
        raise TemplateError(f"the expression {_shown(text)} failed: {error}") from error


def _cleared(value: Any) -> Any:
    """Return a result with null for every missing path inside it."""
    if isinstance(value, _Missing):
        return None
    if is_mapping(value):
        return {str(key): _cleared(inner) for key, inner in value.items()}
    if is_list(value) or isinstance(value, tuple):
        return [_cleared(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    if hasattr(value, "__next__"):
        raise TemplateError("the result is a lazy sequence; add | list to make it a list")
    if isinstance(value, str | int | float | None):
        return value
    raise TemplateError(f"the result is a {type(value).__name__}, not a value; call a function with ()")
