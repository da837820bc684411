"""Read requests of the Messages API.

Source: the Messages API reference, and the types of `anthropic` 2.14.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from streamcore.chunk import Opaque, ToolCall
from streamcore.parts import PDF
from streamcore.request import Document, Image, Message, Part, ReasoningEffort, Request, Text, Tool
from streamcore.wire.encoding.reading import EFFORTS, Fields, decoded
from streamcore.wire.encoding.wire import WireRequest
from streamcore.wire.lenient import is_object
from streamcore_anthropic.wire import WIRE

INFORMATIVE = frozenset({"metadata"})
SHARED = frozenset({"top_p"})

_PARAMS = {
    "stop": "stop_sequences",
    "reasoning": "thinking",
    "system": "system",
    "output_schema": "output_config.format",
    "cache": "cache_control",
}


class _Reader:
    """Read one request."""

    def __init__(self) -> None:
        self._cache = False

    def read(self, body: Mapping[str, Any]) -> WireRequest:
        fields = Fields(body)
        model = fields.required("model")
        limit = fields.whole("max_tokens", 1)
        if limit is None:
            raise fields.refuse("max_tokens", "is required")
        messages = [*self._system(fields)]
        turns = [turn for message in fields.objects("messages") for turn in self._turns(message)]
        if not turns:
            raise fields.refuse("messages", "must have at least one message")
        schema, reasoning = self._output(fields)
        if fields.any("cache_control") is not None:
            self._cache = True
        tools = [self._tool(tool) for tool in fields.objects("tools")]
        request = Request(
            [*messages, *turns],
            temperature=fields.number("temperature", 0),
            default_temperature=None,
            max_tokens=limit,
            stop=fields.texts("stop_sequences"),
            tools=tools,
            tool_choice=self._tool_choice(fields),
            output_schema=schema,
            reasoning=reasoning,
            cache=True if self._cache else None,
        )
        stream = bool(fields.flag("stream"))
        fields.drop_default(service_tier="auto", top_p=1)
        request = replace(request, extra=dict(fields.rest()))
        return WireRequest(model, request, stream=stream, params=_PARAMS)

    def _system(self, fields: Fields) -> list[Message]:
        value = fields.any("system")
        if value is None or isinstance(value, str):
            return [Message("system", value)] if value else []
        texts: list[Part] = []
        for block in Fields({"system": value}).objects("system"):
            if block.required("type") != "text":
                raise block.refuse("type", "must be 'text'")
            texts.append(self._text(block))
        return [Message("system", texts)]

    def _text(self, block: Fields) -> Text:
        text = block.required("text")
        self._drop(block, "citations")
        return Text(text)

    def _drop(self, block: Fields, *keys: str) -> None:
        """End a block; a mark of the cache turns caching on."""
        self._cache = block.any("cache_control") is not None or self._cache
        block.drop(*keys)
        block.end()

    def _turns(self, fields: Fields) -> list[Message]:
        role = fields.one_of("role", ("user", "assistant"))
        if role is None:
            raise fields.refuse("role", "is required")
        value = fields.any("content")
        if value is None:
            raise fields.refuse("content", "is required")
        fields.end()
        if isinstance(value, str):
            return [Message("user" if role == "user" else "assistant", value)]
        blocks = [*Fields({"content": value}, fields.path).objects("content")]
        if role == "assistant":
            return [self._answer(blocks, value)]
        return self._questions(blocks)

    def _questions(self, blocks: list[Fields]) -> list[Message]:
        """Return the results of tools as separate messages, then the user's content."""
        results: list[Message] = []
        parts: list[Part] = []
        for block in blocks:
            kind = block.required("type")
            if kind == "tool_result":
                results.append(self._result(block))
            else:
                parts.append(self._part(block, kind))
        return [*results, *([Message("user", parts)] if parts or not results else [])]

    def _part(self, block: Fields, kind: str) -> Part:
        if kind == "text":
            return self._text(block)
        if kind == "document":
            return self._document(block)
        if kind != "image":
            raise block.refuse("type", f"{kind!r} is not supported; text, image, document and tool_result are")
        source = block.object("source")
        if source is None:
            raise block.refuse("source", "is required")
        self._drop(block)
        match source.required("type"):
            case "url":
                image = Image(url=source.required("url"))
            case "base64":
                image = Image(
                    data=decoded(source.required("data"), source, "data"), media_type=source.required("media_type")
                )
            case other:
                raise source.refuse("type", f"{other!r} is not supported; base64 and url are")
        source.end()
        return image

    def _document(self, block: Fields) -> Document:
        source, name = block.object("source"), block.text("title")
        if source is None:
            raise block.refuse("source", "is required")
        block.drop_default(citations={"enabled": False})
        self._drop(block)
        media_type = source.text("media_type")
        match source.required("type"):
            case "url":
                found = Document(url=source.required("url"), name=name)
            case "file":
                found = Document(file_id=source.required("file_id"), name=name)
            case "text":
                text = source.required("data").encode("utf-8", "replace")
                found = Document(data=text, media_type=media_type or "text/plain", name=name)
            case "base64":
                data = decoded(source.required("data"), source, "data")
                found = Document(data=data, media_type=media_type or PDF, name=name)
            case other:
                raise source.refuse("type", f"{other!r} is not supported; base64, text, url and file are")
        source.end()
        return found

    def _result(self, block: Fields) -> Message:
        identity = block.required("tool_use_id")
        value = block.any("content")
        content: str | list[Part] = value or "" if isinstance(value, str | None) else []
        if not isinstance(value, str | None):
            parts = Fields({"content": value}, block.path).objects("content")
            content = [self._part(part, part.required("type")) for part in parts]
        self._drop(block, "is_error")  # the content describes the error
        return Message("tool", content, tool_call_id=identity)

    def _answer(self, blocks: list[Fields], value: list[Any]) -> Message:
        """Return an answer; blocks beside text and calls are sent back to this vendor as they are."""
        texts: list[str] = []
        calls: list[ToolCall] = []
        plain = True
        for number, block in enumerate(blocks):
            kind = block.required("type")
            if kind == "text":
                plain = plain and number == 0
                texts.append(block.required("text"))
            elif kind == "tool_use":
                given = block.any("input")
                written = json.dumps(given if is_object(given) else {}, ensure_ascii=False)
                calls.append(ToolCall(block.required("id"), block.required("name"), written, len(calls)))
            else:
                plain = False
            self._cache = block.any("cache_control") is not None or self._cache
            plain = plain and not (kind in ("text", "tool_use") and block.rest())
        items = tuple({key: one for key, one in block.items() if key != "cache_control"} for block in value)
        opaque = None if plain else Opaque(WIRE, items)
        return Message("assistant", "".join(texts), tool_calls=tuple(calls), opaque=opaque)

    def _tool(self, fields: Fields) -> Tool:
        kind = fields.text("type")
        if kind not in (None, "custom"):
            raise fields.refuse("type", f"{kind!r} is not supported; tools with an input_schema are")
        name, description = fields.required("name"), fields.text("description")
        schema = fields.mapping("input_schema")
        if schema is None:
            raise fields.refuse("input_schema", "is required")
        self._drop(fields, "strict", "eager_input_streaming")
        return Tool(name, description or "", schema)

    def _tool_choice(self, fields: Fields) -> str | None:
        choice = fields.object("tool_choice")
        if choice is None:
            return None
        kind = choice.one_of("type", ("auto", "any", "tool", "none"))
        name = choice.text("name")
        choice.drop_default(disable_parallel_tool_use=False)
        choice.end()
        if kind == "tool":
            if name is None:
                raise choice.refuse("name", "is required")
            return name
        return "required" if kind == "any" else kind

    def _output(self, fields: Fields) -> tuple[Mapping[str, Any] | None, ReasoningEffort | int | None]:
        """Return the schema and the reasoning effort."""
        schema: Mapping[str, Any] | None = None
        reasoning: ReasoningEffort | int | None = None
        output = fields.object("output_config")
        if output is not None:
            reasoning = cast("ReasoningEffort | None", output.one_of("effort", EFFORTS))
            form = output.object("format")
            if form is not None:
                if form.required("type") != "json_schema":
                    raise form.refuse("type", "must be 'json_schema'")
                schema = form.mapping("schema")
                form.end()
            output.end()
        thinking = fields.object("thinking")
        if thinking is not None:
            kind = thinking.one_of("type", ("enabled", "disabled", "adaptive"))
            budget = thinking.whole("budget_tokens", 1)
            thinking.drop("display")
            thinking.end()
            if kind == "enabled":
                if budget is None:
                    raise thinking.refuse("budget_tokens", "is required")
                reasoning = budget
            elif kind == "disabled":
                reasoning = "none"
            else:
                reasoning = reasoning or "high"  # the API's default effort
        return schema, reasoning


def read_request(body: Mapping[str, Any]) -> WireRequest:
    """Return the request of a body.

    Raises:
        RequestRefused: it is not valid, or has something that no provider could honour.
    """
    return _Reader().read(body)
