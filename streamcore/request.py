"""Define `Request`, what is asked of a model, in the form that every provider understands."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from streamcore.chunk import Opaque, ToolCall
from streamcore.stored_json import Json, dump, load, read_calls, read_opaque, write_call, write_fields, write_opaque

Role = Literal["system", "user", "assistant", "tool"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ThinkTags = bool | Literal["paired", "open"]
"""What to do with `<think>` and `</think>` in the text of an answer.

False: they are text. `"paired"`: what is between them is reasoning. `"open"`: so is what is before the first
`</think>`, since the model's chat template writes the opening tag itself. Both stream text and reasoning at once.
True: for either kind; text before the first tag is kept back until a tag or the end of the answer shows what it is, so
an answer without tags comes at its end.
"""

DEFAULT_TEMPERATURE = 0.7
"""The temperature if nothing sets one, in every function."""


@dataclass(frozen=True, slots=True)
class Text:
    """A part of a message that is text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A part of a message that is an image: either its `url`, or its bytes as `data` with their `media_type`."""

    url: str | None = None
    data: bytes | None = None
    media_type: str | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise ValueError("an Image takes either url= or data=")
        if self.data is not None and self.media_type is None:
            raise ValueError("an Image with data= needs media_type=, as in 'image/png'")

    @property
    def base64(self) -> str:
        """The bytes in base64, "" for an image given by URL."""
        return base64.b64encode(self.data or b"").decode("ascii")

    @property
    def as_url(self) -> str:
        """The image as a URL; bytes become a `data:` URL."""
        return self.url if self.url is not None else f"data:{self.media_type};base64,{self.base64}"


Part = Text | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    A `tool` message answers the call named by `tool_call_id`. `opaque` comes from `Completion.to_message()`: a
    provider of the same wire sends it back verbatim, any other ignores it and uses `content` and `tool_calls`.
    """

    role: Role
    content: str | Sequence[Part] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    opaque: Opaque | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"unknown role {self.role!r}: expected 'system', 'user', 'assistant' or 'tool'")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message with role 'tool' needs tool_call_id=, the id of the call that it answers")
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        if not isinstance(self.content, str):
            object.__setattr__(self, "content", tuple(self.content))

    def to_json(self) -> str:
        """Return the message as JSON, for any database: images and opaque data included.

        `from_json` reads it, in this version and later ones.
        """
        parts = self.content if isinstance(self.content, str) else [_write_part(part) for part in self.parts]
        calls = [write_call(call) for call in self.tool_calls]
        written = write_fields(self, content=parts, tool_calls=calls, opaque=write_opaque(self.opaque))
        return dump("message", {"role": self.role, **written})

    @classmethod
    def from_json(cls, data: str | bytes) -> Message:
        """Return the message that `to_json` wrote.

        Raises:
            ValueError: the data are not JSON, not a message, or of a later version.
        """
        return load("message", data, _read_message)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content as parts; plain text is one `Text`, empty text none."""
        if isinstance(self.content, str):
            return (Text(self.content),) if self.content else ()
        return tuple(self.content)

    @property
    def text(self) -> str:
        """The texts of the content, joined; images are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def _write_part(part: Part) -> Json:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.url is not None:
        return {"type": "image", "url": part.url}
    return {"type": "image", "media_type": part.media_type, "data": part.base64}


def _read_part(given: Json) -> Part:
    if given["type"] == "text":
        return Text(given["text"])
    if given["type"] != "image":
        raise ValueError(f"this streamcore does not know parts of the type {given['type']!r}: update it")
    data = given.get("data")
    return Image(
        url=given.get("url"),
        data=None if data is None else base64.b64decode(data),
        media_type=given.get("media_type"),
    )


def _read_message(given: Json) -> Message:
    content = given.get("content", "")
    return Message(
        role=given["role"],
        content=content if isinstance(content, str) else [_read_part(part) for part in content],
        tool_calls=read_calls(given),
        tool_call_id=given.get("tool_call_id"),
        opaque=read_opaque(given.get("opaque")),
    )


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may ask to have called; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that one call to a model says; what is None is left to the vendor.

    A provider that cannot express a field that is set raises `ConfigError` rather than drop it.
    """

    messages: Sequence[Message]
    model: str | None = None
    """The vendor's name for the model; None takes the provider's."""
    temperature: float | None = None
    default_temperature: float | None = DEFAULT_TEMPERATURE
    """The temperature if `temperature` and `reasoning` are None; None leaves it to the vendor. A model that refuses it
    is asked again without it."""
    max_tokens: int | None = None
    """The most tokens to generate. Anthropic requires a number: there None means 8192."""
    stop: Sequence[str] = ()
    """Texts that end generation."""
    tools: Sequence[Tool] = ()
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of the one tool to call."""
    output_schema: Mapping[str, Any] | None = None
    """A JSON Schema that the answer must fit, by the vendor's own structured mode."""
    reasoning: ReasoningEffort | int | None = None
    """How hard to think: an effort, or (Anthropic) a budget in tokens."""
    seed: int | None = None
    cache: bool | str | None = None
    """Prompt caching: True asks Anthropic to cache, a text is OpenAI's and Mistral's cache key."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """More keys for the body of the vendor's request, passed through as they are."""
    include_raw: bool = False
    """Give every chunk its event's JSON in `raw`."""
    think_tags: ThinkTags | None = None
    """Split what the model writes between `<think>` and `</think>` from its text, as reasoning; see `ThinkTags`. None
    leaves it to the provider's setting."""

    def __post_init__(self) -> None:
        given: Any = self.messages
        if isinstance(given, str | Message) or not all(isinstance(one, Message) for one in given):
            raise TypeError("messages is a sequence of Message, as in Request([Message('user', 'Hello')])")
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))


def with_temperature(request: Request, temperature: float | None) -> Request:
    """Return the request with this temperature.

    Nearly every call from a prompt needs it; `dataclasses.replace` takes longer.
    """
    if type(request) is not Request:
        return replace(request, temperature=temperature)
    made: Request = object.__new__(Request)
    put = object.__setattr__
    for name in _FIELDS:
        put(made, name, getattr(request, name))
    put(made, "temperature", temperature)
    return made


_FIELDS = tuple(field.name for field in fields(Request))
