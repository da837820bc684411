"""Find a prompt file, check it whole, and fill it in: YAML -> `Request`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamcore.errors import PromptError, PromptNotFound
from streamcore.request import Message, Request, Tool
from streamcore.schema import field_schema, object_schema
from streamcore.template import TemplateError, fill, is_jinja
from streamcore.yamlfile import YamlFile, load_yaml

DEFAULT_TEMPERATURE = 0.7


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SchemaField(_Model):
    """One field of `schema.fields`."""

    type: str
    description: str | None = None
    default: Any = None
    optional: bool = False
    constraints: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> SchemaField:
        self.json_schema()
        return self

    def json_schema(self) -> dict[str, Any]:
        """Return the field's JSON Schema."""
        return field_schema(self.type, self.description, self.constraints, optional=self.optional, default=self.default)


class SchemaBlock(_Model):
    """`schema:`, the short way to say what the answer must look like."""

    name: str
    fields: dict[str, SchemaField]

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the answer."""
        fields = {
            name: (field.json_schema(), not field.optional and field.default is None)
            for name, field in self.fields.items()
        }
        return object_schema(self.name, fields)


class ToolBlock(_Model):
    """One entry of `tools:`."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})


class PromptFile(_Model):
    """Everything that a prompt file may hold."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)

    version: Any = None
    name: str | None = None
    description: str | None = None
    system: str | None = None
    user: str | None = None
    template: str | None = None
    provider: str | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    schema_: SchemaBlock | None = Field(default=None, alias="schema")
    output_schema: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    tools: list[ToolBlock] = Field(default_factory=list[ToolBlock])
    reasoning: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | int | None = None

    @model_validator(mode="after")
    def _one_user_text(self) -> PromptFile:
        if (self.user is None) == (self.template is None):
            raise ValueError("a prompt has either 'user' or 'template', the text of the user's message")
        if self.schema_ is not None and self.output_schema is not None:
            raise ValueError("a prompt has either 'schema' or 'output_schema', not both")
        return self

    def json_schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema that the answer must fit, from either key."""
        return self.schema_.json_schema() if self.schema_ is not None else self.output_schema


# Keys of the dialect that this version does not act upon; silently ignoring them would be worse than an error.
_NOT_YET = frozenset({"timeouts", "fallback"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file that was read and found right."""

    name: str
    file: PromptFile
    source: YamlFile

    def render(self, variables: Mapping[str, Any], state: Mapping[str, Any]) -> list[Message]:
        """Return the messages with their variables filled in.

        Raises:
            PromptError: a variable is missing, or a template is wrong.
        """
        messages: list[Message] = []
        if self.file.system is not None:
            messages.append(Message("system", self._fill("system", self.file.system, variables, state)))
        key = "user" if self.file.user is not None else "template"
        text = self.file.user if self.file.user is not None else self.file.template or ""
        messages.append(Message("user", self._fill(key, text, variables, state)))
        return messages

    def _fill(self, key: str, text: str, variables: Mapping[str, Any], state: Mapping[str, Any]) -> str:
        try:
            return fill(text, variables, state)
        except TemplateError as error:
            line = self._line(key, text, error)
            given = ", ".join(sorted(map(str, variables))) or "none"
            hint = f"; given were: {given}" if error.missing is not None else ""
            raise PromptError(f"{self.source.path}:{line}: prompt {self.name!r}, {key}: {error}{hint}") from error

    def _line(self, key: str, text: str, error: TemplateError) -> int:
        """Return the line of the file where the trouble is, as near as it can be told."""
        start = self.source.line((key,))
        lines = text.splitlines()
        block = len(lines) > 1  # a block scalar begins in the line after its key
        if error.line is not None:
            return start + error.line - (0 if block else 1)
        marks = ("{{", "{%") if is_jinja(text) else ("{",)
        for number, line in enumerate(lines):
            if error.missing and error.missing in line and any(mark in line for mark in marks):
                return start + number + (1 if block else 0)
        return start


def load_prompt(name: str, *, prompts_dir: str | Path | None = None, graph_path: str | Path | None = None) -> Prompt:
    """Find and check the prompt `name` (folders with `/`, without `.yaml`).

    Looked for in this order: next to the graph, in `prompts_dir`, in `$STREAMCORE_PROMPTS_DIR` or `./prompts`, and
    in a folder `prompts` beside the last part of the name.

    Raises:
        PromptNotFound: it is in none of them; the message lists every path.
        PromptError: the file is wrong; the message has file and line.
    """
    path = find_prompt(name, prompts_dir=prompts_dir, graph_path=graph_path)
    stamp = path.stat()
    return _load(name, path, stamp.st_mtime_ns, stamp.st_size)


def find_prompt(name: str, *, prompts_dir: str | Path | None = None, graph_path: str | Path | None = None) -> Path:
    """Return the path of a prompt's file; see `load_prompt`."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise PromptNotFound(
            f"{name!r} is no name of a prompt: it is a file in the prompt folder, without .yaml, "
            "with / for folders inside it"
        )
    tried: list[str] = []
    for root, relative in _candidates(parts, prompts_dir, graph_path):
        path = root.joinpath(*relative[:-1], relative[-1] + ".yaml")
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path
        tried.append(str(path))
    near = _similar(name, prompts_dir)
    raise PromptNotFound(f"there is no prompt {name!r}{near}; tried: {', '.join(tried)}")


def _candidates(
    parts: Sequence[str], prompts_dir: str | Path | None, graph_path: str | Path | None
) -> list[tuple[Path, Sequence[str]]]:
    """Return each folder that a prompt may stand in, with the name inside it; a name never leaves its folder."""
    found: list[tuple[Path, Sequence[str]]] = []
    if graph_path is not None:
        beside = Path(graph_path).parent
        if prompts_dir is not None:
            found.append((beside / prompts_dir, parts))
        else:
            found += [(beside / "prompts", parts), (beside, parts)]
    if prompts_dir is not None:
        found.append((Path(prompts_dir), parts))
    found.append((Path(os.environ.get("STREAMCORE_PROMPTS_DIR") or "prompts"), parts))
    if len(parts) > 1:
        found.append((Path(*parts[:-1]) / "prompts", parts[-1:]))
    return found


def _similar(name: str, prompts_dir: str | Path | None) -> str:
    root = Path(prompts_dir or os.environ.get("STREAMCORE_PROMPTS_DIR") or "prompts")
    names = [path.relative_to(root).with_suffix("").as_posix() for path in sorted(root.rglob("*.yaml"))[:500]]
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


@lru_cache(maxsize=256)
def _load(name: str, path: Path, _modified: int, _size: int) -> Prompt:
    source = load_yaml(path, PromptError)
    data: Any = source.data
    if not isinstance(data, dict):
        raise PromptError(f"{path}:1: a prompt file is a mapping with 'user' (or 'template') and perhaps 'system'")
    fields = cast("dict[str, Any]", data)
    for key in _NOT_YET.intersection(fields):
        raise PromptError(f"{path}:{source.line((key,))}: {key!r} is not supported by this version; take it out")
    try:
        return Prompt(name, PromptFile.model_validate(fields), source)
    except ValidationError as error:
        raise PromptError(_explain(source, error)) from error


def _explain(source: YamlFile, error: ValidationError) -> str:
    """Say for each problem in which file and line it is, which key, and what was expected."""
    problems: list[str] = []
    for problem in error.errors(include_url=False):
        where = tuple(part for part in problem["loc"] if part in _keys(source, problem["loc"]))
        key = ".".join(map(str, where))
        if problem["type"] == "extra_forbidden":
            known = [field.alias or name for name, field in PromptFile.model_fields.items()]
            near = difflib.get_close_matches(str(where[-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            message = f"unknown key {key!r}{hint if len(where) == 1 else ''}"
        elif problem["type"] == "missing":
            message = f"the key {'.'.join(map(str, (*where, problem['loc'][-1])))!r} is missing"
        else:
            message = f"{key}: {problem['msg']}" if key else problem["msg"].removeprefix("Value error, ")
            if key and not isinstance(problem["input"], dict | list):
                message += f", not {problem['input']!r}"
        entry = f"{source.path}:{source.line(where)}: {message}"
        if entry not in problems:
            problems.append(entry)
    return "\n".join(problems)


def _keys(source: YamlFile, location: Sequence[str | int]) -> list[str | int]:
    """Return the parts of pydantic's location that are keys of the file; it also names union members."""
    found: list[str | int] = []
    for part in location:
        if (*found, part) in source.lines:
            found.append(part)
    return found


def build_request(
    prompt: Prompt,
    variables: Mapping[str, Any] | None,
    *,
    state: Mapping[str, Any] | None = None,
    model: str | None = None,
    temperature: float | None = None,
) -> Request:
    """Fill a prompt in; arguments go before what the file says, and 0.7 is the temperature that nobody set.

    Raises:
        PromptError: a variable is missing.
    """
    file = prompt.file
    return Request(
        messages=prompt.render(variables or {}, state or {}),
        model=model or file.model,
        temperature=file.temperature if temperature is None else temperature,
        # Vendors refuse a temperature together with reasoning.
        default_temperature=DEFAULT_TEMPERATURE if file.reasoning is None else None,
        max_tokens=file.max_tokens,
        stop=tuple([file.stop] if isinstance(file.stop, str) else file.stop or ()),
        tools=tuple(Tool(tool.name, tool.description, tool.parameters) for tool in file.tools),
        output_schema=prompt.file.json_schema(),
        reasoning=file.reasoning,
    )
