"""Turn the chunks of a model's answers and of its tools into events of a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamcore.chunk import Chunk, ToolCall
from streamcore.graph.context import Context
from streamcore.graph.events import AgentEvent, Metadata, NodeEvent
from streamcore.graph.node_schema import LlmNode

WAKE: Mapping[str, Any] = {"event of a graph": True}
"""Progress that only makes the node look for queued events; compared by identity."""


class AnswerEvents:
    """Turn chunks into events, and count the answers and their tokens in the budget of the run.

    A stream without tools that run gives `token` and `restart` only. `counted` is True for a stream that may be such
    a one, and whose first answer has been counted already.
    """

    def __init__(self, name: str, node: LlmNode, context: Context, *, counted: bool = False) -> None:
        self.steps = 0
        """The number of the current answer."""
        self._name = name
        self._node = node
        self._budget = context.budget
        self._counted = counted
        self._calls: dict[int, ToolCall] = {}  # of the current answer, by position; those that were not reported
        self._tokens = context.budget.answer(name)
        self._numbered = has_metadata(node, context)

    def end(self) -> None:
        """Count the last answer."""
        self._tokens.end()

    def events(self, batch: Sequence[Chunk]) -> Iterator[NodeEvent]:
        """Yield the events of some chunks."""
        self._tokens.note(batch)
        for chunk in batch:
            if chunk.text and (chunk.kind == "text" or chunk.kind == "refusal"):
                if self._node.stream and not chunk.choice and not chunk.path:
                    yield self._token(chunk.text)
            else:
                yield from self._other(chunk)

    def _other(self, chunk: Chunk) -> Iterator[NodeEvent]:
        kind = chunk.kind
        if kind == "restart" and not chunk.path:
            self._calls.clear()
            yield {"type": "restart", "node": self._name}
        elif kind == "step" and not chunk.path:
            if self.steps or not self._counted:
                self._budget.count_model_call(self._name)
            self.steps += 1
            self._calls.clear()
            yield {"type": "step", "node": self._name, "step": self.steps}
        elif (self.steps or not self._counted) and not chunk.path:
            yield from self._tool(chunk)

    def _tool(self, chunk: Chunk) -> Iterator[AgentEvent]:
        """Yield the events of calls, progress and results."""
        call, result = chunk.tool_call, chunk.tool_result
        if chunk.kind == "finish":
            yield from self._whole_calls(None)
        elif chunk.kind == "tool_call" and call is not None and not chunk.choice:
            self._add(call)
        elif chunk.kind == "tool_progress" and call is not None:
            yield from self._whole_calls(call.id)
            progress: Any = chunk.text if chunk.data is None else chunk.data.get("progress")
            if progress is not WAKE:
                yield {
                    "type": "tool_progress",
                    "node": self._name,
                    "call_id": call.id or "",
                    "tool": call.name or "",
                    "progress": progress,
                }
        elif result is not None:
            yield from self._whole_calls(result.call_id)
            yield {
                "type": "tool_result",
                "node": self._name,
                "call_id": result.call_id,
                "tool": result.name,
                "output": result.content,
                "error": result.error,
                "seconds": result.seconds,
            }

    def _token(self, text: str) -> NodeEvent:
        if self._numbered:
            return {"type": "token", "node": self._name, "content": text, "metadata": stream_key(self._node)}
        return {"type": "token", "node": self._name, "content": text}

    def _add(self, part: ToolCall) -> None:
        known = self._calls.get(part.position)
        if known is None:
            self._calls[part.position] = part
        else:
            self._calls[part.position] = replace(
                known, id=part.id or known.id, name=part.name or known.name, arguments=known.arguments + part.arguments
            )

    def _whole_calls(self, call_id: str | None) -> Iterator[AgentEvent]:
        """Yield the call with this id, or with None all, unless it was reported."""
        for position, call in [*self._calls.items()]:
            if call_id is None or call.id == call_id:
                del self._calls[position]
                yield {
                    "type": "tool_call",
                    "node": self._name,
                    "call_id": call.id or "",
                    "tool": call.name or "",
                    "args": arguments_of(call),
                }


def arguments_of(call: ToolCall) -> Any:
    """Return a call's arguments; the text as it was sent if it is not JSON."""
    try:
        return call.parse()
    except ValueError:
        return call.arguments


def has_metadata(node: LlmNode, context: Context) -> bool:
    """True if the node's tokens have metadata."""
    return context.config.include_metadata or bool(node.stream_options and node.stream_options.include_metadata)


def stream_key(node: LlmNode) -> Metadata:
    """Return the metadata of a token."""
    return {"stream_key": node.stream_key} if node.stream_key else {}
