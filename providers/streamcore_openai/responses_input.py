"""Encode the messages of a conversation as the input items of a Responses API call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.request import Document, Image, Message, Part, Request, Text
from streamcore.wire.lenient import items, mapping
from streamcore.wire.turns import fitting_turns, opaque_for
from streamcore_openai.responses_wire import WIRE

CALL_IDS = re.compile(r"[\x21-\x7e]{1,64}")
_CALLS = frozenset({"function_call", "custom_tool_call"})
_ONLY_IN_ANSWERS = frozenset({"created_by"})  # fields that requests do not have


def input_items(request: Request, source: str | None) -> list[dict[str, Any]]:
    """Return `input`: the original items of answers, if this server sent them, else their texts and calls.

    Raises:
        ConfigError: a tool call was cut.
    """
    written: list[dict[str, Any]] = []
    custom: dict[str | None, bool] = {}
    stored = request.extra.get("store") is not False
    for message in fitting_turns(request.messages, CALL_IDS, ("user", "tool", "system")):
        custom |= {call.id: call.custom for call in message.tool_calls}
        if message.role == "tool":
            kind = "custom_tool_call_output" if custom.get(message.tool_call_id) else "function_call_output"
            written.append({"type": kind, "call_id": message.tool_call_id, "output": _content(message)})
        elif message.role == "assistant":
            written += _answer(message, source, stored)
        else:
            written.append({"role": message.role, "content": _content(message)})
    return written


def _answer(message: Message, source: str | None, stored: bool) -> Iterator[dict[str, Any]]:
    """Yield the original items of an assistant's turn, then its text and calls if the items do not contain them."""
    opaque = opaque_for(message, WIRE, source)
    calls = iter(message.tool_calls)
    has_message = False
    for item in opaque.items if opaque is not None else ():
        kind = item.get("type")
        has_message = has_message or kind == "message"
        written = {key: value for key, value in item.items() if value is not None and key not in _ONLY_IN_ANSWERS}
        if kind == "message" and not _has_text(item):
            continue  # the API refuses an empty message
        if kind == "reasoning" and not stored and not written.get("encrypted_content"):
            continue  # the vendor does not store the item, so it does not know the id
        if kind in _CALLS:
            call = next(calls, None)
            if call is not None:
                written["call_id"] = call.id
        yield written
    if message.text and not has_message:
        yield {"role": "assistant", "content": message.text}
    for call in calls:
        yield _call(call)


def _has_text(item: Mapping[str, Any]) -> bool:
    return any(mapping(part).get("text") or mapping(part).get("refusal") for part in items(item.get("content")))


def _call(call: ToolCall) -> dict[str, Any]:
    if call.custom:
        return {"type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": call.arguments}
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments or "{}"}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text) for part in message.parts):
        return message.text
    return [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "input_image", "image_url": part.as_url}
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    return _file(part)


def _file(document: Document) -> dict[str, Any]:
    """Return a document as the API accepts it: in every form, and of every type that it knows."""
    if document.file_id is not None:
        return {"type": "input_file", "file_id": document.file_id}
    if document.url is not None:
        return {"type": "input_file", "file_url": document.url}
    return {"type": "input_file", "filename": document.file_name, "file_data": document.as_url}
