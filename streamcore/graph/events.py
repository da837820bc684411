"""Define the events of a graph's run: plain dicts, whose `type` is the kind of event."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from streamcore.chunk import Usage


class Metadata(TypedDict, total=False):
    """Describe additional data of an event; present only with `include_metadata`."""

    sequence: int
    """The event's number in this run, from 1."""
    map_index: int
    """The item of a map that the event belongs to."""
    stream_key: str
    """The node's `stream_key`."""
    partial: str
    """At `node_start`: the node's text when it was interrupted in an earlier run of the thread."""
    provider: str
    model: str | None
    usage: Usage | None
    seconds: float
    """How long the node took."""
    error: str
    """Why a node with `on_error: skip` has no output."""
    errors: list[dict[str, Any]]
    """What the node adds to `errors` in the state."""
    counts: dict[str, int]
    """The loop counts of a graph inside the node, with `mode: direct`."""
    calls: list[str]
    """At `interrupt` of an agent: the ids of the calls that wait for approval; the message has the first one."""
    updates: dict[str, Any]
    """At `interrupt`: what `interrupt_output_mapping` sets."""


class TokenEvent(TypedDict):
    """Describe a token: a fragment of a node's text."""

    type: Literal["token"]
    node: str
    content: str
    metadata: NotRequired[Metadata]


class NodeStart(TypedDict):
    """Describe the start of a node."""

    type: Literal["node_start"]
    node: str
    metadata: NotRequired[Metadata]


class NodeComplete(TypedDict):
    """Describe the end of a node, after the thread was saved; `output` is the node's update of the state."""

    type: Literal["node_complete"]
    node: str
    output: dict[str, Any]
    metadata: NotRequired[Metadata]


class Restart(TypedDict):
    """Describe the restart of a node's answer: its tokens so far are void."""

    type: Literal["restart"]
    node: str
    metadata: NotRequired[Metadata]


class Interrupt(TypedDict):
    """Describe a question to a person; the run ends and continues with `{"resume": answer}` in the config."""

    type: Literal["interrupt"]
    node: str
    message: Any
    resume_key: str
    metadata: NotRequired[Metadata]


class GraphComplete(TypedDict):
    """Describe the end of the graph."""

    type: Literal["graph_complete"]
    state: dict[str, Any]
    metadata: NotRequired[Metadata]


class Step(TypedDict):
    """Describe a further answer of an agent; the tokens since the last one are its answer so far."""

    type: Literal["step"]
    node: str
    step: int
    """The number of the answer in this run of the node, from 1."""
    metadata: NotRequired[Metadata]


class AgentToolCall(TypedDict):
    """Describe a call of a tool that an agent asks for."""

    type: Literal["tool_call"]
    node: str
    call_id: str
    tool: str
    args: Any
    """The arguments; the text as it was sent if it is not JSON."""
    metadata: NotRequired[Metadata]


class AgentToolProgress(TypedDict):
    """Describe progress that a tool of an agent reports."""

    type: Literal["tool_progress"]
    node: str
    call_id: str
    tool: str
    progress: Any
    metadata: NotRequired[Metadata]


class AgentToolResult(TypedDict):
    """Describe the result of a call."""

    type: Literal["tool_result"]
    node: str
    call_id: str
    tool: str
    output: str
    """The result as the model gets it."""
    error: str | None
    """Why the call failed; None if it succeeded."""
    seconds: float
    metadata: NotRequired[Metadata]


AgentEvent = Step | AgentToolCall | AgentToolProgress | AgentToolResult
Event = TokenEvent | NodeStart | NodeComplete | Restart | Interrupt | GraphComplete | AgentEvent
NodeEvent = TokenEvent | NodeStart | NodeComplete | Restart | Interrupt | AgentEvent
