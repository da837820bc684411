"""Encode a `Request` as the body of a `ConverseStream` call.

Source: the API reference of Amazon Bedrock Runtime, "Converse", and the service model of `botocore` 1.44.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.provider import Vendor
from streamcore.request import Message, Part, Request, Role, Text, Tool
from streamcore.wire.closed_schema import FORMATS, SchemaDialect, closed_schema
from streamcore.wire.lenient import is_object, mapping, text
from streamcore.wire.turns import fitting_turns, opaque_for
from streamcore_bedrock.blocks import is_server_tool
from streamcore_bedrock.files import file_block, name_documents
from streamcore_bedrock.reasoning import reasoning_fields
from streamcore_bedrock.wire import WIRE

Json = dict[str, Any]

CALL_IDS = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
SCHEMAS = SchemaDialect(require_all=False, keywords=frozenset(), formats=FORMATS)
CACHE_POINT: Mapping[str, Any] = {"cachePoint": {"type": "default"}}
_FILES_IN: tuple[Role, ...] = ("user", "tool")
_MERGED = ("additionalModelRequestFields", "inferenceConfig", "outputConfig")
"""The objects of the body that `Request.extra` may add keys to."""


def converse_body(request: Request, model: str, vendor: Vendor, source: str | None = None) -> Json:
    """Return the body of the request, `extra` included; `source` names the server, as in `Opaque.source`.

    Raises:
        ConfigError: this API cannot express something in the request, or a tool call was cut.
    """
    if request.seed is not None:
        raise vendor.unsupported("a seed", "its API has none; leave seed= out")
    if isinstance(request.cache, str):
        raise vendor.unsupported("a cache key", "give cache=True")
    messages = _messages(request, vendor, source)
    body: Json = {"messages": messages}
    system = _system(request, vendor)
    if system:
        body["system"] = system
    inference = _inference(request)
    if inference:
        body["inferenceConfig"] = inference
    tools = _tool_config(request, messages, vendor)
    if tools:
        body["toolConfig"] = tools
    if request.output_schema is not None:
        body["outputConfig"] = {"textFormat": _text_format(request.output_schema)}
    if request.reasoning is not None:
        fields = reasoning_fields(request.reasoning, model, vendor)
        _let_think(request, fields, body)
        body = _merged(body, fields)
    if request.cache and messages:
        messages[-1]["content"].append(dict(CACHE_POINT))
    return _merged(body, request.extra)


def _merged(body: Json, more: Mapping[str, Any]) -> Json:
    """Return the body with the keys of `more`, which override; the objects in `_MERGED` are merged by key."""
    merged = {**body, **more}
    for name in _MERGED:
        if is_object(body.get(name)) and is_object(more.get(name)):
            merged[name] = {**body[name], **more[name]}
    return merged


def _system(request: Request, vendor: Vendor) -> list[Json]:
    instructions = [message for message in request.messages if message.role == "system"]
    if any(not isinstance(part, Text) for message in instructions for part in message.parts):
        raise vendor.unsupported("an image or a document in a system message", "put it into a user message")
    system: list[Json] = [{"text": message.text} for message in instructions if message.text.strip()]
    return [*system, dict(CACHE_POINT)] if system and request.cache else system


def _inference(request: Request) -> Json:
    fields = {
        "maxTokens": request.max_tokens,
        "temperature": request.temperature,
        "stopSequences": list(request.stop) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _let_think(request: Request, fields: Mapping[str, Any], body: Json) -> None:
    """Raise `maxTokens`, which includes a budget for thinking, if a limit for the answer is not above it."""
    budget = request.reasoning
    limit = request.max_tokens
    thinking = mapping(fields.get("additionalModelRequestFields")).get("thinking")
    if isinstance(budget, int) and limit is not None and limit <= budget and thinking is not None:
        body["inferenceConfig"]["maxTokens"] = limit + budget


def _text_format(schema: Mapping[str, Any]) -> Json:
    """Return the output format; a schema without a closed form is sent as it is, and the API refuses it."""
    written = json.dumps(closed_schema(schema, SCHEMAS) or dict(schema), ensure_ascii=False)
    return {"type": "json_schema", "structure": {"jsonSchema": {"schema": written, "name": "answer"}}}


def _tool_config(request: Request, messages: Iterable[Json], vendor: Vendor) -> Json:
    """Return the tools; the API has no choice "none", and requires tools if the conversation has calls."""
    choice = request.tool_choice
    uses = (mapping(block.get("toolUse")) for message in messages for block in message["content"])
    has_calls = "toolConfig" not in request.extra and any(use and not is_server_tool(use) for use in uses)
    if choice == "none" and request.tools and has_calls:
        raise vendor.unsupported("tool_choice='none' after tool calls", "use tool_choice='auto'")
    if not request.tools or choice == "none":
        if has_calls:
            raise vendor.unsupported("tool calls without tools", "give tools= the functions that were called")
        return {}
    config: Json = {"tools": [_tool(tool) for tool in request.tools]}
    if choice is not None:
        config["toolChoice"] = _tool_choice(choice)
    return config


def _tool(tool: Tool) -> Json:
    described = {"description": tool.description} if tool.description else {}
    return {"toolSpec": {"name": tool.name, **described, "inputSchema": {"json": dict(tool.parameters)}}}


def _tool_choice(choice: str) -> Json:
    if choice == "auto":
        return {"auto": {}}
    return {"any": {}} if choice == "required" else {"tool": {"name": choice}}


def _messages(request: Request, vendor: Vendor, source: str | None) -> list[Json]:
    """Return the turns, user and assistant in alternation: messages of one role in a row become one."""
    written: list[Json] = []
    for message in fitting_turns(request.messages, CALL_IDS, _FILES_IN):
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "assistant":
            blocks = _answer(message, vendor, source)
        elif message.role == "tool":
            blocks = [_tool_result(message, vendor)]
        else:
            blocks = _parts(message.parts, vendor) or [{"text": message.text}]
        if not blocks:
            continue  # the API refuses an empty turn
        if written and written[-1]["role"] == role:
            written[-1]["content"] += blocks
        else:
            written.append({"role": role, "content": blocks})
    if written and written[-1]["role"] == "assistant":
        _strip_last_blanks(written[-1]["content"])
    name_documents(written, vendor)
    return written


def _tool_result(message: Message, vendor: Vendor) -> Json:
    status = {"status": "error"} if message.is_error else {}
    return {"toolResult": {"toolUseId": message.tool_call_id, "content": _parts(message.parts, vendor), **status}}


def _parts(parts: Iterable[Part], vendor: Vendor) -> list[Json]:
    """Return the parts as blocks, without blank texts, which the API refuses."""
    blocks: list[Json] = []
    for part in parts:
        if not isinstance(part, Text):
            blocks.append(file_block(part, vendor))
        elif part.text.strip():
            blocks.append({"text": part.text})
    return blocks


def _answer(message: Message, vendor: Vendor, source: str | None) -> list[Json]:
    """Return the content of an assistant's turn: the original blocks, if this server sent them."""
    opaque = opaque_for(message, WIRE, source)
    if opaque is None:
        return [*_parts(message.parts, vendor), *(_tool_use(call, vendor) for call in message.tool_calls)]
    calls = iter(message.tool_calls)
    blocks = [block for block in (_block(item, calls) for item in opaque.items) if block is not None]
    # Models take a turn of reasoning only for the beginning of an answer, which they are to continue.
    return blocks if any("reasoningContent" not in block for block in blocks) else []


def _block(block: Mapping[str, Any], calls: Iterator[ToolCall]) -> Json | None:
    """Return a block as the API accepts it; None for one that models refuse: blank text, unsigned reasoning."""
    use = mapping(block.get("toolUse"))
    if use:
        call = None if is_server_tool(use) else next(calls, None)
        return dict(block) if call is None else {"toolUse": {**use, "toolUseId": call.id}}
    if "text" in block:
        return dict(block) if (text(block["text"]) or "").strip() else None
    if "reasoningContent" in block:
        reasoning = mapping(block["reasoningContent"])
        signed = reasoning.get("redactedContent") or mapping(reasoning.get("reasoningText")).get("signature")
        return dict(block) if signed else None
    return dict(block)


def _tool_use(call: ToolCall, vendor: Vendor) -> Json:
    given = {"input": call.arguments} if call.custom else call.parse()
    if given is not None and not is_object(given):
        raise vendor.unsupported(
            f"tool call {call.name!r} ({call.id!r})", f"its arguments are not a JSON object: {call.arguments[:80]!r}"
        )
    return {"toolUse": {"toolUseId": call.id, "name": call.name, "input": given or {}}}


def _strip_last_blanks(content: list[Json]) -> None:
    """Remove whitespace at the end of a last assistant's turn, which models refuse there."""
    last = content[-1]
    if isinstance(last.get("text"), str):
        content[-1] = {**last, "text": last["text"].rstrip()}
