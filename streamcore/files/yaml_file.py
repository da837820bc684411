"""Load a YAML file safely, with the position of every key and value for error messages.

These are refused, with file and line: aliases and merges (a few lines of them can expand without limit), duplicate
keys, tags, more than 1 MiB, more than 64 levels. Scalars are read as YAML 1.2 does: `yes`, `no`, `on`, `off`, dates and
`12:30` are text, `1e3` is a number.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
_RECENT_NS = 2_000_000_000  # the coarsest clock of a file system

Stamp = tuple[int, ...]
Location = tuple[str | int, ...]
"""A position in the data: keys and list indexes, from the top."""
MakeError = Callable[[str], Exception]

_HEADER = re.compile(r"(?:[!&]\S*\s+)*(?:[|>][^\n]*\n|['\"])?")
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|[^\n]|(?=\n))")


@dataclass(frozen=True, slots=True)
class YamlFile:
    """The data of a file and the position of each of its keys."""

    path: Path
    data: Any
    lines: dict[Location, int] = field(repr=False)
    """The line, from 1, of every key and list item."""
    text: str = field(repr=False)
    spans: dict[Location, tuple[int, int]] = field(repr=False)
    """The offsets in `text` at which the value of every key and list item begins and ends."""

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line of a location, or of its nearest ancestor in the file."""
        for end in range(len(location), -1, -1):
            line = self.lines.get(tuple(location[:end]))
            if line is not None:
                return line
        return 1

    def at(self, location: Location) -> YamlFile:
        """Return the part of the file at a location as a file; its lines are those of the whole file."""
        size = len(location)
        data: Any = self.data
        for part in location:
            data = data[part]
        lines = {where[size:]: line for where, line in self.lines.items() if where[:size] == location}
        spans = {where[size:]: span for where, span in self.spans.items() if where[:size] == location}
        return YamlFile(self.path, data, lines, self.text, spans)

    def source(self, location: Sequence[str | int]) -> str:
        """Return the source of a value, with its quotes or block indicator."""
        start, end = self.spans.get(tuple(location), (0, 0))
        return self.text[start:end]

    def text_line(self, location: Sequence[str | int], offset: int) -> int:
        """Return the line of the character at `offset` of a text, in any YAML style.

        Folding and indentation change only white space, so the other characters are counted on both sides.
        """
        value: Any = self.data
        for part in location:
            value = value[part]
        ahead = sum(not char.isspace() for char in str(value)[:offset])
        source = self.source(location)
        header = _HEADER.match(source)
        head = header[0] if header else ""
        body = source[len(head) :]
        if head.endswith("'"):
            body = body.replace("''", "'")
        elif head.endswith('"'):
            body = _ESCAPE.sub(lambda found: " " if found[0][1:2] in "ntr " else "x", body)
        line = self.text.count("\n", 0, self.spans[tuple(location)][0]) + head.count("\n") + 1
        for char in body:
            if char == "\n":
                line += 1
            elif not char.isspace():
                if ahead == 0:
                    return line
                ahead -= 1
        return self.line(location)


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value of a file is a mapping."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether a value of a file is a list."""
    return isinstance(value, list)


def in_memory(path: Path, data: Any) -> YamlFile:
    """Return data that is in no file as a `YamlFile`, with line 1 for all of it."""

    def places(value: Any, at: Location) -> Iterator[Location]:
        yield at
        inside: Any = value.items() if is_mapping(value) else enumerate(value) if is_list(value) else ()
        for key, inner in inside:
            yield from places(inner, (*at, key))

    return YamlFile(path, data, dict.fromkeys(places(data, ()), 1), "", {})


class _Loader(yaml.SafeLoader):
    """Resolve scalars as YAML 1.2 does; all others are text."""


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
)
_Loader.yaml_implicit_resolvers = {
    first: [(_TAG + name, re.compile(f"^(?:{pattern})$")) for name, pattern, firsts in _SCALARS if first in firsts]
    for first in ["", *"~nNtTfF-+.0123456789"]
}

_TAGS = frozenset(_TAG + name for name in ("str", "null", "bool", "int", "float", "seq", "map"))

# Parts of PyYAML's messages, and what usually helps.
_HINTS = (
    ("'\\t'", "indent with spaces, not with tabs"),
    ("mapping values are not allowed", "a text that contains ': ' must be in quotes or in a block (key: |)"),
    ("cannot start any token", "a text that begins with this character must be in quotes"),
    ("expected alphabetic or numeric character", "a text that begins with * or & must be in quotes"),
    ("could not find expected ':'", "a line at this level reads 'key: value'; long text goes in a block (key: |)"),
    ("unknown escape", "in double quotes a backslash is written twice; single quotes keep it as it is"),
    ("quoted scalar", "is the closing quote missing?"),
    ("flow ", "is a closing bracket missing? a text that begins with a bracket must be in quotes"),
    (
        "expected <block end>",
        "check the indentation; a text that begins with a quote or a bracket must be in quotes as a whole",
    ),
    ("expected a single document", "a file has one document: remove the line '---'"),
)


def load_yaml(path: Path, error: MakeError) -> YamlFile:
    """Read a file and return its data with the lines of its keys; raises `error(message)` if it is not valid."""
    return parse_yaml(path, read_yaml(path, error), error)


def read_yaml(path: Path, error: MakeError, limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a file; raises `error(message)` if there are more than `limit`."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    if len(raw) > limit:
        raise error(f"{path}: the file has more than {limit} bytes, which is the limit")
    return raw


def stamp(path: Path) -> Stamp | None:
    """Return a value that changes with the file; None if there is no file, or if it changed too recently to be sure.

    A file may be written twice within one tick of its file system's clock; then only its bytes differ.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    if time.time_ns() - changed < _RECENT_NS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def parse_yaml(path: Path, raw: bytes, error: MakeError) -> YamlFile:
    """Return the data of a file's bytes; see `load_yaml`."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise error(f"{path}:{line}: the file is not UTF-8: {problem.reason}") from problem
    try:
        _refuse_aliases(path, text, error)
        return _Reader(path, text, error).read()
    except yaml.MarkedYAMLError as problem:
        raise error(_syntax(path, problem)) from problem
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        column = problem.position - text.rfind("\n", 0, problem.position)
        what = f"the character {chr(int(problem.character))!r} is not allowed in it"
        raise error(f"{path}:{line}:{column}: this is not valid YAML: {what}") from problem


def _syntax(path: Path, problem: yaml.MarkedYAMLError) -> str:
    """Return the message of a syntax error; an unclosed quote or bracket is reported where it opens."""
    what = ", ".join(part for part in (problem.context, problem.problem) if part)
    at_end = "end of stream" in what or "<stream end>" in what
    mark = (problem.context_mark if at_end else None) or problem.problem_mark or problem.context_mark
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    hint = next((f" ({hint})" for sign, hint in _HINTS if sign in what), "")
    return f"{where}: this is not valid YAML: {what}{hint}"


def _refuse_aliases(path: Path, text: str, error: MakeError) -> None:
    """Check the flat list of events first, in which aliases are not expanded and nesting needs no recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise error(f"{path}:{line}: YAML aliases (*{event.anchor}) are not supported; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise error(f"{path}:{line}: nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Reader:
    """Turn the nodes of one file into data and their positions."""

    def __init__(self, path: Path, text: str, error: MakeError) -> None:
        self._path = path
        self._text = text
        self._error = error
        self._loader = _Loader(text)
        self._lines: dict[Location, int] = {(): 1}
        self._spans: dict[Location, tuple[int, int]] = {}

    def read(self) -> YamlFile:
        try:
            node = self._loader.get_single_node()
            data = self._value(node, ()) if node is not None else None
        finally:
            self._loader.dispose()
        return YamlFile(self._path, data, self._lines, self._text, self._spans)

    def _value(self, node: yaml.Node, where: Location) -> Any:
        self._spans[where] = (node.start_mark.index, node.end_mark.index)
        if node.tag not in _TAGS:
            tag = node.tag.replace(_TAG, "!!")
            raise self._wrong(node, f"the tag {tag} is not supported; write plain values")
        if isinstance(node, yaml.SequenceNode):
            items: list[Any] = []
            for number, child in enumerate(node.value):
                self._lines[*where, number] = child.start_mark.line + 1
                items.append(self._value(child, (*where, number)))
            return items
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, where: Location) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._wrong(
                    key_node, "a key must be text or a number; a text that begins with { or [ must be in quotes"
                )
            if key_node.value == "<<" and not key_node.style:
                raise self._wrong(key_node, "YAML merges (<<) are not supported; write the keys out")
            key = self._scalar(key_node)
            if key in found:
                first = self._lines[*where, key]
                raise self._wrong(key_node, f"the key {key!r} occurs twice; the first one is in line {first}")
            self._lines[*where, key] = key_node.start_mark.line + 1
            found[key] = self._value(value_node, (*where, key))
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._loader.construct_object(node)  # pyright: ignore[reportUnknownMemberType]
        except (ValueError, LookupError) as problem:
            kind = node.tag.rpartition(":")[2]
            raise self._wrong(node, f"{str(node.value)[:40]!r} cannot be read as {kind}") from problem

    def _wrong(self, node: yaml.Node, what: str) -> Exception:
        return self._error(f"{self._path}:{node.start_mark.line + 1}: {what}")
