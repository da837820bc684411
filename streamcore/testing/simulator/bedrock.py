"""Read what a request of Bedrock's Converse API asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from streamcore.wire.lenient import items, mapping, text

Json = Mapping[str, Any]


def as_chat(body: Json) -> Json:
    """Return a request of Converse with the keys that other APIs have: results, tools and schema."""
    turns = [
        {**mapping(turn), "content": [_part(mapping(block)) for block in items(mapping(turn).get("content"))]}
        for turn in items(body.get("messages"))
    ]
    given = [mapping(mapping(tool).get("toolSpec")) for tool in items(mapping(body.get("toolConfig")).get("tools"))]
    tools = [
        {"name": tool["name"], "parameters": mapping(tool.get("inputSchema")).get("json")}
        for tool in given
        if "name" in tool
    ]
    structure = mapping(mapping(mapping(body.get("outputConfig")).get("textFormat")).get("structure"))
    schema = text(mapping(structure.get("jsonSchema")).get("schema"))
    formatted = {"response_format": {"json_schema": {"schema": json.loads(schema)}}} if schema else {}
    return {**body, "messages": turns, "tools": tools, **formatted}


def _part(block: Json) -> Json:
    result = mapping(block.get("toolResult"))
    return {"type": "tool_result", "content": result.get("content")} if result else block
