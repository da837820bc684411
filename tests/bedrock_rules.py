"""Check a request of Bedrock's Converse API against botocore's service model, and against what its models refuse."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import botocore.session
from botocore.eventstream import EventStreamBuffer
from botocore.validate import ParamValidator

from streamcore.wire.lenient import is_array, is_object

Json = dict[str, Any]


@cache
def _shape() -> Any:
    session: Any = botocore.session.Session()
    return session.get_service_model("bedrock-runtime").operation_model("ConverseStream").input_shape


def _as_parameters(value: Any, shape: Any) -> Any:
    """Return JSON as botocore takes it: Base64 as bytes."""
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    if shape.type_name == "structure" and is_object(value) and not shape.is_document_type:
        members = shape.members
        return {key: _as_parameters(item, members[key]) if key in members else item for key, item in value.items()}
    if shape.type_name == "list" and is_array(value):
        return [_as_parameters(item, shape.member) for item in value]
    return value


def bedrock_faults(body: Json) -> Iterator[str]:
    """Yield what the API or its models refuse in a body."""
    shape = _shape()
    report = ParamValidator().validate(_as_parameters({**body, "modelId": "m"}, shape), shape)
    if report.has_errors():
        yield report.generate_report()
    unknown = body.keys() - shape.members.keys()
    if unknown:
        yield f"unknown keys {sorted(unknown)}"
    roles = [message["role"] for message in body["messages"]]
    if roles != [("user", "assistant")[number % 2] for number in range(len(roles))]:
        yield f"the roles do not alternate: {roles}"
    waiting: list[str] = []
    for message in body["messages"]:
        blocks: list[Json] = message["content"]
        if not blocks:
            yield "an empty turn"
        results = [
            block["toolResult"]["toolUseId"] for block in blocks if "toolResult" in block and message["role"] == "user"
        ]
        if waiting != results:
            yield f"calls {waiting} are answered by {results}"
        uses = [block["toolUse"] for block in blocks if "toolUse" in block]
        waiting = [use["toolUseId"] for use in uses if "type" not in use]
        if len(set(waiting)) < len(waiting):
            yield f"the ids of calls are not unique: {waiting}"
        for block in blocks:
            yield from _block_faults(block)
        if all("reasoningContent" in block for block in blocks):
            yield "a turn of reasoning only"
    calls = any(
        "toolUse" in block and "type" not in block["toolUse"]
        for message in body["messages"]
        for block in message["content"]
    )
    if calls and "toolConfig" not in body:
        yield "calls without toolConfig"


def _block_faults(block: Json) -> Iterator[str]:
    if "text" in block and not block["text"].strip():
        yield "a blank text block"
    if "toolUse" in block and not re.fullmatch(r"[a-zA-Z0-9_.:-]{1,64}", block["toolUse"]["toolUseId"]):
        yield f"the id {block['toolUse']['toolUseId']!r}"
    if "reasoningContent" in block:
        reasoning = block["reasoningContent"]
        if not reasoning.get("redactedContent") and not reasoning.get("reasoningText", {}).get("signature"):
            yield "reasoning without a signature"


def answer_faults(frames: Iterable[bytes]) -> Iterator[str]:
    """Yield what botocore's service model does not have in the events of an answer."""
    session: Any = botocore.session.Session()
    operation = session.get_service_model("bedrock-runtime").operation_model("ConverseStream")
    events = operation.output_shape.members["stream"].members
    for frame in frames:
        buffer = EventStreamBuffer()
        buffer.add_data(frame)
        message: Any = next(buffer)
        name = message.headers[":event-type"]
        report = ParamValidator().validate(_as_parameters(json.loads(message.payload), events[name]), events[name])
        if report.has_errors():
            yield f"{name}: {report.generate_report()}"
