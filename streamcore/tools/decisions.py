"""Define how a call is approved or denied, and what of an agent's run is saved while it waits."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from streamcore.chunk import ToolCall
from streamcore.errors import ConfigError
from streamcore.request import Message
from streamcore.storage.stored_json import dump, load

DENIED = "This call was denied"
"""How the result of a call that was denied begins, for the model."""


@dataclass(frozen=True, slots=True)
class Approve:
    """Let a call run."""

    arguments: Mapping[str, Any] | None = None
    """The arguments to run it with, if they differ from those that the model sent."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not let a call run; the model gets the reason as the call's result."""

    reason: str = ""
    """Why, for the model."""


Decision = bool | Approve | Deny | Mapping[str, Any]
"""True and False, `Approve` and `Deny`, or the same as JSON: `{"approve": true, "arguments": {...}}`,
`{"approve": false, "reason": "..."}`."""

Approver = Callable[[ToolCall], Decision | Awaitable[Decision]]
"""A function that decides about a call; it may be async."""


def decision_of(given: Any) -> Approve | Deny:
    """Return a decision in its one form.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(given, Approve | Deny):
        return given
    if isinstance(given, bool):
        return Approve() if given else Deny()
    if isinstance(given, Mapping):
        found = cast("Mapping[str, Any]", given)
        if isinstance(found.get("approve"), bool) and not found.keys() - {"approve", "arguments", "reason"}:
            return Approve(found.get("arguments")) if found["approve"] else Deny(str(found.get("reason") or ""))
    raise ConfigError(
        "a decision about a tool call is True, False, Approve(arguments=...), Deny(reason) or a mapping as "
        f"{{'approve': true}}, not {given!r}"
    )


@dataclass(frozen=True, slots=True)
class AgentState:
    """Keep what an agent's run needs to go on in another process."""

    messages: tuple[Message, ...] = ()
    """The whole conversation, with the results so far."""
    begun: tuple[str, ...] = ()
    """The ids of the calls that may have begun to run. One without a result is reported to the model as interrupted,
    unless its tool is `idempotent`."""
    complete: bool = False
    """True if the last message is the answer that ends the run: then no request is made."""

    def to_json(self) -> str:
        """Return the state as JSON, for any database; `from_json` of this version and later ones reads it."""
        messages = [json.loads(message.to_json()) for message in self.messages]
        return dump("agent", {"messages": messages, "begun": list(self.begun), "complete": self.complete})

    @classmethod
    def from_json(cls, data: str | bytes) -> AgentState:
        """Return the state that `to_json` wrote.

        Raises:
            ValueError: the data are not JSON, not such a state, or of a later version.
        """
        return load("agent", data, _read_state)


def _read_state(given: dict[str, Any]) -> AgentState:
    messages = [Message.from_json(json.dumps(message)) for message in given["messages"]]
    return AgentState(tuple(messages), tuple(given.get("begun", ())), bool(given.get("complete", False)))


def state_of(messages: Sequence[Message] | AgentState) -> AgentState:
    """Return the saved state of a run: itself, or one of these messages."""
    return messages if isinstance(messages, AgentState) else AgentState(tuple(messages))


def unanswered(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls at the end of a conversation that have no result."""
    answered: set[str | None] = set()
    for message in reversed(messages):
        if message.role == "tool":
            answered.add(message.tool_call_id)
        elif message.role == "assistant":
            return tuple(call for call in message.tool_calls if call.id not in answered)
        else:
            break
    return ()
