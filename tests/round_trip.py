"""Check a request against the rules of its vendor's API reference that the SDKs' request types do not express."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args, get_type_hints

import anthropic.types
import openai.types.responses
from google.genai import types as google
from mistralai.client import models as mistral
from openai.types import chat

from tests.bedrock_rules import bedrock_faults

Json = dict[str, Any]


def _by_type(union: Any) -> dict[str, Any]:
    """Return the request types of an SDK's union, by the value of their key `type`."""
    known: dict[str, Any] = {}
    for kind in get_args(union):
        hints = get_type_hints(kind)
        for name in get_args(hints["type"]) if "type" in hints else ():
            known.setdefault(name, kind)
    return known


_BLOCKS = _by_type(anthropic.types.ContentBlockParam)
_ITEMS = _by_type(openai.types.responses.ResponseInputItemParam)


def _keys(what: Json, kind: Any) -> Iterator[str]:
    """Say which keys a vendor does not know, and which it misses."""
    unknown = what.keys() - set(get_type_hints(kind))
    if unknown:
        yield f"{what.get('type') or what.get('role')} has unknown keys {sorted(unknown)}"
    missing = kind.__required_keys__ - what.keys()
    if missing:
        yield f"{what.get('type') or what.get('role')} lacks {sorted(missing)}"


def _answered(calls: list[str], results: Iterable[str]) -> Iterator[str]:
    if calls != list(results):
        yield f"calls {calls} are answered by {list(results)}"
    if len(set(calls)) < len(calls):
        yield f"the ids of calls are not unique: {calls}"


def anthropic_faults(body: Json) -> Iterator[str]:
    """Check a request of the Messages API."""
    waiting: list[str] = []
    for message in body["messages"]:
        content = message["content"]
        if not content:
            yield "an empty turn"
        blocks: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if waiting:
            yield from _answered(waiting, [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"])
        waiting = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            yield from _keys(block, _BLOCKS[block["type"]])
            if block["type"] == "text" and not block["text"].strip():
                yield "a blank text block"
            if block["type"] == "thinking" and not block["signature"]:
                yield "thinking without a signature"
            if block["type"] == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                yield f"the id {block['id']!r}"
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                yield "an input that is no object"


def responses_faults(body: Json) -> Iterator[str]:
    """Check a request of the Responses API."""
    outputs = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
    calls = [item for item in body["input"] if item.get("type") in outputs]
    results = [item for item in body["input"] if item.get("type") in outputs.values()]
    yield from _answered([call["call_id"] for call in calls], [result["call_id"] for result in results])
    for call, result in zip(calls, results, strict=False):
        if outputs[call["type"]] != result["type"]:
            yield f"a {call['type']} is answered by a {result['type']}"
        if len(call["call_id"]) > 64:
            yield f"the id {call['call_id']!r}"
    for item in body["input"]:
        if "type" in item and item["type"] != "message":
            yield from _keys(item, _ITEMS[item["type"]])
        if "content" in item and item.get("role") and not item["content"]:
            yield "an empty message"
        if None in item.values():
            yield f"a {item.get('type')} with null"


_CHAT = {
    "system": chat.ChatCompletionSystemMessageParam,
    "user": chat.ChatCompletionUserMessageParam,
    "assistant": chat.ChatCompletionAssistantMessageParam,
    "tool": chat.ChatCompletionToolMessageParam,
}
_ADDED = {  # by the API references of the gateways
    "deepseek": {"reasoning_content"},
    "openrouter": {"reasoning_content", "reasoning_details"},
    "ollama": {"reasoning_content", "reasoning"},
}


def chat_faults(body: Json, name: str = "openai") -> Iterator[str]:
    """Check a request of Chat Completions; a gateway accepts more keys."""
    yield from _answered(
        [call["id"] for message in body["messages"] for call in message.get("tool_calls") or ()],
        [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"],
    )
    for message in body["messages"]:
        plain = {key: value for key, value in message.items() if key not in _ADDED.get(name, set())}
        yield from _keys(plain, _CHAT[message["role"]])
        if message["role"] == "assistant" and not (
            message.get("content") or message.get("tool_calls") or message.get("audio")
        ):
            yield "neither content nor calls"
        for call in message.get("tool_calls") or ():
            if call["type"] == "function":
                json.loads(call["function"]["arguments"])
            if not call["id"] or (name == "openai" and len(call["id"]) > 40):
                yield f"the id {call['id']!r}"


def mistral_faults(body: Json) -> Iterator[str]:
    """Check a request of Mistral's chat API."""
    kinds: dict[str, Any] = {
        "system": mistral.SystemMessage,
        "user": mistral.UserMessage,
        "assistant": mistral.AssistantMessage,
        "tool": mistral.ToolMessage,
    }
    yield from _answered(
        [call["id"] for message in body["messages"] for call in message.get("tool_calls") or ()],
        [message["tool_call_id"] for message in body["messages"] if message["role"] == "tool"],
    )
    for message in body["messages"]:
        kind = kinds[message["role"]]
        kind.model_validate(message)
        unknown = message.keys() - {field.alias or name for name, field in kind.model_fields.items()}
        if unknown:
            yield f"{message['role']} has unknown keys {sorted(unknown)}"
        if message["role"] == "assistant" and not (message.get("content") or message.get("tool_calls")):
            yield "neither content nor calls"
        for call in message.get("tool_calls") or ():
            json.loads(call["function"]["arguments"])
            if not re.fullmatch(r"[a-zA-Z0-9]{9}", call["id"]):
                yield f"the id {call['id']!r}"


def google_faults(body: Json) -> Iterator[str]:
    """Check a request of `generateContent`."""
    waiting: list[tuple[str | None, str]] = []
    for turn in body["contents"]:
        google.Content.model_validate(turn)
        parts: list[Json] = turn["parts"]
        if not parts:
            yield "an empty turn"
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if waiting or results:
            found = [(result.get("id"), result["name"]) for result in results]
            if found != waiting:
                yield f"calls {waiting} are answered by {found}"
        calls = [part for part in parts if "functionCall" in part]
        waiting = [(part["functionCall"].get("id"), part["functionCall"]["name"]) for part in calls]
        for part in parts:
            if part.get("text") == "" and "thoughtSignature" not in part:
                yield "an empty text"
            if len(part.keys() - {"thought", "thoughtSignature"}) != 1:
                yield f"a part with {sorted(part)}"
            for key in ("partialArgs", "willContinue"):
                if key in part.get("functionCall", {}):
                    yield f"a call with {key}"


def faults(name: str, body: Json) -> list[str]:
    """Return what a vendor refuses in a request."""
    if name == "bedrock":
        return list(bedrock_faults(body))
    if name == "anthropic":
        return list(anthropic_faults(body))
    if name == "google":
        return list(google_faults(body))
    if name == "openai-responses":
        return list(responses_faults(body))
    return list(mistral_faults(body) if name == "mistral" else chat_faults(body, name))
