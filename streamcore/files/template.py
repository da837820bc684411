"""Fill in the variables of a prompt's text: `{name}` placeholders, or Jinja2 if it contains `{{` or `{%`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from streamcore.files.sandbox import Sandbox

MAX_TEXT = 4 * 1024 * 1024
"""The maximum number of characters of a text whose variables are filled in."""
MAX_DEPTH = 64

_PLACEHOLDER = re.compile(r"\{([^\W\d]\w*(?:\.[^\W\d]\w*)*)\}")


class TemplateError(ValueError):
    """The variables of a text cannot be filled in; `offset` is the position of the cause."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


def is_jinja(text: str) -> bool:
    """Return whether the text is Jinja2 rather than a text with placeholders."""
    return "{{" in text or "{%" in text


def check(text: str) -> None:
    """Check the syntax of a text, without variables.

    Raises:
        TemplateError: the text is not valid Jinja2.
    """
    if is_jinja(text):
        try:
            _sandbox().compiled(text)
        except Exception as error:
            raise _jinja_error(text, error, {}, {}) from error


def needed(text: str) -> list[str]:
    """Return the names that a valid text needs, without those that have a default."""
    if not is_jinja(text):
        return list(dict.fromkeys(found[1].split(".")[0] for found in _PLACEHOLDER.finditer(text)))
    from jinja2 import meta, nodes

    tree = _sandbox().parse(text)
    optional = {
        inner.name
        for node in tree.find_all((nodes.Filter, nodes.Test))
        if node.name in ("default", "d", "defined", "undefined")
        for inner in [node.node, *(node.node.find_all(nodes.Name) if node.node is not None else ())]
        if isinstance(inner, nodes.Name)
    }
    return sorted(meta.find_undeclared_variables(tree) - optional - {"state"} - _sandbox().globals.keys())


def used(text: str) -> set[str]:
    """Return the names that a valid text reads, those with a default included."""
    if not is_jinja(text):
        return set(needed(text))
    from jinja2 import meta

    return meta.find_undeclared_variables(_sandbox().parse(text)) - _sandbox().globals.keys()


def always_written(text: str) -> list[str]:
    """Return the variables that a valid text always writes, as dotted paths.

    In Jinja2, these are the ones outside of every `if` and `for`, without a default.
    """
    if not is_jinja(text):
        return list(dict.fromkeys(found[1] for found in _PLACEHOLDER.finditer(text)))
    from jinja2 import nodes

    written = (inner for node in _sandbox().parse(text).body if isinstance(node, nodes.Output) for inner in node.nodes)
    return list(dict.fromkeys(path for node in written if (path := _path(node)) is not None))


def _path(node: object) -> str | None:
    """Return the dotted path that a node of a Jinja2 text reads, None if it is something else."""
    from jinja2 import nodes

    if isinstance(node, nodes.Filter) and node.name not in ("default", "d"):
        return _path(node.node)
    if isinstance(node, nodes.Getattr):
        holder = _path(node.node)
        return None if holder is None else f"{holder}.{node.attr}"
    return node.name if isinstance(node, nodes.Name) else None


def fill(text: str, variables: Mapping[str, Any], state: Mapping[str, Any], *, nulls: bool = True) -> str:
    """Return the text with its variables filled in.

    A name is looked up in the variables, then in the state, where null counts as missing; `state` is the state itself.
    Placeholders are identifiers and dotted paths; all other braces, such as those of JSON, are left unchanged.
    With `nulls=False` a null that is written is an error; else it becomes `None`.

    Raises:
        TemplateError: a variable is missing, the Jinja2 text is wrong, or the result is too long.
    """
    if not is_jinja(text):
        return _placeholders(text, variables, state, nulls)
    try:
        plain_state = _plain(state)
        named = {name: value for name, value in plain_state.items() if value is not None}
        return _sandbox(nulls).render(text, {**named, "state": plain_state, **_plain(variables)})
    except Exception as error:
        raise _jinja_error(text, error, variables, state) from error


def _placeholders(text: str, variables: Mapping[str, Any], state: Mapping[str, Any], nulls: bool) -> str:
    pieces: list[str] = []
    size = end = 0
    for match in _PLACEHOLDER.finditer(text):
        try:
            found = _look_up(match[1], variables, state)
            value = _written(found if nulls else _not_null(match[1], found))
        except TemplateError as error:
            error.offset = match.start()
            raise
        except RecursionError as error:
            raise TemplateError(f"the variable {match[1]!r} contains itself", match.start()) from error
        pieces += (text[end : match.start()], value)
        size += len(value)
        if size > MAX_TEXT:
            raise TemplateError(f"the text has more than {MAX_TEXT} characters with {match[1]!r}", match.start())
        end = match.end()
    return "".join((*pieces, text[end:]))


def _not_null(path: str, value: Any) -> Any:
    if value is None:
        raise TemplateError(f"the variable {path!r} has no value: it is null")
    return value


def _look_up(path: str, variables: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
    first, *rest = path.split(".")
    found: Any
    if first in variables:
        found = variables[first]
    elif first == "state":
        found = state
    elif state.get(first) is not None:
        found = state[first]
    else:
        named = [name for name, value in state.items() if value is not None and not name.startswith("_")]
        raise TemplateError(f"the variable {first!r} is missing{_hint(first, 'given were', [*variables, *named])}")
    for part in rest:
        inside = _inside(found)
        if part not in inside:
            hint = _hint(part, "it has", inside)
            raise TemplateError(f"the variable {path!r} is missing: there is no {part!r} in it{hint}")
        holder: Any = found
        found = holder[part] if isinstance(found, Mapping) else getattr(holder, part)
    return found


def _inside(value: Any) -> Collection[str]:
    return cast("Mapping[str, Any]", value).keys() if isinstance(value, Mapping) else _fields(value)


def _hint(name: str, introduction: str, names: Iterable[object]) -> str:
    """Return the names that exist, without their values, which may be secret."""
    known = sorted({str(one) for one in names})
    near = _nearest(name, known)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
    return f"{guess or ';'} {introduction} {shown or 'none'}"


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the name that is most like another one, in a list that may be empty."""
    import difflib

    return difflib.get_close_matches(name, list(known), n=1)


def _fields(value: object) -> tuple[str, ...]:
    """Return the names of an object's data; a prompt cannot read anything else of it."""
    names: Iterable[str] = ()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
    elif not isinstance(value, type):
        names = getattr(type(value), "model_fields", ())
    return tuple(name for name in names if not name.startswith("_"))


def _written(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_written(item) for item in cast("list[object]", value))
    return str(value.value if isinstance(value, Enum) else value)


@cache
def _sandbox(nulls: bool = True) -> Sandbox:
    from streamcore.files.sandbox import Sandbox

    return Sandbox(nulls=nulls)


def _plain(value: Any, depth: int = 0) -> Any:
    """Return the value as plain data, so that a template cannot call methods of the caller's objects."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth > MAX_DEPTH:
        raise ValueError(f"a variable is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if isinstance(value, Mapping):
        return {str(k): _plain(v, depth + 1) for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, Enum):
        return _plain(value.value, depth + 1)
    names = _fields(value)
    if names:
        return {name: _plain(getattr(value, name), depth + 1) for name in names}
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return "".join((str(value), ""))  # a plain str, also of a subclass


def _jinja_error(text: str, error: Exception, variables: Mapping[str, Any], state: Mapping[str, Any]) -> TemplateError:
    """Return the error of a Jinja2 text, with its position."""
    from jinja2 import TemplateSyntaxError, UndefinedError

    from streamcore.files.sandbox import NullWrittenError

    if isinstance(error, TemplateSyntaxError):
        return TemplateError(f"this is not valid Jinja2: {error.message}{_similar(error)}", _start(text, error.lineno))
    start = _start(text, _template_line(error.__traceback__))
    if isinstance(error, NullWrittenError):
        return _null_error(text, start, variables, state)
    if not isinstance(error, UndefinedError):
        return TemplateError(f"the Jinja2 text failed: {error or type(error).__name__}", start)
    found = re.search(r"'(\w+)' is undefined|has no attribute '(.+)'$", str(error))
    if found is None:
        return TemplateError(f"a variable is missing: {error}", start)
    name = found[1] or found[2]
    place = _path_to(name, text, start)
    path = place[0] if place and found[2] else name
    message = f"the variable {path!r} is missing" + (f": {error}" if found[2] else "")
    if found[1] or path.split(".")[0] in {*variables, *state, "state"}:
        try:
            _look_up(path, variables, state)
        except TemplateError as missing:
            message = str(missing)
    return TemplateError(message, place.start() if place else start)


def _path_to(name: str, text: str, start: int) -> re.Match[str] | None:
    """Return the first dotted path from `start` on that ends with a name."""
    found = re.compile(rf"\b{re.escape(name)}\b").search(text, start)
    if found is None:
        return None
    begin = found.start()
    while begin > start and (text[begin - 1] == "." or text[begin - 1].isalnum() or text[begin - 1] == "_"):
        begin -= 1
    path = re.compile(rf"(?:\w+\.)*\b{re.escape(name)}\b")
    return path.match(text, begin) or found


def _null_error(text: str, start: int, variables: Mapping[str, Any], state: Mapping[str, Any]) -> TemplateError:
    """Return the error for a null: it names the first variable that is null, from the failed line on."""
    seen: set[str] = set()
    for place in re.finditer(r"(?<![\w.'\"])[^\W\d]\w*(?:\.[^\W\d]\w*)*", text[start:]):
        root = place[0].partition(".")[0]
        if place[0] in seen or not (root == "state" or root in variables or root in state):
            continue
        seen.add(place[0])
        try:
            found = _look_up(place[0], variables, state)
        except TemplateError:
            continue
        if found is None:
            return TemplateError(f"the variable {place[0]!r} has no value: it is null", start + place.start())
    return TemplateError("a null is written here, which has no text", start)


def _similar(error: Exception) -> str:
    found = re.match(r"No (filter|test) named '(.+)'", str(error))
    known: Iterable[str] = vars(_sandbox())[f"{found[1]}s"] if found else ()
    near = _nearest(found[2], known) if found else []
    return f" Did you mean {near[0]!r}?" if near else ""


def _start(text: str, line: int) -> int:
    """Return the offset of the beginning of a line."""
    return sum(len(one) + 1 for one in text.split("\n")[: line - 1])


def _template_line(trace: TracebackType | None) -> int:
    """Return the line of the template that failed, which Jinja2 puts into the traceback."""
    line = 1
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
