"""Find a prompt file, validate it, and fill in its variables: from YAML to a `Request`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import AfterValidator, Field, model_validator

from streamcore.base.redact import encodable
from streamcore.errors import ConfigError, PromptError, PromptNotFound
from streamcore.files.template import TemplateError, check, fill
from streamcore.files.yaml_file import Location, Stamp, YamlFile, is_mapping, parse_yaml, read_yaml, stamp
from streamcore.files.yaml_model import FileModel, FromMapping, did_you_mean, validate, wrong
from streamcore.pipeline.smoother import StreamOptions
from streamcore.prompts.attachments import DocumentBlock, ImageBlock, check_url
from streamcore.prompts.prompt_tools import PromptToolBlock, PromptTools
from streamcore.prompts.schema import SchemaBlock
from streamcore.provider import ModelChoice, ResolvedModel
from streamcore.request import Message, Part, Request, Role, Text, ThinkTags
from streamcore.structured.output import Output
from streamcore.timeouts import Timeouts

_FOLDER = "STREAMCORE_PROMPTS_DIR"


_NOT_IN_A_FILE = ("api_key", "client", "http_client")


def _check_provider(given: str | dict[str, Any]) -> str | dict[str, Any]:
    if isinstance(given, str):
        return given
    if not isinstance(given.get("name"), str):
        raise wrong("a provider that is a mapping needs the key 'name', as in provider: {name: NAME, base_url: ...}")
    for key in _NOT_IN_A_FILE:
        if key in given:
            variable = f"{str(given['name']).upper().replace('-', '_')}_API_KEY"
            raise wrong(
                f"{key!r} does not belong in a file; set {variable} in the environment, or give a provider", key
            )
    return given


ProviderBlock = Annotated[str | dict[str, Any], AfterValidator(_check_provider)]
"""`provider:`, a name, or a mapping of `name` and the settings of `get_provider`."""


class FallbackBlock(FileModel):
    """One entry of `fallback:` that is a mapping."""

    provider: ProviderBlock
    model: str | None = None


class PromptFile(FileModel):
    """The keys of a prompt file."""

    version: Any = None
    name: str | None = None
    description: str | None = None
    system: str | None = None
    user: str | None = None
    template: str | None = None
    images: list[str | ImageBlock] = Field(default_factory=list[str | ImageBlock])
    documents: list[str | DocumentBlock] = Field(default_factory=list[str | DocumentBlock])
    provider: ProviderBlock | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    schema_: SchemaBlock | None = Field(default=None, alias="schema")
    output_schema: dict[str, Any] | None = None
    stop: str | list[str] | None = None
    tools: list[PromptToolBlock] = Field(default_factory=list[PromptToolBlock])
    reasoning: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | int | None = None
    think_tags: ThinkTags | None = None
    timeouts: Annotated[Timeouts, FromMapping()] | None = None
    max_bytes: int | None = Field(default=None, ge=1)
    stream_options: Annotated[StreamOptions, FromMapping()] | None = None
    fallback: list[str | FallbackBlock] = Field(default_factory=list[str | FallbackBlock])
    max_steps: int | None = Field(default=None, ge=1)
    max_tool_calls: int | None = Field(default=None, ge=1)
    max_parallel: int | None = Field(default=None, ge=1)
    metadata: Any = None
    suggestions: list[str] = Field(default_factory=list[str])

    @model_validator(mode="after")
    def _one_user_text(self) -> PromptFile:
        if self.user is not None and self.template is not None:
            raise wrong(
                "a prompt has either 'user' or 'template' (the text of the user's message), not both", "template"
            )
        if self.user is None and self.template is None:
            empty = next((key for key in ("user", "template") if key in self.model_fields_set), None)
            if empty:
                raise wrong("expected the text of the user's message, but there is nothing", empty)
            raise wrong("a prompt needs 'user' (or 'template'), the text of the user's message")
        if self.schema_ is not None and self.output_schema is not None:
            raise wrong("a prompt has either 'schema' or 'output_schema', not both", "output_schema")
        if self.output_schema is not None:
            from streamcore.structured.json_schema import schema_validator

            try:
                schema_validator(self.output_schema)
            except ConfigError as error:
                raise wrong(str(error), "output_schema") from error
        for key, entries in (("images", self.images), ("documents", self.documents)):
            for number, entry in enumerate(entries):
                if isinstance(entry, str) and "{" not in entry and entry.strip():
                    try:
                        check_url(entry)
                    except ValueError as error:
                        raise wrong(str(error), key, number) from error
        return self

    def fallbacks(self) -> list[str | Mapping[str, Any]]:
        """Return `fallback` as the functions of `streamcore.execute` take it."""
        return [one if isinstance(one, str) else one.model_dump(exclude_none=True) for one in self.fallback]

    def texts(self) -> Iterator[tuple[str, Role, str]]:
        """Yield the key, the role and the text of each message."""
        if self.system is not None:
            yield "system", "system", self.system
        if self.user is not None:
            yield "user", "user", self.user
        if self.template is not None:
            yield "template", "user", self.template

    def attachments(self) -> Iterator[tuple[Location, ImageBlock]]:
        """Yield the location and the block of each image and document; a text is a URL."""
        for number, image in enumerate(self.images):
            yield ("images", number), ImageBlock.model_construct(url=image) if isinstance(image, str) else image
        for number, document in enumerate(self.documents):
            yield (
                ("documents", number),
                DocumentBlock.model_construct(url=document) if isinstance(document, str) else document,
            )

    def templates(self) -> Iterator[tuple[Location, str]]:
        """Yield the location and the text of everything that may have variables."""
        for key, _, text in self.texts():
            yield (key,), text
        for location, block in self.attachments():
            for key, text in block.templates().items():
                yield self.text_location(location, key), text

    def text_location(self, location: Location, key: str) -> Location:
        """Return the location of a text of an image or a document, whose entry may be that text alone."""
        name, number = location
        return location if isinstance(getattr(self, str(name))[number], str) else (*location, key)

    def json_schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema of the answer, from `schema` or `output_schema`."""
        return self.schema_.json_schema() if self.schema_ is not None else self.output_schema


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file that was read and validated."""

    name: str
    file: PromptFile
    source: YamlFile

    tools: PromptTools
    """The tools of the file, made when they are first used."""

    @property
    def choice(self) -> ModelChoice:
        """The provider, model and temperature that the file names."""
        file = self.file
        return ModelChoice(file.provider, file.model, file.temperature, f"`provider:` in {self.source.path}")

    def output(self) -> Output | None:
        """Return how the answer is validated, None if the file has no schema."""
        if self.file.schema_ is not None:
            return self.file.schema_.output
        return None if self.file.output_schema is None else Output.of(self.file.output_schema)

    def render(self, variables: Mapping[str, Any], state: Mapping[str, Any], *, nulls: bool = True) -> list[Message]:
        """Return the messages with their variables filled in; with `nulls=False` a null that is written is an error.

        Raises:
            PromptError: a variable is missing, or a template failed; the message names file and line.
        """
        messages: list[Message] = []
        for key, role, text in self.file.texts():
            try:
                messages.append(Message(role, fill(text, variables, state, nulls=nulls)))
            except TemplateError as error:
                raise self._error((key,), error) from error
        parts = [self._attached(location, block, variables, state) for location, block in self.file.attachments()]
        if parts:
            *before, question = messages
            messages = [*before, Message("user", [*parts, Text(question.text)])]
        return messages

    def _attached(
        self,
        location: Location,
        block: ImageBlock,
        variables: Mapping[str, Any],
        state: Mapping[str, Any],
    ) -> Part:
        """Return an image or a document, with its variables filled in."""
        filled: dict[str, str] = {}
        for key, text in block.templates().items():
            try:
                filled[key] = fill(text, variables, state, nulls=False)
            except TemplateError as error:
                raise self._error(self.file.text_location(location, key), error) from error
        try:
            return block.part(filled, self.source.path.parent)
        except ValueError as error:
            where = f"{self.source.path}:{self.source.line(location)}"
            raise PromptError(f"{where}: prompt {self.name!r}, {'.'.join(map(str, location))}: {error}") from error

    def check_templates(self) -> None:
        """Check the Jinja2 syntax of all texts.

        Raises:
            PromptError: a text is not valid Jinja2.
        """
        for location, text in self.file.templates():
            try:
                check(text)
            except TemplateError as error:
                raise self._error(location, error) from error

    def _error(self, location: Location, error: TemplateError) -> PromptError:
        line = self.source.text_line(location, error.offset)
        return PromptError(f"{self.source.path}:{line}: prompt {self.name!r}, {'.'.join(map(str, location))}: {error}")


def load_prompt(name: str, *, prompts_dir: str | Path | None = None, graph_path: str | Path | None = None) -> Prompt:
    """Find and validate the prompt `name` (folders with `/`, without `.yaml`).

    The folders are searched in this order, where D is `prompts_dir` and G the folder of `graph_path`, if given:
    `G/D/<name>.yaml`, `D/<name>.yaml`, `G/<name>.yaml`, `G/prompts/<name>.yaml`; then `$STREAMCORE_PROMPTS_DIR`, or
    else `./prompts`; last, `a/b` is also looked up as `a/prompts/b.yaml`. A file that has changed is read again, and so
    is the first folder in which a file appears.

    Raises:
        PromptNotFound: no folder has the file; the message lists every path.
        PromptError: the file is not valid; the message names file and line.
    """
    slot = _cache_slot(name, prompts_dir, graph_path, os.environ.get(_FOLDER))
    prompt = slot[0].current()
    if prompt is None:
        path = find_prompt(name, prompts_dir=prompts_dir, graph_path=graph_path)
        before = stamp(path)  # taken before reading, so that the next call sees a change made meanwhile
        prompt = _load(name, path, read_yaml(path, PromptError))
        paths = (candidate for _, candidate in _candidates(name.split("/"), prompts_dir, graph_path))
        slot[0] = _CachedPrompt(tuple(takewhile(path.__ne__, paths)), path, before, prompt)
    return prompt


class _CachedPrompt(NamedTuple):
    """A prompt that was found, valid until its file changes or a path that is searched before it appears."""

    searched_before: tuple[Path, ...] = ()
    """The paths that are searched first and had no file."""
    path: Path = Path()
    stamp: Stamp | None = None
    prompt: Prompt | None = None

    def current(self) -> Prompt | None:
        """Return the prompt if a new search would find the same."""
        if self.stamp is None or stamp(self.path) != self.stamp or any(map(os.path.lexists, self.searched_before)):
            return None
        return self.prompt


@lru_cache(maxsize=256)
def _cache_slot(
    name: str, prompts_dir: str | Path | None, graph_path: str | Path | None, folder: str | None
) -> list[_CachedPrompt]:
    """Return a list of one item, the cached prompt for these arguments."""
    return [_CachedPrompt()]


def find_prompt(name: str, *, prompts_dir: str | Path | None = None, graph_path: str | Path | None = None) -> Path:
    """Return the path of a prompt's file; see `load_prompt`. Neither a name nor a link leads out of its folder."""
    if not isinstance(cast("object", name), str):
        raise PromptNotFound(
            f"a prompt's name is a text, as 'greet' for greet.yaml, not {name!r}; name its folder with prompts_dir="
        )
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        raise PromptNotFound(
            f"{name!r} is not a prompt's name: a name is the path of a file inside the prompt folder, without '.yaml' "
            "and with '/' between folders"
        )
    tried: list[str] = []
    candidates = _candidates(parts, prompts_dir, graph_path)
    for root, path in candidates:
        why = ""
        try:
            if path.is_file():
                if _leads_into(path, root):
                    return path
                why = f" (a link that leads out of {root})"
        except OSError as error:
            why = f" ({error.strerror})"
        tried.append(f"{path}{why}")
    hint = _similar(name, [root for root, _ in candidates if graph_path is None or root != Path(graph_path).parent])
    raise PromptNotFound(f"there is no prompt {name!r}{hint or ';'} tried: {', '.join(dict.fromkeys(tried))}")


def _candidates(
    parts: Sequence[str], prompts_dir: str | Path | None, graph_path: str | Path | None
) -> list[tuple[Path, Path]]:
    """Return each folder that is searched for a prompt, with the prompt's path in it."""
    *folders, last = parts
    inside = Path(*folders, f"{last}.yaml")
    roots: list[Path] = []
    beside = Path(graph_path).parent if graph_path is not None else None
    if beside is not None and prompts_dir is not None:
        roots.append(beside / prompts_dir)
    if prompts_dir is not None:
        roots.append(Path(prompts_dir))
    if beside is not None:
        roots += [beside, beside / "prompts"]
    roots.append(Path(os.environ.get(_FOLDER) or "prompts"))
    found = [(root, root / inside) for root in roots]
    own = Path(*folders, "prompts")
    if folders and _leads_into(own, Path()):
        found.append((own, own / inside.name))
    return found


def _leads_into(path: Path, root: Path) -> bool:
    """True if a path below a folder is still in it after all links are followed."""
    try:
        step = root
        for part in path.relative_to(root).parts:
            step = step / part
            if step.is_symlink():
                break
        else:
            return True
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that the file system rejects
        return False


def _similar(name: str, roots: Iterable[Path]) -> str:
    """Return a suggestion from the names of existing prompts; at most 500 files a folder are looked at."""
    if name.endswith((".yaml", ".yml")):
        return "; leave out the ending, '.yaml' is added;"
    known = {
        path.relative_to(root).with_suffix("").as_posix()
        for root in roots
        for path in islice(root.rglob("*.yaml"), 500)
    }
    return did_you_mean(name, sorted(known - {name}))


_PLAIN_TEXTS = frozenset({"name", "description", "system", "user", "template", "provider", "model"})
_PLAIN = _PLAIN_TEXTS | {"version", "metadata"}


def plain_file(data: object) -> PromptFile | None:
    """Return a prompt file that has only texts, as most have, without pydantic's validators; None for any other.

    Building the validators takes half of the time of a process's first prompt, and they would change nothing here.
    """
    if not is_mapping(data) or not data.keys() <= _PLAIN or ("user" in data) == ("template" in data):
        return None
    texts = [data[key] for key in _PLAIN_TEXTS & data.keys()]
    # pydantic refuses half a surrogate pair, which an escape in a YAML text can write.
    if any(type(text) is not str or (not text.isascii() and encodable(text) != text) for text in texts):
        return None
    return PromptFile.model_construct(**data)


@lru_cache(maxsize=256)
def _load(name: str, path: Path, raw: bytes) -> Prompt:
    source = parse_yaml(path, raw, PromptError)
    file = plain_file(source.data) or validate(PromptFile, source, PromptError)
    prompt = Prompt(name, file, source, PromptTools(name, source, file.tools))
    prompt.check_templates()
    return prompt


def build_request(
    prompt: Prompt,
    variables: Mapping[str, Any] | None,
    *,
    state: Mapping[str, Any] | None = None,
    resolved: ResolvedModel | None = None,
) -> Request:
    """Return the request of a prompt with its variables filled in.

    Args:
        prompt: the prompt.
        variables: the values of its placeholders.
        state: the values that `state.x` reads.
        resolved: the model and temperature, as `resolve_provider` returned them; None takes those of the file.

    Raises:
        PromptError: a variable is missing, or the function of a tool cannot be loaded.
    """
    given: Any = variables
    if not isinstance(given, Mapping | None):
        kind = type(given).__name__
        raise PromptError(f"the variables of prompt {prompt.name!r} are a mapping of names to values, not a {kind}")
    file = prompt.file
    source = resolved or prompt.choice
    return Request(
        messages=prompt.render(variables or {}, state or {}),
        model=source.model,
        temperature=source.temperature,
        max_tokens=file.max_tokens,
        stop=tuple([file.stop] if isinstance(file.stop, str) else file.stop or ()),
        tools=prompt.tools.ready(),
        output_schema=file.json_schema(),
        reasoning=file.reasoning,
        think_tags=file.think_tags,
    )
