"""Adapt the messages of a conversation to a vendor: complete tool calls, and ids that it accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from streamcore.chunk import Opaque, ToolCall
from streamcore.errors import ConfigError
from streamcore.request import Document, Message, Role
from streamcore.tool_call_fragments import call_id

_USER: tuple[Role, ...] = ("user",)
ANY_ID = re.compile(r".+", re.DOTALL)


def fitting_turns(
    messages: Iterable[Message], ids: re.Pattern[str] = ANY_ID, documents_in: Collection[Role] = _USER
) -> list[Message]:
    """Return the messages with tool calls that a vendor accepts; a message that needs no change is returned as it is.

    An id that does not match `ids`, or that repeats an earlier one, is replaced in the call and in its result. The new
    id depends only on the ids before it, so each request of a conversation contains the same ids. A call without a
    name and without arguments is left out.

    Raises:
        ConfigError: a call was cut: its arguments are not JSON, or it has no name; or a message of another role than
            `documents_in` has a document.
    """
    turns: list[Message] = []
    used: set[str] = set()
    sent: dict[str, list[str]] = {}
    for message in messages:
        turn = message
        _check_documents(message, documents_in)
        if message.tool_calls:
            sent = {}
            calls: list[ToolCall] = []
            for call in message.tool_calls:
                if call.name or call.arguments:
                    require_whole(call)
                    calls.append(_named(call, ids, used))
                    sent.setdefault(_id(call), []).append(calls[-1].id or "")
            if len(calls) < len(message.tool_calls) or any(
                a is not b for a, b in zip(calls, message.tool_calls, strict=True)
            ):
                turn = replace(message, tool_calls=tuple(calls))
        elif message.role == "tool" and message.tool_call_id is not None:
            known = sent.get(message.tool_call_id, [])
            answers = known.pop(0) if len(known) > 1 else known[0] if known else message.tool_call_id
            if not ids.fullmatch(answers):
                answers = call_id(answers, 0)
            if answers != message.tool_call_id:
                turn = replace(message, tool_call_id=answers)
        turns.append(turn)
    return turns


def _check_documents(message: Message, roles: Collection[Role]) -> None:
    if isinstance(message.content, str) or message.role in roles:
        return
    if any(isinstance(part, Document) for part in message.parts):
        raise ConfigError(
            f"a message with the role {message.role!r} has a document, which this API accepts only in messages with "
            f"the role {' or '.join(map(repr, roles))}; put it into a user message"
        )


def _id(call: ToolCall) -> str:
    return call.id or f"call_{call.position}"


def _named(call: ToolCall, ids: re.Pattern[str], used: set[str]) -> ToolCall:
    known = made = _id(call)
    times = 0
    while made in used or not ids.fullmatch(made):
        made = call_id(known, times)
        times += 1
    used.add(made)
    return call if made == call.id else replace(call, id=made)


def require_whole(call: ToolCall) -> None:
    """Raise unless a tool call can be sent.

    Raises:
        ConfigError: it was cut.
    """
    if call.name and call.complete:
        return
    reason = f"its arguments are not JSON, they end with {call.arguments[-40:]!r}" if call.name else "it has no name"
    raise ConfigError(
        f"tool call {call.name!r} ({call.id!r}) cannot be sent back, since it was cut: {reason}. Leave the message out "
        "and send the request again, with a higher max_tokens if the answer ended at that limit; check "
        "ToolCall.complete first"
    )


def arguments_of(call: ToolCall) -> str:
    """Return a call's arguments as JSON, for a vendor whose tools all take an object."""
    if call.custom:
        return json.dumps({"input": call.arguments}, ensure_ascii=False)
    return "{}" if call.arguments.strip() in ("", "null") else call.arguments


def opaque_for(message: Message, wire: str, source: str | None) -> Opaque | None:
    """Return the opaque data of a message if it came from this server, else None."""
    opaque = message.opaque
    if opaque is None or opaque.wire != wire:
        return None
    return opaque if opaque.source is None or source is None or opaque.source == source else None


def rest_of_text(message: Message, beginning: str) -> str:
    """Return the text of a message after the text of its earlier parts."""
    text = message.text
    return text.removeprefix(beginning) if text.startswith(beginning) else text
