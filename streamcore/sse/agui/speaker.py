"""Encode the messages, reasoning and calls of one speaker of a run: the model, a node, a nested run."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from streamcore.chunk import Opaque, ToolCall
from streamcore.sse.agui.arguments import ArgumentText
from streamcore.sse.agui.encrypted_value import encrypted_value
from streamcore.sse.agui.writing import Ids, Transcript, event
from streamcore.sse.encoder import json_bytes


@dataclass(slots=True)
class _OpenCall:
    """A call whose end was not sent."""

    id: str
    name: str
    custom: bool
    started: bool = False
    arguments: list[str] = field(default_factory=list[str])
    """What was sent of the arguments."""
    text: ArgumentText = field(default_factory=ArgumentText)

    @property
    def complete(self) -> bool:
        """True if the client can read the arguments."""
        return self.custom or self.text.complete


class Speaker:
    """Encode what one speaker says; only one text or reasoning of it is open at a time.

    Args:
        ids: gives new ids.
        transcript: gets the messages.
        owner: the nested run that the speaker is (`subagentRunId`); None for the run itself.
    """

    def __init__(self, ids: Ids, transcript: Transcript, owner: str | None = None) -> None:
        self._ids = ids
        self._transcript = transcript
        self._more: dict[str, Any] = {} if owner is None else {"subagentRunId": owner}
        self._block: Literal["", "text", "reasoning"] = ""
        self._block_id = ""
        self._span = ""  # of the reasoning
        self._message: dict[str, Any] | None = None  # the answer, to which its calls belong
        self._prefix = b""
        self._texts: list[str] = []
        self._calls: dict[int, _OpenCall] = {}
        self._names: dict[str, str] = {}  # the ids that clients have, by the vendor's ids of calls
        self._written: set[str] = set()  # the ids of the messages of this answer
        self.call_ids: list[str] = []
        """The ids of the calls of this answer."""

    @property
    def answer_id(self) -> str | None:
        """The id of the message of the current answer."""
        return None if self._message is None else self._message["id"]

    def has_call(self, call_id: str) -> bool:
        """True if this speaker made a call with this id of the vendor."""
        return call_id in self._names

    def client_id(self, call_id: str) -> str:
        """Return the id that the client has of a call."""
        return self._names.get(call_id, call_id)

    def text(self, text: str) -> bytes:
        """Return the events of a text."""
        if not text:
            return b""
        before = b"" if self._block == "text" else self._begin_text()
        self._texts.append(text)
        return b"%b%b%b}\n\n" % (before, self._prefix, json_bytes(text))

    def _begin_text(self) -> bytes:
        before = self.end_block()
        message = self._message
        if message is None or message["content"]:
            message = self._new_message()
        self._block, self._block_id = "text", message["id"]
        self._texts = message["content"]
        head = json_bytes({"type": "TEXT_MESSAGE_CONTENT", **self._more, "messageId": self._block_id})[:-1]
        self._prefix = b'data: %b,"delta":' % head
        return before + event("TEXT_MESSAGE_START", messageId=self._block_id, role="assistant", **self._more)

    def _new_message(self) -> dict[str, Any]:
        made = self._transcript.add({"id": self._ids.message(), "role": "assistant", "content": [], **self._more})
        self._message = made
        self._written.add(made["id"])
        return made

    def reasoning(self, text: str, *, new_part: bool) -> bytes:
        """Return the events of reasoning."""
        written = b""
        if self._block == "reasoning" and new_part:
            written = event("REASONING_MESSAGE_END", messageId=self._block_id, **self._more)
            self._block_id = ""
        if not text:
            return written
        if self._block != "reasoning":
            written += self.end_block()
            self._span = self._ids.message()
            self._block, self._block_id = "reasoning", ""
            written += event("REASONING_START", messageId=self._span, **self._more)
        if not self._block_id:
            self._block_id = self._ids.message()
            written += event("REASONING_MESSAGE_START", messageId=self._block_id, role="reasoning", **self._more)
        return written + event("REASONING_MESSAGE_CONTENT", messageId=self._block_id, delta=text, **self._more)

    def end_block(self) -> bytes:
        """Return the end of the text or reasoning that is open."""
        block, self._block = self._block, ""
        if block == "text":
            return event("TEXT_MESSAGE_END", messageId=self._block_id, **self._more)
        if block == "reasoning":
            end = event("REASONING_MESSAGE_END", messageId=self._block_id, **self._more) if self._block_id else b""
            return end + event("REASONING_END", messageId=self._span, **self._more)
        return b""

    def call(self, part: ToolCall) -> bytes:
        """Return the events of a fragment of a call; its start is sent with its arguments, since names may grow."""
        written, known = b"", self._calls.get(part.position)
        if known is None:
            written = self.end_block()
            known = self._calls[part.position] = _OpenCall(self._ids.call(part.id), part.name or "", part.custom)
            self.call_ids.append(known.id)
        known.name = part.name or known.name
        if part.id:
            self._names[part.id] = known.id
        if not part.arguments:
            return written
        text = json.dumps(part.arguments)[1:-1] if known.custom else known.text.add(part.arguments)
        return written + self._start(known) + self._arguments(known, text)

    def _start(self, call: _OpenCall) -> bytes:
        if call.started:
            return b""
        call.started = True
        message = self._message or self._new_message()
        function = {"name": call.name, "arguments": call.arguments}
        message.setdefault("toolCalls", []).append({"id": call.id, "type": "function", "function": function})
        start = event(
            "TOOL_CALL_START",
            toolCallId=call.id,
            toolCallName=call.name,
            parentMessageId=message["id"],
            **self._more,
        )
        return start + (self._arguments(call, '{"input":"') if call.custom else b"")

    def _arguments(self, call: _OpenCall, text: str) -> bytes:
        if not text:
            return b""
        call.arguments.append(text)
        return event("TOOL_CALL_ARGS", toolCallId=call.id, delta=text, **self._more)

    def end_calls(self, *, cut: bool = True, asked: Collection[str] = ()) -> bytes:
        """Return the ends of the open calls; without `cut` only of those that are complete, or have an id in `asked`.

        Arguments that are not are completed, since clients want valid JSON; see `ArgumentText`.
        """
        ended = [position for position, call in self._calls.items() if cut or call.complete or call.id in asked]
        return b"".join([self._end_call(position) for position in ended])

    def _end_call(self, position: int) -> bytes:
        call = self._calls.pop(position)
        start = self._start(call)
        end = self._arguments(call, '"}' if call.custom else call.text.close())
        return start + end + event("TOOL_CALL_END", toolCallId=call.id, **self._more)

    def keep(self, opaque: Opaque) -> bytes:
        """Return the event with what the vendor needs with the next turn, if one message is the whole answer."""
        message = self._message
        value = encrypted_value(opaque) if message is not None and self._written == {message["id"]} else None
        if message is None or value is None:
            return b""
        message["encryptedValue"] = value
        return event(
            "REASONING_ENCRYPTED_VALUE", subtype="message", entityId=message["id"], encryptedValue=value, **self._more
        )

    @property
    def unusable_call(self) -> str | None:
        """Why the arguments of a call cannot be used: they are cut, or no JSON; None if there is no such call."""
        call = next(iter(self._calls.values()), None)
        if call is None:
            return None
        if call.text.broken:
            return f"the arguments of a call of {call.name!r} are not valid JSON; ask again"
        return f"the answer ended within the arguments of a call of {call.name!r}; ask again"

    def result(self, call_id: str, content: str) -> bytes:
        """Return the events of a call's result, and the end of the call."""
        found = self.client_id(call_id)
        ended = [position for position, call in self._calls.items() if call.id == found]
        written = b"".join([self._end_call(position) for position in ended])
        made = {"id": self._ids.message(), "role": "tool", "content": [content], "toolCallId": found}
        self._written.add(self._transcript.add(made)["id"])
        return written + event(
            "TOOL_CALL_RESULT", messageId=made["id"], toolCallId=found, content=content, role="tool", **self._more
        )

    def new_answer(self) -> bytes:
        """Return the ends of what is open, since another answer begins."""
        written = self.end_block() + self.end_calls()
        self._message = None
        self._written, self.call_ids = set(), []
        return written

    def take_back(self) -> bytes:
        """Return the ends of what is open; the messages of the current answer are removed from the transcript."""
        self._calls = {position: call for position, call in self._calls.items() if call.started}
        written = self.end_block() + self.end_calls()
        self._transcript.remove(self._written)
        self._message = None
        self._written, self.call_ids = set(), []
        return written

    def open_call(self, position: int) -> tuple[str, str]:
        """Return the id and the name of a call that is open."""
        call = self._calls[position]
        return call.id, call.name

    @property
    def has_answer(self) -> bool:
        """True if the current answer has messages."""
        return bool(self._written)
