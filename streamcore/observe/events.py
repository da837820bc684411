"""Define the events that observers receive, and the operations that these events are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from streamcore.chunk import Chunk, ToolCall, ToolResult
from streamcore.completion import Attempt, Completion
from streamcore.request import Request

OperationKind = Literal["answer", "agent", "tool", "graph", "node", "run", "reader"]
"""What an operation is: the answer to one request, an agent, a call of a tool, a graph, a node, a relay's run, or one
reader of such a run."""

Outcome = Literal[
    "finished", "refused", "waiting", "stopped", "closed", "cancelled", "interrupted", "timed_out", "failed"
]
"""How an operation ended.

| Outcome | Meaning |
|---|---|
| `finished` | it came to its end; of an answer: the vendor marked the end |
| `refused` | the model refused to answer, or a content filter stopped it |
| `waiting` | an agent or a graph waits for an approval or an answer of a person |
| `stopped` | `stop()` was called |
| `closed` | the reader closed the stream, or left it |
| `cancelled` | the task was cancelled |
| `interrupted` | the stream was cut: `StreamInterrupted` |
| `timed_out` | a clock ran out: `StreamTimeout`, or a time limit of a graph |
| `failed` | any other error |
"""

_numbers = count(1)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Identify what an event is about; all events of one operation have the same object."""

    kind: OperationKind
    name: str
    """The model, agent, tool, graph or node, or the id of a relay's run; "" if it is not known."""
    parent: Operation | None = field(default=None, repr=False)
    """The operation that this one is a part of: of a call of a tool, the agent; of an answer, the agent or node."""
    id: int = field(default_factory=lambda: next(_numbers))
    """A number that no other operation of this process has."""


@dataclass(frozen=True, slots=True)
class AnswerStarted:
    """A request is about to be sent: the answer begins, with its first attempt."""

    operation: Operation
    provider: str
    request: Request


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """An attempt to get the answer begins."""

    operation: Operation
    number: int
    """1 for the first attempt."""
    provider: str
    request: Request


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt has ended, well or with an error."""

    operation: Operation
    number: int
    attempt: Attempt
    error: Exception | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Retried:
    """A failed attempt will be repeated with the same provider, after a pause."""

    operation: Operation
    provider: str
    error: Exception
    pause: float
    """The seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class FellBack:
    """A failed attempt will be repeated with the next provider of `fallback`."""

    operation: Operation
    provider: str
    """The provider that is asked next."""
    model: str | None
    error: Exception


@dataclass(frozen=True, slots=True)
class Restarted:
    """The answer begins again after its reader has seen a part of it, which is now void."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class FirstContent:
    """The first content of an attempt has arrived: text, reasoning, a refusal, a tool call, a citation."""

    operation: Operation
    seconds: float
    """The seconds since the answer began."""


@dataclass(frozen=True, slots=True)
class ChunksArrived:
    """A network read has given chunks. Only observers with `wants_chunks = True` cause and receive these events."""

    operation: Operation
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class AnswerEnded:
    """The answer has ended, in any way; `completion` has what arrived, the usage included."""

    operation: Operation
    outcome: Outcome
    completion: Completion
    error: Exception | None
    seconds: float
    first_content: float | None
    """The seconds until the first content of the last attempt; None if there was none."""
    provider: str
    """The provider that was asked last."""
    chunks: int
    """How many chunks of content the last attempt has given."""


@dataclass(frozen=True, slots=True)
class AgentStarted:
    """An agent begins."""

    operation: Operation
    provider: str
    request: Request


@dataclass(frozen=True, slots=True)
class StepStarted:
    """An agent asks its model again."""

    operation: Operation
    step: int
    """1 for the first answer."""


@dataclass(frozen=True, slots=True)
class AgentEnded:
    """An agent has ended, in any way; `completion` has all steps and the sum of their usage."""

    operation: Operation
    outcome: Outcome
    completion: Completion
    error: Exception | None
    seconds: float


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A call of a tool begins, in the task that will run it."""

    operation: Operation
    call: ToolCall
    description: str


@dataclass(frozen=True, slots=True)
class ToolEnded:
    """A call of a tool has ended; `result` is None if it was cancelled."""

    operation: Operation
    outcome: Outcome
    result: ToolResult | None
    seconds: float


@dataclass(frozen=True, slots=True)
class GraphStarted:
    """A run of a graph begins, or continues."""

    operation: Operation
    thread: str | None
    """The id of the thread, if the caller gave one."""


@dataclass(frozen=True, slots=True)
class GraphEnded:
    """A run of a graph has ended, or waits for an answer."""

    operation: Operation
    outcome: Outcome
    error: BaseException | None
    seconds: float


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node of a graph begins."""

    operation: Operation
    type: str
    """The node's type, as in the graph's file."""


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """A node of a graph has ended."""

    operation: Operation
    outcome: Outcome
    error: BaseException | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A relay begins to produce a run; `operation.name` is the run's id."""

    operation: Operation
    owner: str
    thread: str | None
    trace: str = ""
    """What an observer's `trace` returned where the run was reserved, perhaps in another process; "" of other runs."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run of a relay has ended, and its end is in the log."""

    operation: Operation
    outcome: Outcome
    completion: Completion | None
    """The answer, if the run's source is a `Stream`."""
    error: Exception | None
    seconds: float
    items: int
    """How many items the run has."""


@dataclass(frozen=True, slots=True)
class ReaderStarted:
    """A reader of a relay's run begins; `operation.name` is the run's id."""

    operation: Operation
    trace: str
    """What the observer of the run's producer stored with the run (`Observer.trace`), perhaps in another process."""


@dataclass(frozen=True, slots=True)
class ReaderEnded:
    """A reader of a relay's run has ended."""

    operation: Operation
    outcome: Outcome
    seconds: float


Event = (
    AnswerStarted
    | AttemptStarted
    | AttemptEnded
    | Retried
    | FellBack
    | Restarted
    | FirstContent
    | ChunksArrived
    | AnswerEnded
    | AgentStarted
    | StepStarted
    | AgentEnded
    | ToolStarted
    | ToolEnded
    | GraphStarted
    | GraphEnded
    | NodeStarted
    | NodeEnded
    | RunStarted
    | RunEnded
    | ReaderStarted
    | ReaderEnded
)
"""Everything that an observer can receive."""
