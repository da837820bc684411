"""Write the events of AG-UI, give them ids, and keep the messages of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamcore.sse.encoder import json_bytes


def event(kind: str, **fields: Any) -> bytes:
    """Return an event; fields that are None are left out, as the protocol wants it."""
    return b"data: %b\n\n" % json_bytes(
        {"type": kind, **{key: value for key, value in fields.items() if value is not None}}
    )


class Ids:
    """Give messages and calls ids that the conversation does not have yet.

    Clients join what has the same id, and some vendors count their calls from 0 in each answer.
    """

    def __init__(self, run_id: str, messages: Sequence[Mapping[str, Any]]) -> None:
        self._run_id = run_id
        self._count = 0
        self._messages = {message.get("id") for message in messages}
        calls = [call for message in messages for call in message.get("toolCalls") or ()]
        self._calls = {call.get("id") for call in calls}
        self._known = {call.get("id"): call for call in calls}

    def message(self) -> str:
        """Return the id of a new message."""
        while True:
            self._count += 1
            found = f"{self._run_id}:{self._count}"
            if found not in self._messages:
                return found

    def call(self, given: str | None) -> str:
        """Return the id of a new call: the vendor's, if the conversation has no such call."""
        wanted = found = given or f"{self._run_id}:call"
        count = 1
        while found in self._calls or not given:
            count += 1
            found = given = f"{wanted}~{count}"
        self._calls.add(found)
        return found

    def is_known_call(self, call_id: str) -> bool:
        """True for a call of an earlier run."""
        return call_id in self._known


class Transcript:
    """Keep the messages of a run, so that those of an answer that began again can be taken back.

    `earlier` are the messages before the run, as the client sent them; None if they are not known.
    """

    def __init__(self, earlier: Sequence[Mapping[str, Any]] | None) -> None:
        self._earlier = earlier
        self._messages: list[dict[str, Any]] = []

    @property
    def known(self) -> bool:
        """True if the whole conversation is known, so that a snapshot of it can be sent."""
        return self._earlier is not None

    def add(self, message: dict[str, Any]) -> dict[str, Any]:
        """Add a message and return it; its `content` is a list of texts."""
        if self.known:
            self._messages.append(message)
        return message

    def remove(self, ids: set[str]) -> None:
        """Remove messages."""
        self._messages = [message for message in self._messages if message["id"] not in ids]

    def snapshot(self) -> bytes:
        """Return the event with all messages that are valid."""
        own = [{**message, "content": "".join(message["content"])} for message in self._messages]
        written = [_without_empty(message) for message in own]
        return event("MESSAGES_SNAPSHOT", messages=[*(self._earlier or ()), *written])


def _without_empty(message: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {**call, "function": {**call["function"], "arguments": "".join(call["function"]["arguments"])}}
        for call in message.get("toolCalls", ())
    ]
    return {**message, "toolCalls": calls} if calls else message
