"""Fill a prompt's text with variables: `{name}` placeholders, or Jinja2 where `{{` or `{%` occur."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from jinja2 import Template

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_SCALARS = (str, int, float, bool, type(None))


class TemplateError(ValueError):
    """The text cannot be filled; `missing` names the variable if that is why."""

    def __init__(self, message: str, missing: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.missing = missing
        self.line = line


def is_jinja(text: str) -> bool:
    """True if the text is Jinja2 rather than one with placeholders."""
    return "{{" in text or "{%" in text


def fill(text: str, variables: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """Return the text with its variables filled in.

    Placeholders are identifiers and dotted paths; any other brace, as in JSON, stays. `state.x` reads the state.

    Raises:
        TemplateError: a variable is missing, or the Jinja2 text is wrong.
    """
    if is_jinja(text):
        return _jinja(text, variables, state)

    def value(match: re.Match[str]) -> str:
        return _written(_look_up(match[1], variables, state))

    return _PLACEHOLDER.sub(value, text)


def _look_up(path: str, variables: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
    first, *rest = path.split(".")
    found: Any
    if first in variables:
        found = variables[first]
    elif first == "state":
        found = state
    elif first in state:
        found = state[first]
    else:
        raise TemplateError(f"the variable {first!r} is missing", first)
    for part in rest:
        if isinstance(found, Mapping) and part in found:
            found = cast("Mapping[str, Any]", found)[part]
        elif not part.startswith("_") and part in _fields(found):
            found = getattr(found, part)
        else:
            raise TemplateError(f"the variable {path!r} is missing: there is no {part!r} in it", path)
    return found


def _fields(value: object) -> tuple[str, ...]:
    """Return the names of an object's data; nothing else of it can be reached from a prompt."""
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return tuple(getattr(type(value), "model_fields", ()))


def _written(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in cast("list[object]", value))
    return str(value)


def _jinja(text: str, variables: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError as JinjaError
    from jinja2 import TemplateSyntaxError, UndefinedError

    try:
        template = _compiled(text)
        names = {**_plain_mapping(state), **_plain_mapping(variables), "state": _plain_mapping(state)}
        return template.render(names)
    except TemplateSyntaxError as error:
        raise TemplateError(f"this is not valid Jinja2: {error.message}", line=error.lineno) from error
    except UndefinedError as error:
        found = re.match(r"'(.+?)' is undefined", str(error))
        name = found[1] if found else None
        message = f"the variable {name!r} is missing" if name else f"a variable is missing: {error}"
        raise TemplateError(message, name) from error
    except (JinjaError, ArithmeticError, TypeError, ValueError, LookupError, OverflowError) as error:
        raise TemplateError(f"the Jinja2 text failed: {error}") from error


@lru_cache(maxsize=256)
def _compiled(text: str) -> Template:
    """Compile in a sandbox that reaches no attribute but data and changes nothing; undefined names are errors."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(text)


def _plain_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) for key, value in values.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return the value as plain data: what a template gets has no methods of the caller's."""
    if isinstance(value, _SCALARS) or depth > 64:
        return value if isinstance(value, _SCALARS) else str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, depth + 1) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    names = _fields(value)
    if names:
        return {name: _plain(getattr(value, name), depth + 1) for name in names}
    return str(value)
