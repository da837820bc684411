"""Write a `Request` as the JSON of the chat-completions dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamcore.request import Image, Message, Request, Text, Tool
from streamcore.wire.closed_schema import closed_schema

WIRE = "openai-chat"


def chat_messages(request: Request, opaque_key: str | None = None) -> list[dict[str, Any]]:
    """Return `messages`; opaque items of this dialect go back under `opaque_key`, where the server has one."""
    return [_message(message, opaque_key) for message in request.messages]


def _message(message: Message, opaque_key: str | None) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.role == "tool":
        written["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        written["tool_calls"] = [
            {
                "id": call.id or f"call_{call.position}",
                "type": "function",
                "function": {"name": call.name or "", "arguments": call.arguments or "{}"},
            }
            for call in message.tool_calls
        ]
        written["content"] = written["content"] or None
    if opaque_key is not None and message.opaque is not None and message.opaque.wire == WIRE:
        written[opaque_key] = list(message.opaque.items)
    return written


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    if all(isinstance(part, Text) for part in message.parts):
        return message.text
    return [
        {"type": "image_url", "image_url": {"url": part.as_url}}
        if isinstance(part, Image)
        else {"type": "text", "text": part.text}
        for part in message.parts
    ]


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
    """Return `tool_choice`; `required` is the server's word for "any of them, but one"."""
    if choice in ("auto", "none"):
        return choice
    if choice == "required":
        return required
    return {"type": "function", "function": {"name": choice}}


def chat_response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `response_format` for an answer that must fit a JSON Schema; strict where the schema has a closed form."""
    name = str(schema.get("title") or "answer")
    closed = closed_schema(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": _identifier(name), "schema": closed or dict(schema), "strict": closed is not None},
    }


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64]
