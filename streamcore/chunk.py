"""Define `Chunk`, the one normalized piece of a vendor's stream, and the small types that it carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

ChunkKind = Literal[
    "start",
    "text",
    "reasoning",
    "refusal",
    "tool_call",
    "citation",
    "usage",
    "finish",
    "ping",
    "restart",
    "other",
]
"""What a chunk is. `other` is anything that has no normal form: it is passed on with its JSON, never dropped."""

FinishReason = Literal["stop", "length", "tool_calls", "refusal", "content_filter", "pause", "other"]
"""Why generation ended, the same words for every vendor."""

CONTENT_KINDS: frozenset[ChunkKind] = frozenset({"text", "reasoning", "refusal", "tool_call", "citation"})
"""The kinds that carry something the model made. The rest frame it: clocks and retries do not count them."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Hold a tool call, or the fragment of one that a chunk brings.

    `id` and `name` are the vendor's, None where it sent none. `arguments` is the text exactly as sent: JSON for
    functions, free text for custom tools. `position` counts the calls of one answer from 0 and never changes.
    """

    id: str | None
    name: str | None
    arguments: str = ""
    position: int = 0
    custom: bool = False
    """True for a tool that takes free text instead of JSON."""

    def parse(self) -> Any:
        """Return the arguments as an object; no arguments at all mean `{}`.

        Raises:
            ValueError: the arguments are no JSON, as when the call was cut or the tool takes free text.
        """
        if not self.arguments.strip():
            return {}
        try:
            return json.loads(self.arguments)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"the arguments of tool call {self.name!r} ({self.id!r}) are not JSON: {error}; "
                f"they begin with {self.arguments[:80]!r}"
            ) from error


@dataclass(frozen=True, slots=True)
class Usage:
    """Count tokens as the vendor reports them; None is a count it did not report.

    `input_tokens` has the vendor's own meaning: Anthropic leaves cached tokens out of it, OpenAI counts them in.
    `raw` is the usage object as sent.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True)
class Opaque:
    """Hold what only the vendor understands and wants back: signatures, redacted and encrypted reasoning.

    `wire` names the format it belongs to; `items` are JSON objects, verbatim. On a `reasoning` chunk they are the
    piece that came; on a `finish` chunk, the whole answer in the vendor's own form, ready to be sent back.
    """

    wire: str
    items: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Carry one piece of a stream; `kind` says which of the other fields mean something.

    Guarantees: chunks come in the order of the wire; the texts of one kind, choice and index concatenate to exactly
    what the vendor sent; no chunk has text that the vendor did not send.
    """

    kind: ChunkKind
    text: str = ""
    """`text`, `reasoning`, `refusal`: what to append."""
    index: int = 0
    """The content block (Anthropic) or output item (Responses) that the chunk belongs to."""
    choice: int = 0
    """Which of several answers, when more than one was asked for."""
    tool_call: ToolCall | None = None
    """`tool_call`: the call's id and name, and the fragment of its arguments that this chunk brings."""
    usage: Usage | None = None
    """Token counts so far: on `usage`, and on `start` where the vendor counts the prompt first."""
    finish_reason: FinishReason | None = None
    """`finish`: the normal word; None where the stream was ended properly without any reason."""
    raw_finish_reason: str | None = None
    """`finish`: the vendor's own word."""
    finish_detail: str | Mapping[str, Any] | None = None
    """`finish`: why exactly: Responses' `incomplete_details.reason`, Anthropic's `stop_details` or stop sequence."""
    opaque: Opaque | None = None
    """What must be sent back with the next turn (`reasoning`, `finish`)."""
    data: Mapping[str, Any] | None = None
    """`citation`: the citation as the vendor sent it. `start`, `usage`, `finish`, `other`: facts about the answer,
    under the names that `Completion` has for them (`service_tier`, `stop_sequence`, `logprobs`, `served_by`, `cost`).
    `reasoning`: `{"part": n}` where part n of several summaries or blocks begins."""
    id: str | None = None
    """`start`: the response's id."""
    model: str | None = None
    """`start`: the model that answers, as the vendor names it."""
    request_id: str | None = None
    """`start`: the id of the HTTP request, for the vendor's support."""
    event: str | None = None
    """`other`: the vendor's name for the event or block."""
    raw: bytes | None = None
    """The event's JSON as it was on the wire: always on `other`, else with `include_raw=True`."""


class _Draft:
    """Lay out memory exactly as `Chunk` does, without the frozen checks that make its constructor six times dearer.

    A frozen dataclass sets each field through `object.__setattr__`, 1.5 us for one chunk. A draft is filled with
    plain stores and then becomes a `Chunk`, 0.25 us; Python allows that because both have the same slots.
    """

    __slots__ = Chunk.__slots__

    def __init__(
        self, kind: ChunkKind, text: str, index: int = 0, choice: int = 0, tool_call: ToolCall | None = None
    ) -> None:
        self.kind = kind
        self.text = text
        self.index = index
        self.choice = choice
        self.tool_call = tool_call
        self.usage = self.finish_reason = self.raw_finish_reason = self.finish_detail = self.opaque = None
        self.data = self.id = self.model = self.request_id = self.event = self.raw = None
        self.__class__ = Chunk  # type: ignore[assignment]


class _MakeContent(Protocol):
    def __call__(
        self, kind: ChunkKind, text: str, index: int = 0, choice: int = 0, tool_call: ToolCall | None = None
    ) -> Chunk: ...


content = cast("_MakeContent", _Draft)
"""Build a chunk of content quickly; the decoders make one for every token."""


class _CallDraft:
    """The same for `ToolCall`, of which a chunk for every fragment has one."""

    __slots__ = ToolCall.__slots__

    def __init__(
        self, call_id: str | None, name: str | None, arguments: str = "", position: int = 0, custom: bool = False
    ) -> None:
        self.id = call_id
        self.name = name
        self.arguments = arguments
        self.position = position
        self.custom = custom
        self.__class__ = ToolCall  # type: ignore[assignment]


class _MakeCall(Protocol):
    def __call__(
        self, call_id: str | None, name: str | None, arguments: str = "", position: int = 0, custom: bool = False
    ) -> ToolCall: ...


tool_call = cast("_MakeCall", _CallDraft)
"""Build a fragment of a tool call quickly."""
