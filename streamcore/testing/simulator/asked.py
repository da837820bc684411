"""Read out of a vendor's request body what decides a made-up answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from streamcore.structured.output import INSTRUCTION
from streamcore.testing.simulator.answers import Asked
from streamcore.testing.simulator.bedrock import as_chat
from streamcore.wire.lenient import mapping

_Json = Mapping[str, Any]


def asked_on(wire: str, body: _Json) -> Asked:
    """Return what a request body of this wire asks for; parts that are not understood count as absent."""
    if wire == "gemini":
        return _asked_of_contents(body)
    body = as_chat(body) if wire == "bedrock-converse" else body
    said: Any = body.get("input" if wire == "openai-responses" else "messages") or []
    # The Responses API takes a plain text for a list with one message.
    turns = cast("list[_Json]", [{"role": "user", "content": said}] if isinstance(said, str) else said)
    last: _Json = turns[-1] if turns else {}
    users = [turn for turn in turns if turn.get("role") == "user" and _result(turn) is None]
    return Asked(
        text=_text(users[-1].get("content")) if users else "",
        model=str(body.get("model") or "simulated"),
        tools=[_tool(tool) for tool in body.get("tools") or ()],
        schema=_schema(body) or _schema_in_text(body, turns),
        answered=_result(last),
        step=_steps(turns, lambda turn: _result(turn) is not None),
    )


def _steps(turns: list[_Json], is_result: Callable[[_Json], object]) -> int:
    """Return how many answers there are since the user's last message; several items in a row are one answer."""
    steps, inside = 0, False
    for turn in reversed(turns):
        if is_result(turn):
            inside = False
        elif turn.get("role") in ("user", "system", "developer"):
            break
        else:
            steps += not inside
            inside = True
    return steps


def _asked_of_contents(body: _Json) -> Asked:
    """Return what a body of `generateContent` asks for."""
    turns = cast("list[_Json]", body.get("contents") or [])
    users = [turn for turn in turns if turn.get("role") == "user" and not _function_responses(turn)]
    results = _function_responses(turns[-1]) if turns else []
    system: list[_Json] = [{"role": "system", "content": mapping(body.get("systemInstruction")).get("parts")}]
    tools = [one for tool in body.get("tools") or () for one in tool.get("functionDeclarations") or ()]
    output: _Json = mapping(results[0].get("response")) if results else {}
    return Asked(
        text=_text(users[-1].get("parts")) if users else "",
        model=str(body.get("model") or "simulated"),
        tools=[(str(tool.get("name")), tool.get("parametersJsonSchema") or {}) for tool in tools],
        schema=mapping(body.get("generationConfig")).get("responseJsonSchema") or _schema_in_text(body, system),
        answered=str(output.get("output", json.dumps(output))) if results else None,
        step=_steps(turns, _function_responses),
    )


def _function_responses(turn: _Json) -> list[_Json]:
    return [part["functionResponse"] for part in turn.get("parts") or () if "functionResponse" in part]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = cast("list[_Json]", content or [])
    return "".join(str(part.get("text", "")) for part in parts)


def _result(last: _Json) -> str | None:
    if last.get("type") == "function_call_output":
        return str(last.get("output", ""))
    if last.get("role") == "tool":
        return _text(last.get("content"))
    content: Any = last.get("content")
    if isinstance(content, list):
        for part in cast("list[_Json]", content):
            if part.get("type") == "tool_result":
                return _text(part.get("content"))
    return None


def _tool(tool: _Json) -> tuple[str, _Json]:
    function: _Json = tool.get("function", tool)
    return str(function.get("name")), function.get("parameters") or function.get("input_schema") or {}


def _schema_in_text(body: _Json, turns: list[_Json]) -> _Json | None:
    """Return the schema that a system message contains."""
    texts = [_text(body.get("system")), *(_text(turn.get("content")) for turn in turns if turn.get("role") == "system")]
    for text in texts:
        _, found, schema = text.partition(INSTRUCTION)
        if found:
            return cast("_Json", json.JSONDecoder().raw_decode(schema)[0])
    return None


def _schema(body: _Json) -> _Json | None:
    for path in (
        ("response_format", "json_schema", "schema"),
        ("text", "format", "schema"),
        ("output_config", "format", "schema"),
    ):
        found: Any = body
        for key in path:
            found = cast("_Json", found).get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return cast("_Json", found)
    return None
