"""Write values of a stream as the AI SDK's client reads them: JSON it accepts, sources of citations, token counts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from streamcore.chunk import FinishReason, ToolCall, Usage
from streamcore.wire.lenient import count, is_array, is_object

FINISH_REASONS: Mapping[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "refusal": "content-filter",
    "content_filter": "content-filter",
    "pause": "other",
    "other": "other",
}
"""The protocol's word for each finish reason."""

_URL = ("url", "uri")
_TITLE = ("title", "document_title")
_FILE = ("filename", "file_name")
_DEPTH = 4


def plain_json(value: object) -> Any:
    """Return a value that the client's parser accepts: itself, or its JSON text if it would be refused.

    The parser refuses a whole event if an object in it has a key `__proto__`, or `constructor` with `prototype`. It
    has no NaN, and no depth without a limit.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return _written(value)
    if ('"__proto__"' in text or '"constructor"' in text) and _is_refused(value):
        return text
    return value


def _written(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


def _is_refused(value: object) -> bool:
    if is_object(value):
        inner = value.get("constructor")
        if "__proto__" in value or (is_object(inner) and "prototype" in inner):
            return True
        return any(map(_is_refused, value.values()))
    return is_array(value) and any(map(_is_refused, value))


def input_of(call: ToolCall) -> tuple[Any, str | None]:
    """Return the input of a call, and why it is not valid, if it is not: then the input is the text as it was sent."""
    if call.custom:
        return call.arguments, None
    try:
        parsed = call.parse()
    except ValueError:
        return call.arguments, "the arguments of the call are not JSON"
    checked = plain_json(parsed)
    return (call.arguments if checked is not parsed and isinstance(checked, str) else checked), None


def output_of(content: str) -> Any:
    """Return the output of a tool as JSON if it is an object or a list whose JSON is exactly this text."""
    if content[:1] in ("{", "["):
        try:
            parsed = json.loads(content)
        except (ValueError, RecursionError):
            return content
        if output_text(parsed) == content and plain_json(parsed) is parsed:
            return parsed
    return content


def output_text(output: object) -> str:
    """Return the text of a tool's output, as the model gets it."""
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False, separators=(",", ":"))


def usage_json(usage: Usage) -> dict[str, int]:
    """Return token counts under the AI SDK's names; those that are not known are left out."""
    known = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cache_read_tokens,
    }
    found = {name: number for name, number in known.items() if number is not None}
    if usage.input_tokens is not None and usage.output_tokens is not None:
        found["totalTokens"] = usage.input_tokens + usage.output_tokens
    return found


def usage_of(value: object) -> Usage | None:
    """Return the token counts in the metadata of a graph's event, which are plain JSON after a relay."""
    if isinstance(value, Usage):
        return value
    if not is_object(value):
        return None
    return Usage(count(value.get("input_tokens")), count(value.get("output_tokens")))


def added(one: Usage | None, other: Usage | None) -> Usage | None:
    """Return the sum of the token counts of two answers."""
    if one is None or other is None:
        return one or other
    return Usage(
        _sum(one.input_tokens, other.input_tokens),
        _sum(one.output_tokens, other.output_tokens),
        _sum(one.cache_read_tokens, other.cache_read_tokens),
        _sum(one.cache_write_tokens, other.cache_write_tokens),
        _sum(one.reasoning_tokens, other.reasoning_tokens),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


def source_part(citation: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the part for a citation: a URL, a document, or the citation as the vendor sent it."""
    facts = [*_facts(citation, 0)]
    url = next((value for key, value in facts if key in _URL and value.startswith(("https://", "http://"))), None)
    title = next((value for key, value in facts if key in _TITLE), None)
    file = next((value for key, value in facts if key in _FILE), None)
    source: dict[str, Any] = {"sourceId": f"source-{number}"}
    if url is not None:
        return {"type": "source-url", **source, "url": url, **({} if title is None else {"title": title})}
    if title is None and file is None:
        return {"type": "data-citation", "data": plain_json(dict(citation))}
    named = {"title": title or file, "mediaType": "application/octet-stream"}
    return {"type": "source-document", **source, **named, **({} if file is None else {"filename": file})}


def _facts(value: object, depth: int) -> Iterator[tuple[str, str]]:
    """Yield the texts of an object, and of the objects in it."""
    if not isinstance(value, Mapping) or depth > _DEPTH:
        return
    inner: list[object] = []
    for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
        if isinstance(key, str) and isinstance(item, str):
            yield key, item
        else:
            inner.append(item)  # pyright: ignore[reportUnknownArgumentType]
    for item in inner:
        yield from _facts(item, depth + 1)
