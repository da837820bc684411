"""Read the body that `useChat` sends: the chat, its messages, and what the page adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.request import Request, Tool
from streamcore.web.endpoints.ai_sdk.messages import read_messages
from streamcore.wire.encoding.reading import EFFORTS, Fields
from streamcore.wire.encoding.wire import RequestRefused, WireRequest
from streamcore.wire.lenient import is_array, is_object, mapping

MAX_ID = 256
"""The maximum number of characters of a chat's id."""

PARAMS: Mapping[str, str] = {
    "max_tokens": "maxOutputTokens",
    "stop": "stopSequences",
    "tool_choice": "toolChoice",
    "output_schema": "schema",
}
"""The client's names of fields of `Request`."""


@dataclass(frozen=True, slots=True)
class AISDKRules:
    """What of this wire the models have to know; see `streamcore.wire.encoding.wire.Wire`."""

    name: str = "ai-sdk"
    shared: frozenset[str] = frozenset({"top_p"})
    informative: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()


RULES = AISDKRules()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request for the next answer in a chat."""

    chat: str
    """The chat's id, which the page chose."""
    asked: WireRequest
    regenerate: bool
    """Whether the answer replaces the last one."""
    continues: Mapping[str, Any] | None
    """The last message, if it is the assistant's: then the answer continues it."""
    decisions: Mapping[str, Mapping[str, Any]]
    """What the user has decided about calls that wait for approval, by their ids."""

    @property
    def client_tools(self) -> frozenset[str]:
        """The names of the tools that the page runs itself."""
        return frozenset(tool.name for tool in self.asked.request.tools)


def read_chat(body: object, default_model: str) -> ChatRequest:
    """Return the request of a body.

    Args:
        body: the JSON of the body.
        default_model: the model if the body names none.

    Raises:
        RequestRefused: it is not valid, or has something that no provider could honour.
    """
    fields = Fields(body)
    chat = fields.required("id")
    if not 0 < len(chat) <= MAX_ID:
        raise fields.refuse("id", f"must have 1 to {MAX_ID} characters")
    trigger = fields.one_of("trigger", ("submit-message", "regenerate-message"))
    replaced = fields.text("messageId")
    regenerate = trigger == "regenerate-message"
    given = mapping(body).get("messages")
    last: Mapping[str, Any] = mapping(given[-1]) if is_array(given) and given else {}
    if regenerate and last.get("role") == "assistant" and last.get("id") == replaced and is_array(given):
        fields = Fields({**mapping(body), "messages": given[:-1]})  # a page that leaves this to the server
        fields.drop("id", "trigger", "messageId")
        last = {}
    talk = read_messages(fields)
    model = fields.text("model") or default_model
    if not model:
        raise fields.refuse("model", "is required, since the service has several")
    request = Request(
        talk.messages,
        temperature=fields.number("temperature", 0),
        max_tokens=fields.whole("maxOutputTokens", 1),
        stop=fields.texts("stopSequences"),
        seed=fields.whole("seed"),
        reasoning=_effort(fields),
        tools=read_tools(fields),
        tool_choice=_tool_choice(fields),
        extra=_extra(fields),
    )
    fields.end()
    return ChatRequest(
        chat,
        WireRequest(model, request, stream=True, params=PARAMS),
        regenerate,
        last if last.get("role") == "assistant" else None,
        talk.decisions,
    )


def _effort(fields: Fields) -> Any:
    return fields.one_of("reasoning", EFFORTS)


def _extra(fields: Fields) -> dict[str, Any]:
    top_p = fields.number("topP", 0)
    return {} if top_p is None else {"top_p": top_p}


def _tool_choice(fields: Fields) -> str | None:
    """Return a tool choice: a word, or `{"type": "tool", "toolName": ...}`."""
    given = fields.any("toolChoice")
    if given is None or given in ("auto", "none", "required"):
        return None if given is None else str(given)
    name = mapping(given).get("toolName")
    if not isinstance(name, str):
        raise fields.refuse("toolChoice", "must be auto, none, required, or an object with a toolName")
    return name


def read_tools(fields: Fields) -> tuple[Tool, ...]:
    """Return the tools of a body: a list of objects with a name, or an object of them by their names.

    Raises:
        RequestRefused: they are neither, or two have the same name.
    """
    given = fields.any("tools")
    if given is None:
        return ()
    where = fields.name("tools")
    if is_object(given):
        named = [_tool(Fields(one, f"{where}.{name}"), name) for name, one in given.items()]
    elif is_array(given):
        named = [_tool(Fields(one, f"{where}[{number}]"), None) for number, one in enumerate(given)]
    else:
        raise fields.refuse("tools", "must be a list, or an object")
    if len({tool.name for tool in named}) < len(named):
        raise fields.refuse("tools", "has two tools of the same name")
    return tuple(named)


def _tool(fields: Fields, name: str | None) -> Tool:
    function = fields.object("function")  # as the chat dialect nests it
    kind = fields.one_of("type", ("function", "dynamic")) if function is None else fields.one_of("type", ("function",))
    if function is not None and kind is not None:
        fields.end()
        fields = function
    named = name or fields.required("name")
    schema = fields.mapping("inputSchema")
    if schema is None:
        schema = fields.mapping("parameters")
    if schema is not None and set(schema) == {"jsonSchema"} and is_object(schema["jsonSchema"]):
        schema = schema["jsonSchema"]  # what `jsonSchema()` of the AI SDK is as JSON
    description = fields.text("description") or ""
    fields.drop("name", "strict", "title")
    fields.end()
    if not named:
        raise RequestRefused(f"{fields.name('name')} must not be empty", param=fields.name("name"))
    return Tool(named, description) if schema is None else Tool(named, description, schema)
