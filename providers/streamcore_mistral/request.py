"""Write a `Request` as the body of a Mistral chat call."""

from __future__ import annotations

from typing import Any

from streamcore.provider import Vendor
from streamcore.request import Message, Request
from streamcore.wire.chat_request import chat_messages, chat_response_format, chat_tool_choice, chat_tools

WIRE = "mistral-chat"


def chat_body(request: Request, model: str, vendor: Vendor) -> dict[str, Any]:
    """Return the JSON body, which is also the keyword arguments of `chat.stream_async`, without `extra`.

    Raises:
        ConfigError: the request has something that this API cannot say.
    """
    if isinstance(request.reasoning, int):
        raise vendor.unsupported("a budget of reasoning tokens", "give an effort such as 'high'")
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            _with_thinking(written, message)
            for written, message in zip(chat_messages(request), request.messages, strict=True)
        ],
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tools:
        body["tools"] = chat_tools(request.tools)
    if request.tool_choice is not None:
        body["tool_choice"] = chat_tool_choice(request.tool_choice, required="any")
    if request.seed is not None:
        body["random_seed"] = request.seed
    if request.output_schema is not None:
        body["response_format"] = chat_response_format(request.output_schema)
    if request.reasoning is not None:
        body["reasoning_effort"] = request.reasoning
    if isinstance(request.cache, str):
        body["prompt_cache_key"] = request.cache
    return body


def _with_thinking(written: dict[str, Any], message: Message) -> dict[str, Any]:
    """Send thinking back as it came: as parts of the content, before the text."""
    if message.opaque is None or message.opaque.wire != WIRE:
        return written
    text = [{"type": "text", "text": message.text}] if message.text else []
    return {**written, "content": [*message.opaque.items, *text]}
