"""Encode a `Request` as the body of a Messages API call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streamcore.chunk import ToolCall
from streamcore.provider import Vendor
from streamcore.request import Document, Image, Message, Part, Request, Text
from streamcore.wire.closed_schema import FORMATS, SchemaDialect, closed_schema
from streamcore.wire.lenient import is_object, items, mapping, text
from streamcore.wire.turns import fitting_turns, opaque_for
from streamcore_anthropic.wire import WIRE

DEFAULT_MAX_TOKENS = 8192
CALL_IDS = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# As the SDK's own `transform_schema` has it.
SCHEMAS = SchemaDialect(require_all=False, keywords=frozenset(), formats=FORMATS | {"uri"})
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def messages_body(request: Request, model: str, vendor: Vendor, source: str | None = None) -> dict[str, Any]:
    """Return the keyword arguments of `messages.create`, without `stream` and `extra`.

    `source` names the server, as in `Opaque.source`.

    Raises:
        ConfigError: this API cannot express something in the request, or a tool call was cut.
    """
    if request.seed is not None:
        raise vendor.unsupported("a seed", "its API has none; leave seed= out", field="seed")
    if isinstance(request.cache, str):
        raise vendor.unsupported("a cache key", "give cache=True", field="cache")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS,
        "messages": _messages(request, vendor, source),
    }
    instructions = [message for message in request.messages if message.role == "system"]
    if any(isinstance(part, Image) for message in instructions for part in message.parts):
        raise vendor.unsupported("an image in a system message", "put it into a user message")
    system = "\n\n".join(message.text for message in instructions if message.text)
    if system:
        body["system"] = system
    if request.temperature is not None:
        # The SDK has removed the parameter, since newer models refuse it; the API accepts it for older models.
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
    container = _container(request, source)
    if container is not None:
        body["container"] = container
    if request.reasoning is not None:
        _reasoning(request.reasoning, body, output, vendor)
    if output:
        body["output_config"] = output
    return body


def output_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the form of a schema that this API accepts; one without is sent as it is, and the API refuses it."""
    return closed_schema(schema, SCHEMAS) or dict(schema)


def _reasoning(effort: str | int, body: dict[str, Any], output: dict[str, Any], vendor: Vendor) -> None:
    if isinstance(effort, int):
        body["thinking"] = {"type": "enabled", "budget_tokens": effort}
        if body["max_tokens"] <= effort:  # the limit includes thinking; the limit that was set is for the answer
            body["max_tokens"] += effort
    elif effort == "none":
        body["thinking"] = {"type": "disabled"}
    elif effort in _EFFORTS:
        body["thinking"] = {"type": "adaptive"}
        output["effort"] = effort
    else:
        raise vendor.unsupported(
            f"reasoning={effort!r}",
            f"give one of 'none', {', '.join(map(repr, _EFFORTS))}, or a number of tokens",
            field="reasoning",
        )


def _tool_choice(choice: str) -> dict[str, Any]:
    if choice in ("auto", "none"):
        return {"type": choice}
    return {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}


def _container(request: Request, source: str | None) -> str | None:
    """Return the id of the container of the last answer that used one, so that code finds its files again."""
    for message in reversed(request.messages):
        opaque = opaque_for(message, WIRE, source)
        container: Any = opaque.fields.get("container") if opaque is not None else None
        if container is not None:
            return text(mapping(container).get("id")) or text(container)
    return None


def _messages(request: Request, vendor: Vendor, source: str | None) -> list[dict[str, Any]]:
    """Return the turns; the results of all calls of one turn go into one message."""
    written: list[dict[str, Any]] = []
    answering = False
    for message in fitting_turns(request.messages, CALL_IDS, ("user", "tool")):
        if message.role == "system":
            continue
        if message.role == "tool":
            if not answering:
                written.append({"role": "user", "content": []})
            written[-1]["content"].append(_tool_result(message, vendor))
        else:
            content = _answer(message, vendor, source) if message.role == "assistant" else _content(message, vendor)
            if not content and message.role == "assistant":
                continue  # the API refuses an empty turn
            written.append({"role": message.role, "content": content})
        answering = message.role == "tool"
    if written and written[-1]["role"] == "assistant":
        written[-1]["content"] = _without_last_blanks(written[-1]["content"])
    return written


def _tool_result(message: Message, vendor: Vendor) -> dict[str, Any]:
    written = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": _content(message, vendor)}
    return {**written, "is_error": True} if message.is_error else written


def _content(message: Message, vendor: Vendor) -> str | list[dict[str, Any]]:
    return message.content if isinstance(message.content, str) else _parts(message.parts, vendor)


def _parts(parts: Iterable[Part], vendor: Vendor) -> list[dict[str, Any]]:
    """Return the parts as blocks, without blank texts, which the API refuses."""
    return [_part(part, vendor) for part in parts if not isinstance(part, Text) or part.text.strip()]


def _answer(message: Message, vendor: Vendor, source: str | None) -> str | list[dict[str, Any]]:
    """Return the content of an assistant's turn: the original blocks, if this server sent them."""
    opaque = opaque_for(message, WIRE, source)
    if opaque is not None:
        calls = iter(message.tool_calls)
        blocks = (_block(block, calls) for block in opaque.items)
        return [block for block in blocks if block is not None]
    if isinstance(message.content, str) and not message.tool_calls:
        return message.content if message.content.strip() else ""
    return [*_parts(message.parts, vendor), *(_tool_use(call, vendor) for call in message.tool_calls)]


def _block(block: Mapping[str, Any], calls: Iterator[ToolCall]) -> dict[str, Any] | None:
    """Return a block as the API accepts it; None for one that it refuses: blank text, thinking without signature."""
    match block.get("type"):
        case "text":
            citations = [_citation(mapping(citation)) for citation in items(block.get("citations"))]
            written = {**block, "citations": citations} if citations else dict(block)
            return written if (text(block.get("text")) or "").strip() else None
        case "thinking":
            return dict(block) if block.get("signature") else None
        case "tool_use":
            call = next(calls, None)
            return {**block, "id": call.id} if call is not None else dict(block)
        case _:
            return dict(block)


def _citation(citation: Mapping[str, Any]) -> dict[str, Any]:
    """Return a citation without `file_id`, which answers have and requests do not."""
    return {key: value for key, value in citation.items() if key != "file_id"}


def _without_last_blanks(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return the content of a last assistant's turn without trailing whitespace, which the API refuses there."""
    if isinstance(content, str):
        return content.rstrip()
    last = content[-1]
    return [*content[:-1], {**last, "text": last["text"].rstrip()}] if last.get("type") == "text" else content


def _tool_use(call: ToolCall, vendor: Vendor) -> dict[str, Any]:
    given = {"input": call.arguments} if call.custom else call.parse()
    if given is not None and not is_object(given):
        raise vendor.unsupported(
            f"tool call {call.name!r} ({call.id!r})", f"its arguments are not a JSON object: {call.arguments[:80]!r}"
        )
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given or {}}


def _part(part: Part, vendor: Vendor) -> dict[str, Any]:
    if isinstance(part, Document):
        block = {"type": "document", "source": _document_source(part, vendor)}
        return block if part.name is None else {**block, "title": part.name}
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.url is not None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": part.media_type, "data": part.base64},
    }


def _document_source(document: Document, vendor: Vendor) -> dict[str, Any]:
    """Return the source of a document block: PDFs in every form, texts by their content or the vendor's id."""
    if document.file_id is not None:
        return {"type": "file", "file_id": document.file_id}
    if document.is_pdf and document.url is not None:
        return {"type": "url", "url": document.url}
    if document.is_pdf:
        return {"type": "base64", "media_type": document.media_type, "data": document.base64}
    if document.is_text and document.data is not None:
        return {"type": "text", "media_type": "text/plain", "data": _text_of(document, vendor)}
    raise vendor.unsupported(
        f"a document of the type {document.media_type!r} as {document.form}=",
        "its API accepts PDFs, and texts as data=; upload another file and give file_id=",
    )


def _text_of(document: Document, vendor: Vendor) -> str:
    try:
        return document.text
    except UnicodeDecodeError as error:
        raise vendor.unsupported("a text document that is not UTF-8", "convert its bytes to UTF-8") from error
