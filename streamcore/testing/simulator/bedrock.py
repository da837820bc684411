"""Write an `Answer` as the frames of Bedrock's ConverseStream, and read what a request of that API asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from streamcore.testing.simulator.answers import PROMPT_TOKENS, Answer
from streamcore.wire.event_stream import encode_event

Json = Mapping[str, Any]


def event(name: str, **fields: Any) -> bytes:
    """Return the frame of one event."""
    return encode_event(name, json.dumps(fields, separators=(",", ":")).encode())


def bedrock_converse(answer: Answer) -> Iterator[tuple[bytes, bool]]:
    """Yield the events of ConverseStream; text and reasoning have no event that begins their block."""
    yield event("messageStart", role="assistant"), False
    index = 0

    def delta(**fields: Any) -> bytes:
        return event("contentBlockDelta", contentBlockIndex=index, delta=fields)

    if answer.reasoning:
        for piece in answer.reasoning:
            yield delta(reasoningContent={"text": piece}), True
        yield delta(reasoningContent={"signature": "simulated-signature"}), True
        yield event("contentBlockStop", contentBlockIndex=index), False
        index += 1
    if answer.tokens:
        for token in answer.tokens:
            yield delta(text=token), True
        yield event("contentBlockStop", contentBlockIndex=index), False
        index += 1
    for call in answer.calls:
        start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
        yield event("contentBlockStart", contentBlockIndex=index, start=start), True
        for fragment in call.fragments:
            yield delta(toolUse={"input": fragment}), True
        yield event("contentBlockStop", contentBlockIndex=index), False
        index += 1
    yield event("messageStop", stopReason="tool_use" if answer.calls else "end_turn"), False
    made = len(answer.tokens) + len(answer.reasoning) + sum(len(call.fragments) for call in answer.calls)
    usage = {"inputTokens": PROMPT_TOKENS, "outputTokens": made, "totalTokens": PROMPT_TOKENS + made}
    yield event("metadata", usage=usage, metrics={"latencyMs": 1}), False


def as_chat(body: Json) -> Json:
    """Return a request of Converse with the keys that other APIs have: results, tools and schema."""
    turns: list[Json] = []
    for turn in cast("list[Json]", body.get("messages") or []):
        content: list[Any] = [_part(block) for block in cast("list[Json]", turn.get("content") or [])]
        turns.append({**turn, "content": content})
    specs: list[Json] = [tool.get("toolSpec") or {} for tool in (body.get("toolConfig") or {}).get("tools") or ()]
    tools = [{"name": spec.get("name"), "parameters": (spec.get("inputSchema") or {}).get("json")} for spec in specs]
    written = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
    schema = json.loads(written["schema"]) if "schema" in written else None
    formatted = {"response_format": {"json_schema": {"schema": schema}}} if schema else {}
    return {**body, "messages": turns, "tools": [tool for tool in tools if tool["name"]], **formatted}


def _part(block: Json) -> Json:
    result = block.get("toolResult")
    return {"type": "tool_result", "content": result.get("content")} if result else block
