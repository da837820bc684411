"""Encode a `Request` as the body of a Mistral chat call."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from streamcore.provider import Vendor
from streamcore.request import Document, Request
from streamcore.wire.chat_request import ChatTurns, chat_messages, chat_response_format, chat_tool_choice, chat_tools

WIRE = "mistral-chat"


def _document(document: Document) -> dict[str, Any]:
    """Return the content part of a document, as the SDK's `DocumentURLChunk` and `FileChunk` have it."""
    if document.file_id is not None:
        return {"type": "file", "file_id": document.file_id}
    part = {"type": "document_url", "document_url": document.as_url}
    return part if document.name is None else {**part, "document_name": document.name}


# "Tool call id must be a-z, A-Z, 0-9, with a length of 9": the API's own error message.
TURNS = ChatTurns(
    wire=WIRE, ids=re.compile(r"[a-zA-Z0-9]{9}"), reasoning=frozenset(), document=_document, images_in_results=True
)


@lru_cache(maxsize=64)
def _turns(source: str | None) -> ChatTurns:
    return replace(TURNS, source=source)


def chat_body(request: Request, model: str, vendor: Vendor, source: str | None = None) -> dict[str, Any]:
    """Return the JSON body, which is also the keyword arguments of `chat.stream_async`, without `extra`.

    `source` names the server, as in `Opaque.source`.

    Raises:
        ConfigError: this API cannot express something in the request, or a tool call was cut.
    """
    if isinstance(request.reasoning, int):
        raise vendor.unsupported("a budget of reasoning tokens", "give an effort such as 'high'", field="reasoning")
    body: dict[str, Any] = {"model": model, "messages": chat_messages(request, _turns(source))}
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
