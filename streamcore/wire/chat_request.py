"""Encode a `Request` as the JSON of the chat-completions dialect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.errors import ConfigError
from streamcore.request import Document, Image, Message, Part, Request, Text, Tool
from streamcore.wire.closed_schema import closed_schema
from streamcore.wire.lenient import items, mapping
from streamcore.wire.turns import ANY_ID, arguments_of, fitting_turns, opaque_for, rest_of_text

WIRE = "openai-chat"


def no_documents(_document: Document) -> dict[str, Any]:
    """Refuse a document.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("this server's API accepts no documents; send the text of the document as Text")


@dataclass(frozen=True, slots=True)
class ChatTurns:
    """Describe the messages that a server accepts."""

    wire: str = WIRE
    source: str | None = None
    """The server's name in `Opaque.source`."""
    ids: re.Pattern[str] = ANY_ID
    """The ids of tool calls that it accepts; others are replaced."""
    custom_tools: bool = False
    """True if it accepts calls of custom tools; else they are sent as functions with one argument, `input`."""
    details: str | None = None
    """The key of a message in which it accepts `reasoning_details`; None if it accepts none."""
    reasoning: frozenset[str] = frozenset({"reasoning_content"})
    """The fields of reasoning that it accepts with tool calls, if it sent them."""
    document: Callable[[Document], dict[str, Any]] = no_documents
    """Return the content part of a document; raises `ConfigError` for one that the server does not accept."""
    images_in_results: bool = False
    """True if it accepts images in the results of tools; else they follow them in a user's message."""


def chat_messages(request: Request, form: ChatTurns) -> list[dict[str, Any]]:
    """Return `messages`; an empty answer is left out.

    Opaque data are sent to the server that sent them. Of an answer of another server, the text and calls are sent.

    Raises:
        ConfigError: a tool call was cut, or the server does not accept a document.
    """
    turns: Iterable[Message] = fitting_turns(request.messages, form.ids)
    if not form.images_in_results:
        turns = _without_images_in_results(turns)
    written = (_message(message, form) for message in turns)
    return [message for message in written if message is not None]


def _without_images_in_results(turns: Iterable[Message]) -> Iterator[Message]:
    """Yield the turns with the images of results in a user's message, after all results of the answer."""
    images: list[Part] = []
    for message in turns:
        if message.role != "tool" and images:
            yield Message("user", images)
            images = []
        if message.role == "tool" and any(isinstance(part, Image) for part in message.parts):
            images += [part for part in message.parts if isinstance(part, Image)]
            message = replace(message, content=message.text)
        yield message
    if images:
        yield Message("user", images)


def _message(message: Message, form: ChatTurns) -> dict[str, Any] | None:
    if message.role == "assistant":
        return _answer(message, form)
    written: dict[str, Any] = {"role": message.role, "content": _content(message, form)}
    if message.role == "tool":
        written["tool_call_id"] = message.tool_call_id
    return written


def _answer(message: Message, form: ChatTurns) -> dict[str, Any] | None:
    """Return an assistant's message; None if there is neither content nor a call, which servers refuse."""
    opaque = opaque_for(message, form.wire, form.source)
    fields: Mapping[str, Any] = opaque.fields if opaque is not None else {}
    audio = mapping(fields.get("audio")).get("id")
    content = _content(message, form)
    if not (content or message.tool_calls or audio):
        return None
    parts: Sequence[Mapping[str, Any]] = items(fields.get("content"))
    if form.wire != WIRE and opaque is not None:
        parts = opaque.items
    if parts:
        content = _with_parts(message, parts)
    written: dict[str, Any] = {"role": "assistant", "content": content or None}
    if audio:
        del written["content"]  # the server has the audio with this id
        written["audio"] = {"id": audio}
    if message.tool_calls:
        extras = mapping(fields.get("tool_calls"))
        written["tool_calls"] = [
            {**_call(call, form), **mapping(extras.get(str(call.position)))} for call in message.tool_calls
        ]
    for key, value in fields.items():
        if key in _REASONING:
            if key in form.reasoning and message.tool_calls:
                written[key] = value
        elif key not in _WRITTEN_ABOVE:
            written[key] = value
    if form.details is not None and opaque is not None and opaque.items:
        written[form.details] = list(opaque.items)
    return written


_REASONING = frozenset({"reasoning_content", "reasoning"})
_WRITTEN_ABOVE = frozenset({"audio", "content", "tool_calls"})


def _with_parts(message: Message, parts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the content as it was received: the parts in order, then the text after them."""
    written = [dict(part) for part in parts]
    beginning = "".join(part["text"] for part in written if part.get("type") == "text")
    rest = rest_of_text(message, beginning)
    return [*written, {"type": "text", "text": rest}] if rest else written


def _call(call: ToolCall, form: ChatTurns) -> dict[str, Any]:
    if call.custom and form.custom_tools:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}


def _content(message: Message, form: ChatTurns) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    if all(isinstance(part, Text) for part in message.parts):
        return message.text
    return [_part(part, form) for part in message.parts]


def _part(part: Part, form: ChatTurns) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.as_url}}
    return form.document(part) if isinstance(part, Document) else {"type": "text", "text": part.text}


def chat_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return `tools`."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),
            },
        }
        for tool in tools
    ]


def chat_tool_choice(choice: str, required: str = "required") -> str | dict[str, Any]:
    """Return `tool_choice`; `required` is the server's value for "at least one call of any tool"."""
    if choice in ("auto", "none"):
        return choice
    if choice == "required":
        return required
    return {"type": "function", "function": {"name": choice}}


def chat_response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `response_format` for an answer that must fit a JSON Schema; strict if the schema has a closed form."""
    name = str(schema.get("title") or "answer")
    closed = closed_schema(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": _identifier(name), "schema": closed or dict(schema), "strict": closed is not None},
    }


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]
