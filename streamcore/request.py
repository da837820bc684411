"""Define `Request`, the input of a call to a model, in a form that every provider accepts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from streamcore.chunk import Opaque, ToolCall
from streamcore.parts import Document as Document
from streamcore.parts import Image as Image
from streamcore.parts import Part as Part
from streamcore.parts import Text as Text
from streamcore.parts import read_part, write_part
from streamcore.request_checks import check_entries, check_numbers, checked_parts
from streamcore.storage.stored_json import (
    Json,
    dump,
    load,
    read_calls,
    read_opaque,
    write_call,
    write_fields,
    write_opaque,
)

RunTool = Callable[[Mapping[str, Any], Any], Awaitable[Any]]
Role = Literal["system", "user", "assistant", "tool"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ThinkTags = bool | Literal["paired", "open"]
"""How to treat `<think>` and `</think>` in the text of an answer.

False: as text. `"paired"`: the text between the tags is reasoning. `"open"`: so is the text before the first
`</think>`, since the model's chat template contains the opening tag. Both stream text and reasoning immediately.
True: for models of either kind; text before the first tag is delayed until a tag or the end of the answer shows what it
is, so an answer without tags is delivered at its end.
"""

DEFAULT_TEMPERATURE = 0.7
"""The temperature if nothing sets one, in every function."""


@dataclass(frozen=True, slots=True)
class Message:
    """Represent one message of a conversation.

    Raises:
        TypeError: `content` is neither a text nor a sequence of parts.
        ValueError: the role is unknown, or the role is `tool` and `tool_call_id` is None.
    """

    role: Role
    """The sender: `system`, `user`, `assistant`, or `tool` for the result of a tool call."""
    content: str | Sequence[Part] = ""
    """The text, or a sequence of `Text`, `Image` and `Document`."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls that an assistant's message asks for."""
    tool_call_id: str | None = None
    """The id of the call whose result a `tool` message contains."""
    opaque: Opaque | None = field(default=None, repr=False)
    """Data of the vendor, set by `Completion.to_message`. They go back to the server that sent them, in its own form;
    any other provider uses `content` and `tool_calls` only. The guide "Conversations" lists what each one gets."""
    is_error: bool = False
    """True for the result of a tool that failed. Vendors that have a field for it get it (Anthropic); `content` has to
    say it, too."""

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant", "tool"):
            raise ValueError(f"unknown role {self.role!r}: expected 'system', 'user', 'assistant' or 'tool'")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message with role 'tool' needs tool_call_id=, the id of the call that it answers")
        object.__setattr__(self, "tool_calls", tuple(self.tool_calls))
        if not isinstance(self.content, str):
            object.__setattr__(self, "content", checked_parts(self.content))

    def to_json(self) -> str:
        """Return the message as JSON, for any database; `from_json` of this version and later ones reads it.

        Images, documents and opaque data are included.
        """
        parts = self.content if isinstance(self.content, str) else [write_part(part) for part in self.parts]
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
        """The content as a tuple of parts: one `Text` for a text, none for an empty text."""
        if isinstance(self.content, str):
            return (Text(self.content),) if self.content else ()
        return tuple(self.content)

    @property
    def text(self) -> str:
        """The texts of the content, joined without a separator; images and documents are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def _read_message(given: Json) -> Message:
    content = given.get("content", "")
    return Message(
        role=given["role"],
        content=content if isinstance(content, str) else [read_part(part) for part in content],
        tool_calls=read_calls(given),
        tool_call_id=given.get("tool_call_id"),
        opaque=read_opaque(given.get("opaque")),
        is_error=given.get("is_error", False),
    )


@dataclass(frozen=True, slots=True)
class Tool:
    """Describe a function that the model may call.

    A tool without `run` is only a description: its calls return to the caller. `streamcore.tools.tool` makes one that
    an agent runs.
    """

    name: str
    """The function's name, as tool calls contain it."""
    description: str = ""
    """What the function does, for the model."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})
    """The JSON Schema of the arguments."""
    run: RunTool | None = field(default=None, compare=False)
    """Runs the tool: an async function of the arguments and a `ToolContext` that returns the result."""
    timeout: float | None = None
    """How long one call may take, in seconds; None is no limit but the clocks of the stream."""
    needs_approval: bool | Callable[[Mapping[str, Any]], bool] = False
    """True if a call runs only once it is approved; or a function of the arguments that tells it."""
    sequential: bool = False
    """True if no other call of the same step may run at the same time."""
    retries: int = 0
    """How many times a call that failed is repeated before the model gets the error."""
    idempotent: bool = False
    """True if a call may run again after the process died while it ran; else the model gets an error for it."""


@dataclass(frozen=True, slots=True)
class Request:
    """Describe one call to a model; the vendor decides every field that is None.

    A provider raises `ConfigError` for a field that its vendor's API cannot express; it never drops one.

    Raises:
        TypeError: `messages` is not a sequence of `Message`, `tools` not one of `Tool`, or a number is given as text.
    """

    messages: Sequence[Message]
    """The conversation, in order."""
    model: str | None = None
    """The vendor's name for the model; None uses the provider's model."""
    temperature: float | None = None
    """The sampling temperature; None: see `default_temperature`."""
    default_temperature: float | None = DEFAULT_TEMPERATURE
    """The temperature if `temperature` and `reasoning` are None; None leaves it to the vendor. If the model refuses
    this temperature, the request is sent again without it."""
    max_tokens: int | None = None
    """The maximum number of tokens to generate. Anthropic requires a number; for it, None means 8192."""
    stop: Sequence[str] = ()
    """Texts that end generation."""
    tools: Sequence[Tool] = ()
    """The tools that the model may call."""
    tool_choice: str | None = None
    """`auto`, `none`, `required`, or the name of the one tool to call."""
    output_schema: Mapping[str, Any] | None = None
    """A JSON Schema that the answer must fit; the vendor's structured output enforces it."""
    reasoning: ReasoningEffort | int | None = None
    """How much the model reasons: an effort, or (Anthropic) a budget in tokens."""
    seed: int | None = None
    """The seed of the sampling, for answers that repeat as far as the vendor supports it."""
    cache: bool | str | None = None
    """Prompt caching: True turns it on (Anthropic), a string is the cache key (OpenAI, Mistral)."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Additional keys for the body of the vendor's request, sent unchanged."""
    include_raw: bool = False
    """Set `Chunk.raw` to the event's JSON on every chunk."""
    think_tags: ThinkTags | None = None
    """How to treat `<think>` and `</think>` in the text; see `ThinkTags`. None uses the provider's setting."""

    def __post_init__(self) -> None:
        check_entries(self.messages, Message, _MESSAGES)
        check_entries(self.tools, Tool, _TOOLS)
        check_numbers(self)
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))


def with_temperature(request: Request, temperature: float | None) -> Request:
    """Return a copy of the request with this temperature.

    Nearly every call from a prompt needs one, and `dataclasses.replace` takes longer.
    """
    if type(request) is not Request:
        return replace(request, temperature=temperature)
    made: Request = object.__new__(Request)
    for name in _FIELDS:
        object.__setattr__(made, name, getattr(request, name))
    object.__setattr__(made, "temperature", temperature)
    return made


_MESSAGES = "messages is a sequence of Message, as in Request([Message('user', 'Hello')])"
_TOOLS = "tools of a Request are Tool(...); give functions and MCP servers to stream_agent(request, tools=[...])"
_FIELDS = tuple(field.name for field in fields(Request))
