"""Read requests of the chat-completions dialect.

Source: the API reference of `chat.completions.create`, and the types of `openai` 3.57 and `mistralai` 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from streamcore.chunk import Opaque, ToolCall
from streamcore.request import Document, Image, Message, Part, ReasoningEffort, Request, Role, Text, Tool
from streamcore.wire.encoding.documents import document_at, file_part
from streamcore.wire.encoding.reading import EFFORTS, Fields, image_of
from streamcore.wire.encoding.wire import RequestRefused, WireRequest

INFORMATIVE = frozenset({"metadata", "safety_identifier", "store", "user"})
"""Parameters that do not change the answer: they are sent to a provider of the same wire, and else left out."""

SHARED = frozenset({"top_p"})

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class ChatRequests:
    """Say how the requests of a server of the dialect differ."""

    wire: str = "openai-chat"
    seed: str = "seed"
    required: str = "required"
    """The value for "at least one call of any tool" in `tool_choice`."""
    usage_on_request: bool = True
    """True if token counts are streamed only if `stream_options.include_usage` is true."""

    def read(self, body: Mapping[str, Any]) -> WireRequest:
        """Return the request of a body.

        Raises:
            RequestRefused: it is not valid, or has something that no provider could honour.
        """
        fields = Fields(body)
        model = fields.required("model")
        messages = [self._message(message) for message in fields.objects("messages")]
        if not messages:
            raise fields.refuse("messages", "must have at least one message")
        options = fields.object("stream_options")
        include_usage = not self.usage_on_request
        if options is not None:
            include_usage = bool(options.flag("include_usage")) or include_usage
            options.drop("include_obfuscation")
            options.end()
        limit = fields.whole("max_completion_tokens", 1)
        older = fields.whole("max_tokens", 1)
        request = Request(
            messages,
            temperature=fields.number("temperature", 0),
            default_temperature=None,
            max_tokens=older if limit is None else limit,
            stop=fields.texts("stop"),
            tools=[_tool(tool) for tool in fields.objects("tools")],
            tool_choice=self._tool_choice(fields),
            output_schema=_schema(fields),
            reasoning=cast("ReasoningEffort | None", fields.one_of("reasoning_effort", EFFORTS)),
            seed=fields.whole(self.seed),
            cache=fields.text("prompt_cache_key"),
        )
        stream = bool(fields.flag("stream"))
        fields.drop_default(n=1, top_p=1, presence_penalty=0, frequency_penalty=0, logprobs=False, logit_bias={})
        fields.drop_default(parallel_tool_calls=True, service_tier="auto", modalities=["text"])
        return WireRequest(
            model,
            replace(request, extra=dict(fields.rest())),
            stream=stream,
            include_usage=include_usage or not stream,
            params={
                "max_tokens": "max_completion_tokens" if limit is not None else "max_tokens",
                "reasoning": "reasoning_effort",
                "output_schema": "response_format",
                "seed": self.seed,
                "cache": "prompt_cache_key",
            },
        )

    def _message(self, fields: Fields) -> Message:
        role = _ROLES.get(fields.required("role"))
        if role is None:
            raise fields.refuse("role", f"must be one of {', '.join(map(repr, _ROLES))}")
        content, kept = self._content(fields)
        if role == "assistant":
            return self._answer(fields, content, kept)
        call = fields.required("tool_call_id") if role == "tool" else None
        if role == "tool":
            fields.drop("name")  # of the function; the call has it, too
        fields.end()
        return Message(role, content, tool_call_id=call)

    def _answer(self, fields: Fields, content: str | list[Part], kept: list[Mapping[str, Any]]) -> Message:
        """Read an assistant's message, with all fields that an answer has."""
        opaque: dict[str, Any] = {}
        for key in ("reasoning_content", "reasoning"):
            reasoning = fields.text(key)
            if reasoning:
                opaque[key] = reasoning
        details = [one.rest() for one in fields.objects("reasoning_details")]
        calls: list[ToolCall] = []
        extras: dict[str, Any] = {}
        for call in fields.objects("tool_calls"):
            position = len(calls)
            calls.append(_call(call, position))
            if call.rest():
                extras[str(position)] = call.rest()
        if extras:
            opaque["tool_calls"] = extras
        refusal = fields.text("refusal")
        fields.drop("annotations", "audio", "function_call", "prefix")
        fields.end()
        items = tuple(kept) if self.wire != "openai-chat" else tuple(details)
        data = Opaque(self.wire, items, opaque) if items or opaque else None
        return Message("assistant", content or refusal or "", tool_calls=tuple(calls), opaque=data)

    def _content(self, fields: Fields) -> tuple[str | list[Part], list[Mapping[str, Any]]]:
        """Return the content of a message, and its parts that only the same server can read."""
        value = fields.any("content")
        if value is None or isinstance(value, str):
            return value or "", []
        parts: list[Part] = []
        kept: list[Mapping[str, Any]] = []
        for part in Fields({"content": value}, fields.path).objects("content"):
            match part.required("type"):
                case "text":
                    parts.append(Text(part.text("text") or ""))
                case "refusal":
                    parts.append(Text(part.text("refusal") or ""))
                case "image_url":
                    parts.append(_image(part))
                case "file" if self.wire == "openai-chat":
                    parts.append(_file(part))
                case "file":
                    parts.append(Document(file_id=part.required("file_id")))
                case "document_url" if self.wire != "openai-chat":
                    name = part.text("document_name")
                    parts.append(document_at(part.required("document_url"), part, "document_url", name))
                case "thinking" if self.wire != "openai-chat":
                    kept.append({"type": "thinking", **part.rest()})
                    part.drop("thinking", "closed")
                case other:
                    raise part.refuse("type", f"{other!r} is not supported; text, image_url and file are")
            part.drop("annotations", "logprobs")
            part.end()
        return parts, kept

    def _tool_choice(self, fields: Fields) -> str | None:
        value = fields.any("tool_choice")
        if value is None or value in ("auto", "none"):
            return cast("str | None", value)
        if value in ("required", self.required):
            return "required"
        choice = Fields(value, "tool_choice")
        if choice.text("type") != "function":
            raise choice.refuse("type", "must be 'function'")
        function = choice.object("function")
        if function is None:
            raise choice.refuse("function", "is required")
        return function.required("name")


def _image(part: Fields) -> Image:
    given = part.any("image_url")
    if isinstance(given, str):
        return image_of(given, part, "image_url")
    image = Fields(given, part.name("image_url"))
    url = image.required("url")
    image.drop_default(detail="auto")
    image.end()
    return image_of(url, image, "url")


def _file(part: Fields) -> Document:
    file = part.object("file")
    if file is None:
        raise part.refuse("file", "is required")
    found = file_part(file)
    file.end()
    return found


def _call(fields: Fields, position: int) -> ToolCall:
    kind = fields.text("type")
    if kind not in (None, "function", "custom"):
        raise fields.refuse("type", f"{kind!r} is not supported; 'function' is")
    identity = fields.text("id")
    fields.drop("index")
    function = fields.object("custom" if kind == "custom" else "function")
    if function is None:
        raise fields.refuse("function", "is required")
    name = function.required("name")
    arguments = function.any("input" if kind == "custom" else "arguments")
    if not isinstance(arguments, str | None):
        raise function.refuse("arguments", "must be a string of JSON")
    return ToolCall(identity, name, arguments or "", position, custom=kind == "custom")


def _tool(fields: Fields) -> Tool:
    kind = fields.required("type")
    if kind != "function":
        raise fields.refuse("type", f"{kind!r} is not supported; 'function' is")
    function = fields.object("function")
    if function is None:
        raise fields.refuse("function", "is required")
    name, description = function.required("name"), function.text("description")
    parameters = function.mapping("parameters")
    function.drop("strict")  # each provider enforces what it can
    function.end()
    fields.end()
    return Tool(name, description or "") if parameters is None else Tool(name, description or "", parameters)


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    form = fields.object("response_format")
    if form is None:
        return None
    kind = form.required("type")
    if kind == "text":
        return None
    if kind != "json_schema":
        raise form.refuse("type", f"{kind!r} is not supported; 'text' and 'json_schema' are")
    found = form.object("json_schema")
    return None if found is None else named_schema(found)


def named_schema(fields: Fields) -> Mapping[str, Any]:
    """Return a JSON Schema with its name as title."""
    schema = fields.mapping("schema")
    if schema is None:
        raise RequestRefused(f"{fields.name('schema')} is required", param=fields.name("schema"))
    name = fields.text("name")
    return {"title": name, **schema} if name and "title" not in schema else schema
