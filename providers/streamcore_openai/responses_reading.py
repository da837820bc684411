"""Read requests of the Responses API.

Source: the API reference of `responses.create`, the types of `openai` 3.57, and Open Responses of 2026-04-24.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from streamcore.chunk import Opaque, ToolCall
from streamcore.request import Message, Part, ReasoningEffort, Request, Text, Tool
from streamcore.wire.encoding.chat_reading import named_schema
from streamcore.wire.encoding.documents import file_part
from streamcore.wire.encoding.reading import EFFORTS, Fields, image_of
from streamcore.wire.encoding.wire import WireRequest
from streamcore.wire.lenient import is_array, is_object
from streamcore_openai.responses_object import is_our_id
from streamcore_openai.responses_wire import WIRE

INFORMATIVE = frozenset({"include", "metadata", "safety_identifier", "store", "user"})
SHARED = frozenset({"top_p"})

_PARAMS = {
    "max_tokens": "max_output_tokens",
    "reasoning": "reasoning",
    "output_schema": "text.format",
    "cache": "prompt_cache_key",
    "messages": "input",
    "system": "instructions",
}
_ECHOED = (
    "background",
    "frequency_penalty",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "presence_penalty",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
)
_CALLS = frozenset({"function_call", "custom_tool_call"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def read_request(body: Mapping[str, Any]) -> WireRequest:
    """Return the request of a body.

    Raises:
        RequestRefused: it is not valid, or has something that no provider could honour.
    """
    fields = Fields(body)
    model = fields.required("model")
    instructions = fields.text("instructions")
    messages = [Message("system", instructions)] if instructions else []
    turns = _turns(fields)
    if not turns:
        raise fields.refuse("input", "is required")
    schema = _schema(fields)
    reasoning = _reasoning(fields)
    request = Request(
        [*messages, *turns],
        temperature=fields.number("temperature", 0),
        default_temperature=None,
        max_tokens=fields.whole("max_output_tokens", 1),
        tools=[_tool(tool) for tool in fields.objects("tools")],
        tool_choice=_tool_choice(fields),
        output_schema=schema,
        reasoning=reasoning,
        cache=fields.text("prompt_cache_key"),
    )
    previous = fields.text("previous_response_id")
    stream, store, background = (bool(fields.flag(key)) for key in ("stream", "store", "background"))
    options = fields.object("stream_options")
    if options is not None:
        options.drop("include_obfuscation")
        options.end()
    fields.drop_default(parallel_tool_calls=True, truncation="disabled", service_tier="auto", top_p=1, top_logprobs=0)
    fields.drop_default(presence_penalty=0, frequency_penalty=0, include=[], metadata={})
    return WireRequest(
        model,
        replace(request, extra=dict(fields.rest())),
        stream=stream,
        echo=_echo(body) | {"store": store},
        params=_PARAMS,
        store=store,
        background=background,
        previous=previous,
    )


def _echo(body: Mapping[str, Any]) -> dict[str, Any]:
    echo: dict[str, Any] = {key: body[key] for key in _ECHOED if body.get(key) is not None}
    if is_array(body.get("tools")):
        echo["tools"] = [
            {"description": None, "parameters": None, "strict": None, **tool}
            for tool in body["tools"]
            if is_object(tool)
        ]
    if is_object(body.get("reasoning")):
        echo["reasoning"] = {"effort": None, "summary": None, **body["reasoning"]}
    if is_object(body.get("text")):
        echo["text"] = {"format": {"type": "text"}, **body["text"]}
    return echo


class _Turns:
    """Collect messages; the items of one answer become one message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._items: list[Mapping[str, Any]] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []

    def add(self, message: Message) -> None:
        """Add a message that is not an answer's."""
        self.end()
        self.messages.append(message)

    def item(self, item: Mapping[str, Any], text: str = "") -> None:
        """Add an item of an answer."""
        self._items.append(item)
        if text:
            self._texts.append(text)

    def call(self, item: Mapping[str, Any], call: ToolCall) -> None:
        """Add a call of an answer."""
        self._items.append(item)
        self._calls.append(replace(call, position=len(self._calls)))

    def end(self) -> None:
        """End the answer that is collected."""
        if self._items:
            # Items that `item_id` named were another vendor's, so that the API does not know them.
            items = tuple(item for item in self._items if not (item.get("type") == "reasoning" and _is_ours(item)))
            own = any(item.get("type") == "reasoning" or item.get("phase") for item in items)
            opaque = Opaque(WIRE, tuple(map(_without_our_id, items))) if own else None
            answer = Message("assistant", "".join(self._texts), tool_calls=tuple(self._calls), opaque=opaque)
            self.messages.append(answer)
        self._items, self._texts, self._calls = [], [], []


def _is_ours(item: Mapping[str, Any]) -> bool:
    return is_our_id(item.get("id"))


def _without_our_id(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in item.items() if key != "id"} if _is_ours(item) else item


def _turns(fields: Fields) -> list[Message]:
    value = fields.any("input")
    if value is None:
        return []
    if isinstance(value, str):
        return [Message("user", value)]
    turns = _Turns()
    for item in Fields({"input": value}).objects("input"):
        _add_item(item, turns)
    turns.end()
    return turns.messages


def _add_item(item: Fields, turns: _Turns) -> None:
    original = dict(item.rest())
    kind = item.text("type") or "message"
    if kind == "message":
        _add_message(item, original, turns)
    elif kind == "reasoning":
        turns.item(original)
    elif kind in _CALLS:
        custom = kind == "custom_tool_call"
        arguments = item.text("input" if custom else "arguments") or ""
        turns.call(original, ToolCall(item.required("call_id"), item.required("name"), arguments, custom=custom))
    elif kind in _RESULTS:
        identity, output = item.required("call_id"), item.any("output")
        content = output if isinstance(output, str) else _parts(Fields({"output": output}, item.path), "output")
        turns.add(Message("tool", content, tool_call_id=identity))
    else:
        known = ("message", "reasoning", *sorted(_CALLS | _RESULTS))
        raise item.refuse("type", f"{kind!r} is not supported; {', '.join(known)} are")


def _add_message(item: Fields, original: Mapping[str, Any], turns: _Turns) -> None:
    role = item.required("role")
    content = item.any("content")
    given = content if isinstance(content, str) else _parts(Fields({"content": content}, item.path), "content")
    item.drop("id", "status", "phase")
    item.end()
    match role:
        case "assistant":
            text = given if isinstance(given, str) else Message("user", given).text
            turns.item({"type": "message", **original}, text)
        case "user":
            turns.add(Message("user", given))
        case "system" | "developer":
            turns.add(Message("system", given))
        case _:
            raise item.refuse("role", "must be one of 'user', 'assistant', 'system', 'developer'")


def _parts(fields: Fields, key: str) -> list[Part]:
    parts: list[Part] = []
    for part in fields.objects(key):
        match part.required("type"):
            case "input_text" | "output_text" | "text":
                parts.append(Text(part.text("text") or ""))
            case "refusal":
                parts.append(Text(part.text("refusal") or ""))
            case "input_image":
                part.drop_default(detail="auto")
                parts.append(image_of(part.required("image_url"), part, "image_url"))
            case "input_file":
                part.drop_default(detail="auto")
                parts.append(file_part(part, url_key="file_url"))
            case other:
                raise part.refuse("type", f"{other!r} is not supported; input_text, input_image and input_file are")
        part.drop("annotations", "logprobs")
        part.end()
    return parts


def _tool(fields: Fields) -> Tool:
    kind = fields.required("type")
    if kind != "function":
        raise fields.refuse("type", f"{kind!r} is not supported; 'function' is")
    name, description = fields.required("name"), fields.text("description")
    parameters = fields.mapping("parameters")
    fields.drop("strict")  # each provider enforces what it can
    fields.end()
    return Tool(name, description or "") if parameters is None else Tool(name, description or "", parameters)


def _tool_choice(fields: Fields) -> str | None:
    value = fields.any("tool_choice")
    if value is None or value in ("auto", "none", "required"):
        return cast("str | None", value)
    choice = Fields(value, "tool_choice")
    if choice.text("type") != "function":
        raise choice.refuse("type", "must be 'function'")
    name = choice.required("name")
    choice.end()
    return name


def _schema(fields: Fields) -> Mapping[str, Any] | None:
    text = fields.object("text")
    form = None if text is None else text.object("format")
    if text is not None:
        text.drop_default(verbosity="medium")
        text.end()
    if form is None:
        return None
    kind = form.required("type")
    if kind == "text":
        return None
    if kind != "json_schema":
        raise form.refuse("type", f"{kind!r} is not supported; 'text' and 'json_schema' are")
    return named_schema(form)


def _reasoning(fields: Fields) -> ReasoningEffort | None:
    given = fields.object("reasoning")
    if given is None:
        return None
    effort = given.one_of("effort", EFFORTS)
    given.drop("summary", "generate_summary")  # what a vendor shows of its reasoning is passed on
    given.end()
    return cast("ReasoningEffort | None", effort)
