"""Read the request of an AG-UI run (`RunAgentInput`).

Source: the specification 1.0 of the protocol, https://docs.ag-ui.com/spec/1.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from streamcore.chunk import ToolCall
from streamcore.request import Document, Image, Message, Part, ReasoningEffort, Request, Text, Tool
from streamcore.sse.agui.encoder import AguiRun
from streamcore.sse.agui.encrypted_value import opaque_of
from streamcore.wire.encoding.reading import EFFORTS, Fields, decoded
from streamcore.wire.encoding.wire import RequestRefused, WireRequest

ROLES = ("developer", "system", "user", "assistant", "tool", "activity", "reasoning")
NOT_RUN = "Error: the call was not run."
"""The result of a call in the conversation that has none: models want one for each call."""

_PARAMS = {
    "temperature": "forwardedProps.temperature",
    "max_tokens": "forwardedProps.maxTokens",
    "stop": "forwardedProps.stop",
    "tool_choice": "forwardedProps.toolChoice",
    "reasoning": "forwardedProps.reasoning",
    "seed": "forwardedProps.seed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an interrupt."""

    interrupt: str
    cancelled: bool
    """Whether the user gave no answer."""
    payload: Any = None


@dataclass(frozen=True, slots=True)
class AguiRequest:
    """A request for a run."""

    run: AguiRun
    asked: WireRequest
    """The model, the messages and the settings; the model is "" if the client names none."""
    state: Mapping[str, Any]
    context: Sequence[tuple[str, str]]
    """What the application tells about itself: descriptions with values."""
    resume: tuple[Answer, ...] | None
    relay: bool
    """Whether the run continues without its connection."""

    @property
    def context_text(self) -> str:
        """The context for a model."""
        return "Context of the application:\n" + "\n".join(f"- {what}: {value}" for what, value in self.context)


def read_run_input(body: Mapping[str, Any]) -> AguiRequest:
    """Return the request of a body.

    Raises:
        RequestRefused: it is not valid, or has something that cannot be honoured.
    """
    fields = Fields(body)
    thread_id, run_id = fields.required("threadId"), fields.required("runId")
    for key, value in (("threadId", thread_id), ("runId", run_id)):
        if not 0 < len(value) <= 500:
            raise fields.refuse(key, "must have 1 to 500 characters")
    raw = cast("list[Mapping[str, Any]]", body.get("messages"))
    if fields.array("messages") is None:
        raise fields.refuse("messages", "is required")
    messages = [read for one in Fields({"messages": raw}).objects("messages") if (read := _message(one)) is not None]
    state = fields.any("state")
    if not isinstance(state, Mapping | None):
        raise fields.refuse("state", "must be a JSON object")
    run = AguiRun(
        thread_id,
        run_id,
        raw,
        parent_run_id=fields.text("parentRunId"),
        protocol_version="1.0" if fields.text("protocolVersion") is not None else None,
        raw=False,
    )
    request = Request(
        with_results(messages), default_temperature=None, tools=[_tool(one) for one in fields.objects("tools")]
    )
    asked, relay = _forwarded(fields.object("forwardedProps") or Fields({}), request)
    context = [(one.required("description"), one.required("value")) for one in fields.objects("context")]
    resume = None if "resume" not in fields.rest() else tuple(_answer(one) for one in fields.objects("resume"))
    fields.end()
    return AguiRequest(run, asked, cast("Mapping[str, Any] | None", state) or {}, context, resume or None, relay)


def _forwarded(fields: Fields, request: Request) -> tuple[WireRequest, bool]:
    """Return the request with the settings in `forwardedProps`, and whether the relay is asked for."""
    model, relay = fields.text("model"), bool(fields.flag("relay"))
    settings: dict[str, Any] = {
        "temperature": fields.number("temperature", 0),
        "max_tokens": fields.whole("maxTokens", 1),
        "stop": fields.texts("stop"),
        "tool_choice": fields.text("toolChoice"),
        "reasoning": cast("ReasoningEffort | None", fields.one_of("reasoning", EFFORTS)),
        "seed": fields.whole("seed"),
    }
    try:
        fields.end()
    except RequestRefused as error:
        param = error.problem.param
        known = "model, relay, temperature, maxTokens, stop, toolChoice, reasoning, seed"
        raise RequestRefused(f"{param} is not supported; supported are: {known}", param=param) from error
    return WireRequest(model or "", replace(request, **settings), stream=True, params=_PARAMS), relay


def _message(fields: Fields) -> Message | None:
    """Return a message; None for one that is only for the client's page."""
    role = fields.one_of("role", ROLES)
    if role is None:
        raise fields.refuse("role", "is required")
    fields.required("id")
    fields.drop("name", "metadata", "subagentRunId")
    kept = fields.text("encryptedValue")
    if role in ("activity", "reasoning"):
        return None
    if role in ("user", "tool"):
        content = _content(fields)
        if role == "user":
            fields.end()
            return Message("user", content)
        failed = fields.text("error") is not None
        call_id = fields.required("toolCallId")
        fields.end()
        return Message("tool", content, tool_call_id=call_id, is_error=failed)
    text = fields.text("content") or ""
    if role == "assistant":
        calls = tuple(_call(one, number) for number, one in enumerate(fields.objects("toolCalls")))
        fields.end()
        return Message("assistant", text, tool_calls=calls, opaque=opaque_of(kept))
    fields.end()
    return Message("system", text)


def _content(fields: Fields) -> str | list[Part]:
    value = fields.any("content")
    if isinstance(value, str):
        return value
    if value is None:
        raise fields.refuse("content", "is required")
    return [_part(one) for one in Fields({"content": value}, fields.path).objects("content")]


def _part(fields: Fields) -> Part:
    kind = fields.required("type")
    fields.drop("id", "metadata")
    if kind == "text":
        text = fields.text("text")
        fields.end()
        return Text(text or "")
    if kind not in ("image", "document"):
        raise fields.refuse("type", f"{kind!r} is not supported; text, image and document are")
    source = fields.object("source")
    if source is None:
        raise fields.refuse("source", "is required")
    fields.end()
    form, value, media_type = source.required("type"), source.required("value"), source.text("mimeType")
    source.drop("provider")
    source.end()
    if form == "data" and media_type is None:
        raise source.refuse("mimeType", "is required")
    if form == "data":
        data = decoded(value, source, "value")
        if kind == "image":
            return Image(data=data, media_type=media_type)
        return Document(data=data, media_type=media_type)
    if form == "url":
        return Image(url=value) if kind == "image" else Document(url=value, media_type=media_type)
    if form == "file" and kind == "document":
        return Document(file_id=value, media_type=media_type)
    raise source.refuse("type", f"{form!r} is not supported for a part of type {kind!r}")


def _call(fields: Fields, position: int) -> ToolCall:
    function = fields.object("function")
    if function is None:
        raise fields.refuse("function", "is required")
    call = ToolCall(fields.required("id"), function.required("name"), function.text("arguments") or "", position)
    fields.drop("type", "encryptedValue", "metadata")
    fields.end()
    return call


def _tool(fields: Fields) -> Tool:
    name, description = fields.required("name"), fields.text("description") or ""
    parameters = fields.mapping("parameters")
    fields.drop("metadata")
    fields.end()
    return Tool(name, description) if not parameters else Tool(name, description, parameters)


def _answer(fields: Fields) -> Answer:
    status = fields.one_of("status", ("resolved", "cancelled"))
    if status is None:
        raise fields.refuse("status", "is required")
    found = Answer(fields.required("interruptId"), status == "cancelled", fields.any("payload"))
    fields.drop("metadata")
    fields.end()
    return found


def with_results(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation with a result for each call before the user's last message.

    A call has none if it was not approved, or if its run failed.
    """
    last = max((number for number, one in enumerate(messages) if one.role == "user"), default=-1)
    found: list[Message] = []
    answered = {one.tool_call_id for one in messages if one.role == "tool"}
    for number, message in enumerate(messages):
        found.append(message)
        if message.role == "assistant" and number < last:
            found += [
                Message("tool", NOT_RUN, tool_call_id=call.id, is_error=True)
                for call in message.tool_calls
                if call.id not in answered
            ]
    return found
