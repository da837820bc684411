"""Encode a `Request` as the body of a `generateContent` call."""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.provider import Vendor
from streamcore.request import Document, Image, Message, Part, Request, Text
from streamcore.wire.closed_schema import SchemaDialect
from streamcore.wire.lenient import is_array, is_object, mapping, text
from streamcore.wire.turns import fitting_turns, opaque_for
from streamcore_google.turn import WIRE

# The JSON Schema that `responseJsonSchema` supports: its description in the API's reference.
SCHEMAS = SchemaDialect(
    require_all=False,
    keywords=frozenset({"minimum", "maximum", "minItems", "maxItems"}),
    formats=frozenset({"date-time", "date", "time"}),
)
_LEVELS = ("minimal", "low", "medium", "high")
# Thinking budgets for the efforts, of models that have no levels: "OpenAI compatibility", in the API's documentation.
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_BEFORE_LEVELS = re.compile(r"gemini-[12](\.|-|$)")
_SIGNED = re.compile(r"gemini-([3-9]|\d\d)")  # the models that refuse a call without a signature
UNSIGNED = "skip_thought_signature_validator"
"""The signature for a call that Gemini did not make: "Thought signatures", in the API's documentation."""


def generate_body(
    request: Request, model: str, vendor: Vendor, source: str | None = None, *, vertex: bool = False
) -> dict[str, Any]:
    """Return the JSON body of `streamGenerateContent`, `extra` included.

    Args:
        request: what to send.
        model: the model's name, which decides how reasoning is set.
        vendor: names the provider in errors.
        source: names the server, as in `Opaque.source`.
        vertex: the server is Vertex AI, which wants the type of every file.

    Raises:
        ConfigError: this API cannot express something in the request, or a tool call was cut.
    """
    if isinstance(request.cache, str):
        raise vendor.unsupported("a cache key", "give extra={'cachedContent': NAME} for a cache that you made")
    body: dict[str, Any] = {"contents": _Contents(vendor, model, source, vertex).of(request.messages)}
    instructions = [message for message in request.messages if message.role == "system"]
    if any(isinstance(part, Image) for message in instructions for part in message.parts):
        raise vendor.unsupported("an image in a system message", "put it into a user message")
    system = "\n\n".join(message.text for message in instructions if message.text)
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if request.tools:
        body["tools"] = [
            {
                "functionDeclarations": [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "parametersJsonSchema": dict(tool.parameters),
                    }
                    for tool in request.tools
                ]
            }
        ]
    if request.tool_choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _tool_choice(request.tool_choice)}
    config = _config(request, model, vendor)
    if config:
        body["generationConfig"] = config
    return _merged(body, request.extra)


def _config(request: Request, model: str, vendor: Vendor) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.seed is not None:
        config["seed"] = request.seed
    if request.output_schema is not None:
        config["responseMimeType"] = "application/json"
        config["responseJsonSchema"] = dict(request.output_schema)
    if request.reasoning is not None:
        config["thinkingConfig"] = _thinking(request.reasoning, model, vendor)
    return config


def _thinking(effort: str | int, model: str, vendor: Vendor) -> dict[str, Any]:
    """Return `thinkingConfig`: a budget, or a level for models that have levels; thoughts are included."""
    if effort == "none":
        return {"thinkingBudget": 0}
    if isinstance(effort, int):
        return {"includeThoughts": True, "thinkingBudget": effort}
    if effort not in _LEVELS:
        levels = ", ".join(map(repr, _LEVELS))
        raise vendor.unsupported(f"reasoning={effort!r}", f"give one of 'none', {levels}, or a number of tokens")
    if _BEFORE_LEVELS.search(model):
        return {"includeThoughts": True, "thinkingBudget": _BUDGETS[effort]}
    return {"includeThoughts": True, "thinkingLevel": effort}


def _tool_choice(choice: str) -> dict[str, Any]:
    if choice in ("auto", "none"):
        return {"mode": choice.upper()}
    return {"mode": "ANY"} if choice == "required" else {"mode": "ANY", "allowedFunctionNames": [choice]}


def _merged(body: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with the keys of `extra`: objects merge, tools are appended, anything else is replaced."""
    merged = dict(body)
    for key, value in extra.items():
        known = merged.get(key)
        if is_object(known) and is_object(value):
            merged[key] = _merged(known, value)
        elif key == "tools" and is_array(known):
            merged[key] = [*known, *value]
        else:
            merged[key] = value
    return merged


class _Contents:
    """Write the turns of one request."""

    def __init__(self, vendor: Vendor, model: str, source: str | None, vertex: bool) -> None:
        self._vendor = vendor
        self._source = source
        self._vertex = vertex
        self._wants_signatures = _SIGNED.search(model) is not None
        self._calls: dict[str | None, tuple[str, str | None]] = {}  # name and the vendor's id of each call, by our id

    def of(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return `contents`; the results of all calls of one turn go into one turn."""
        written: list[dict[str, Any]] = []
        answering = False
        for message in fitting_turns(messages, documents_in=("user", "tool")):
            if message.role == "system":
                continue
            if message.role == "tool":
                if not answering:
                    written.append({"role": "user", "parts": []})
                written[-1]["parts"].append(self._result(message))
            else:
                parts = self._answer(message) if message.role == "assistant" else list(self._parts(message.parts))
                if not parts and message.role == "assistant":
                    continue  # the API refuses an empty turn
                written.append({"role": "user" if message.role == "user" else "model", "parts": parts})
            answering = message.role == "tool"
        return written

    def _answer(self, message: Message) -> list[dict[str, Any]]:
        """Return the parts of an assistant's turn: the original ones, if this server sent them."""
        opaque = opaque_for(message, WIRE, self._source)
        if opaque is None:
            parts = [*self._parts(message.parts), *map(self._call, message.tool_calls)]
            first = next((part for part in parts if "functionCall" in part), None)
            if first is not None and self._wants_signatures:
                first["thoughtSignature"] = UNSIGNED
            return parts
        calls = iter(message.tool_calls)
        for item in opaque.items:
            given = mapping(item.get("functionCall"))
            call = next(calls, None) if given else None
            if call is not None:
                self._calls[call.id] = call.name or "", text(given.get("id"))
        return [dict(item) for item in opaque.items]

    def _call(self, call: ToolCall) -> dict[str, Any]:
        given = {"input": call.arguments} if call.custom else call.parse()
        if given is not None and not is_object(given):
            raise self._vendor.unsupported(
                f"tool call {call.name!r} ({call.id!r})",
                f"its arguments are not a JSON object: {call.arguments[:80]!r}",
            )
        self._calls[call.id] = call.name or "", None
        return {"functionCall": {"name": call.name, "args": given or {}}}

    def _result(self, message: Message) -> dict[str, Any]:
        """Return the result of a call, with the call's name, and with its id if the vendor gave it one."""
        if message.tool_call_id not in self._calls:
            raise self._vendor.unsupported(
                f"the result of the tool call {message.tool_call_id!r}",
                "no message before it has that call, and its API wants the call's name",
            )
        name, call_id = self._calls[message.tool_call_id]
        response: dict[str, Any] = {
            "name": name,
            "response": {"error": message.text} if message.is_error else _object(message.text),
        }
        files = [part for part in self._parts(message.parts) if "text" not in part]
        if files:
            response["parts"] = files
        return {"functionResponse": response if call_id is None else {"id": call_id, **response}}

    def _parts(self, parts: Iterable[Part]) -> Iterator[dict[str, Any]]:
        """Yield the parts, without empty texts, which the API refuses."""
        for part in parts:
            if not isinstance(part, Text):
                yield self._file(part)
            elif part.text:
                yield {"text": part.text}

    def _file(self, part: Image | Document) -> dict[str, Any]:
        if part.data is not None:
            return {"inlineData": {"mimeType": part.media_type, "data": part.base64}}
        uri = part.url or (part.file_id if isinstance(part, Document) else None) or ""
        kind = part.media_type or mimetypes.guess_type(uri)[0]
        if kind is None and self._vertex:
            what = "a document" if isinstance(part, Document) else "an image"
            raise self._vendor.unsupported(f"{what} without its type to Vertex AI", "give media_type=")
        return {"fileData": {"fileUri": uri} if kind is None else {"mimeType": kind, "fileUri": uri}}


def _object(result: str) -> dict[str, Any]:
    """Return the result of a tool as the object that the API wants."""
    try:
        found: object = json.loads(result)
    except (ValueError, RecursionError):
        found = None
    return found if is_object(found) else {"output": result}
