"""Write a `Request` as the body of a Messages API call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.provider import Vendor
from streamcore.request import Image, Message, Part, Request
from streamcore.wire.closed_schema import FORMATS, SchemaDialect, closed_schema
from streamcore_anthropic.wire import WIRE

DEFAULT_MAX_TOKENS = 8192
# As the SDK's own `transform_schema` has it.
SCHEMAS = SchemaDialect(require_all=False, keywords=frozenset(), formats=FORMATS | {"uri"})
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def messages_body(request: Request, model: str, vendor: Vendor) -> dict[str, Any]:
    """Return the keyword arguments of `messages.create`, without `stream` and `extra`.

    Raises:
        ConfigError: the request has something that this API cannot say.
    """
    if request.seed is not None:
        raise vendor.unsupported("a seed", "its API has none; leave seed= out")
    if isinstance(request.cache, str):
        raise vendor.unsupported("a cache key", "give cache=True")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _messages(request, vendor),
    }
    instructions = [message for message in request.messages if message.role == "system"]
    if any(isinstance(part, Image) for message in instructions for part in message.parts):
        raise vendor.unsupported("an image in a system message", "put it into a user message")
    system = "\n\n".join(message.text for message in instructions if message.text)
    if system:
        body["system"] = system
    if request.temperature is not None:
        # The SDK has dropped the parameter, since newer models refuse it; the API still takes it for the others.
        body["extra_body"] = {"temperature": request.temperature}
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in request.tools
        ]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.cache:
        body["cache_control"] = {"type": "ephemeral"}
    output: dict[str, Any] = {}
    if request.output_schema is not None:
        output["format"] = {"type": "json_schema", "schema": output_schema(request.output_schema)}
    if request.reasoning is not None:
        _reasoning(request.reasoning, body, output, vendor)
    if output:
        body["output_config"] = output
    return body


def output_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a schema that this API takes; one that has none goes as it is, to be refused aloud."""
    return closed_schema(schema, SCHEMAS) or dict(schema)


def _reasoning(effort: str | int, body: dict[str, Any], output: dict[str, Any], vendor: Vendor) -> None:
    if isinstance(effort, int):
        body["thinking"] = {"type": "enabled", "budget_tokens": effort}
    elif effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort in _EFFORTS:
        body["thinking"] = {"type": "adaptive"}
        output["effort"] = effort
    else:
        raise vendor.unsupported(
            f"reasoning={effort!r}",
            f"give one of 'none', {', '.join(map(repr, _EFFORTS))}, or a number of tokens",
        )


def _tool_choice(choice: str) -> dict[str, Any]:
    if choice in ("auto", "none"):
        return {"type": choice}
    return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}


def _messages(request: Request, vendor: Vendor) -> list[dict[str, Any]]:
    """Return the turns; answers to several calls of one turn belong into one message."""
    written: list[dict[str, Any]] = []
    answering = False
    for message in request.messages:
        if message.role == "system":
            continue
        if message.role == "tool":
            if not answering:
                written.append({"role": "user", "content": []})
            written[-1]["content"].append(_tool_result(message))
        else:
            written.append({"role": message.role, "content": _content(message, vendor)})
        answering = message.role == "tool"
    return written


def _tool_result(message: Message) -> dict[str, Any]:
    result: str | list[dict[str, Any]] = (
        message.content if isinstance(message.content, str) else [_part(part) for part in message.parts]
    )
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": result}


def _content(message: Message, vendor: Vendor) -> str | list[dict[str, Any]]:
    if message.opaque is not None and message.opaque.wire == WIRE:
        return [dict(item) for item in message.opaque.items]
    if isinstance(message.content, str) and not message.tool_calls:
        return message.content
    return [
        *(_part(part) for part in message.parts),
        *(_tool_use(call, vendor) for call in message.tool_calls),
    ]


def _tool_use(call: ToolCall, vendor: Vendor) -> dict[str, Any]:
    try:
        given = call.parse()
    except ValueError as error:
        raise vendor.unsupported(f"tool call {call.name!r}", f"leave it out: {error}") from error
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _part(part: Part) -> dict[str, Any]:
    if not isinstance(part, Image):
        return {"type": "text", "text": part.text}
    if part.url is not None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": part.media_type, "data": part.base64},
    }
