"""Load a YAML file safely and remember the line of every key, so that errors can point at it.

Refused, with file and line: aliases and merges (a few lines of them grow without bound), duplicate keys, more than
1 MiB, more than 64 levels. `yes`, `no`, `on` and `off` stay text, as in YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64

Location = tuple[str | int, ...]
"""Where in the data: keys and list positions, from the top."""
MakeError = Callable[[str], Exception]


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a file holds and where each of its keys stands."""

    path: Path
    data: Any
    lines: dict[Location, int] = field(repr=False)
    """The line, from 1, of every key and list item."""

    def line(self, location: Sequence[str | int]) -> int:
        """Return the line of a location, or of the nearest one above it that is in the file."""
        for end in range(len(location), -1, -1):
            line = self.lines.get(tuple(location[:end]))
            if line is not None:
                return line
        return 1


class _Loader(yaml.SafeLoader):
    """Resolve booleans as YAML 1.2 does: `true` and `false` only."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load_yaml(path: Path, error: MakeError) -> YamlFile:
    """Return the file's data with the lines of its keys; whatever is wrong is raised as `error(message)`."""
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from problem
    if len(raw) > MAX_BYTES:
        raise error(f"{path}: the file has {len(raw)} bytes; the limit is {MAX_BYTES}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: the file is not UTF-8: {problem}") from problem
    return _parse(path, text, error)


def _parse(path: Path, text: str, error: MakeError) -> YamlFile:
    try:
        _refuse_aliases(path, text, error)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[Location, int] = {(): 1}
            data = _build(loader, node, (), lines, path, error) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else 1
        column = mark.column + 1 if mark else 1
        what = " ".join(part for part in (problem.context, problem.problem) if part)
        raise error(f"{path}:{line}:{column}: this is not valid YAML: {what}") from problem
    except yaml.YAMLError as problem:
        raise error(f"{path}: this is not valid YAML: {problem}") from problem
    return YamlFile(path, data, lines)


def _refuse_aliases(path: Path, text: str, error: MakeError) -> None:
    """Walk the events first: they are flat, so that neither an alias bomb nor deep nesting can hurt here."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise error(f"{path}:{line}: YAML aliases (*{event.anchor}) are not supported; write the value out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise error(f"{path}:{line}: nested more than {MAX_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _build(
    loader: _Loader,
    node: yaml.Node,
    where: Location,
    lines: dict[Location, int],
    path: Path,
    error: MakeError,
) -> Any:
    if isinstance(node, yaml.SequenceNode):
        items: list[Any] = []
        for number, child in enumerate(node.value):
            lines[*where, number] = child.start_mark.line + 1
            items.append(_build(loader, child, (*where, number), lines, path, error))
        return items
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = loader.construct_object(key_node)  # type: ignore[no-untyped-call]
            if not isinstance(key, str | int | float | bool) and key is not None:
                raise error(f"{path}:{line}: a key must be a single word or text")
            if key in found:
                raise error(
                    f"{path}:{line}: the key {key!r} is there twice; the first is in line {lines[*where, key]}"
                )
            lines[*where, key] = line
            found[key] = _build(loader, value_node, (*where, key), lines, path, error)
        return found
    try:
        return loader.construct_object(node)  # type: ignore[no-untyped-call]
    except ValueError as problem:
        raise error(f"{path}:{node.start_mark.line + 1}: {problem}") from problem
