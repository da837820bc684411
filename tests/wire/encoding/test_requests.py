"""Read clients' requests: what a provider writes is read back, and what cannot be honoured names its parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from streamcore.chunk import Opaque, ToolCall
from streamcore.request import Image, Message, Request, Text, Tool
from streamcore.wire.chat_request import ChatTurns, chat_messages, chat_response_format, chat_tools
from streamcore.wire.encoding.wire import RequestRefused, WireRequest, find_wire
from streamcore_anthropic import VENDOR as ANTHROPIC
from streamcore_anthropic.request import messages_body
from streamcore_mistral import VENDOR as MISTRAL
from streamcore_mistral.request import chat_body as mistral_body
from streamcore_openai.chat import OPENAI, chat_body
from streamcore_openai.chat import VENDOR as OPENAI_VENDOR
from streamcore_openai.responses import responses_body

CHAT, RESPONSES, MESSAGES = "openai-chat", "openai-responses", "anthropic-messages"
SCHEMA = {
    "title": "city",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
TOOL = Tool("clock", "Tell the time.", {"type": "object", "properties": {"zone": {"type": "string"}}})
CALL = ToolCall("call00001", "clock", '{"zone": "UTC"}')
TALK = [
    Message("system", "Be brief."),
    Message("user", [Text("What is this?"), Image(data=b"png", media_type="image/png")]),
    Message("assistant", "I look.", tool_calls=(CALL,)),
    Message("tool", "12:00", tool_call_id="call00001"),
    Message("user", [Text("And this?"), Image(url="https://example.org/a.png")]),
]


def read(wire: str, body: Mapping[str, Any]) -> WireRequest:
    return find_wire(wire).read_request(body)


def same_turns(read: Request, sent: Request) -> None:
    assert [(m.role, m.text, m.tool_call_id) for m in read.messages] == [
        (m.role, m.text, m.tool_call_id) for m in sent.messages
    ]
    assert [[p for p in m.parts if isinstance(p, Image)] for m in read.messages] == [
        [p for p in m.parts if isinstance(p, Image)] for m in sent.messages
    ]
    assert [[(c.id, c.name, c.parse()) for c in m.tool_calls] for m in read.messages] == [
        [(c.id, c.name, c.parse()) for c in m.tool_calls] for m in sent.messages
    ]
    assert [(t.name, t.description, t.parameters) for t in read.tools] == [
        (t.name, t.description, t.parameters) for t in sent.tools
    ]
    for name in ("temperature", "max_tokens", "tool_choice", "output_schema", "reasoning"):
        assert getattr(read, name) == getattr(sent, name), name
    assert list(read.stop) == list(sent.stop)
    assert read.default_temperature is None


def request(**more: Any) -> Request:
    given: dict[str, Any] = {
        "messages": TALK,
        "temperature": 0.5,
        "max_tokens": 9,
        "tools": [TOOL],
        "tool_choice": "required",
        "output_schema": SCHEMA,
        **more,
    }
    return Request(**given)


@pytest.mark.parametrize("choice", ["auto", "none", "required", "clock"])
def test_what_a_provider_sends_is_read_back(choice: str) -> None:
    sent = request(stop=["END"], tool_choice=choice, seed=7, reasoning="low")
    found = read(CHAT, chat_body(sent, "gpt", OPENAI_VENDOR, OPENAI))
    same_turns(found.request, sent)
    assert (found.model, found.request.seed, found.include_usage) == ("gpt", 7, True)
    found = read("mistral-chat", mistral_body(sent, "mistral", MISTRAL))
    same_turns(found.request, sent)
    assert (found.request.seed, found.include_usage) == (7, True)
    sent = request(tool_choice=choice, reasoning="low")
    same_turns(read(RESPONSES, responses_body(sent, "gpt")).request, sent)
    sent = request(tool_choice=choice, stop=["END"], temperature=None, output_schema={**SCHEMA}, cache=True)
    found = read(MESSAGES, messages_body(sent, "claude", ANTHROPIC))
    same_turns(found.request, sent)
    assert found.request.cache is True


def test_reasoning_goes_back_to_the_vendor_that_sent_it() -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Yes"},
    ]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": blocks}]
    found = read(MESSAGES, {"model": "m", "max_tokens": 5, "messages": turns}).request
    assert found.messages[1].opaque == Opaque(MESSAGES, tuple(blocks))
    assert found.messages[1].text == "Yes"
    assert messages_body(found, "m", ANTHROPIC)["messages"] == turns
    items: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "clock", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "12"},
    ]
    found = read(RESPONSES, {"model": "m", "input": [{"role": "user", "content": "a"}, *items]}).request
    assert responses_body(found, "m")["input"][1:] == items
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"s": "x"}}
        ],
    }
    found = read(CHAT, {"model": "m", "messages": [{"role": "user", "content": "a"}, message]}).request
    assert chat_messages(found, ChatTurns())[1] == message


def test_an_answer_of_our_own_can_be_sent_back_whole() -> None:
    turn: dict[str, Any] = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
    }
    found = read(CHAT, {"model": "m", "messages": [turn]}).request
    assert found.messages == (Message("assistant", "Hi"),) or list(found.messages) == [Message("assistant", "Hi")]


def test_defaults_are_dropped_and_the_rest_is_kept_for_the_same_wire() -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    assert read(CHAT, {**body, "n": 1, "top_p": 1.0, "logit_bias": None}).request.extra == {}
    assert read(CHAT, {**body, "n": 2, "user": "u"}).request.extra == {"n": 2, "user": "u"}


ASK: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "a"}]},
    RESPONSES: {"model": "m", "input": "a"},
    MESSAGES: {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]},
}
AUDIO: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"model": None}, "model"),
    (CHAT, {"model": 5}, "model"),
    (CHAT, {"messages": []}, "messages"),
    (CHAT, {"messages": "a"}, "messages"),
    (CHAT, {"messages": ["a"]}, "messages[0]"),
    (CHAT, {"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role"),
    (CHAT, {"messages": [{"role": "tool", "content": "a"}]}, "messages[0].tool_call_id"),
    (CHAT, {"messages": [{"role": "user", "content": "a", "name": "Ada"}]}, "messages[0].name"),
    (CHAT, {"messages": AUDIO}, "messages[0].content[0].type"),
    (CHAT, {"temperature": "hot"}, "temperature"),
    (CHAT, {"temperature": -1}, "temperature"),
    (CHAT, {"max_tokens": 0}, "max_tokens"),
    (CHAT, {"max_completion_tokens": 1.5}, "max_completion_tokens"),
    (CHAT, {"stop": [1]}, "stop"),
    (CHAT, {"stream": "yes"}, "stream"),
    (CHAT, {"stream_options": {"x": 1}}, "stream_options.x"),
    (CHAT, {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    (CHAT, {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    (CHAT, {"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
    (CHAT, {"response_format": {"type": "json_object"}}, "response_format.type"),
    (CHAT, {"reasoning_effort": "huge"}, "reasoning_effort"),
    (MESSAGES, {"max_tokens": None}, "max_tokens"),
    (MESSAGES, {"stop_sequences": 5}, "stop_sequences"),
    (MESSAGES, {"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
    (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0].type"),
    (MESSAGES, {"system": [{"type": "image"}]}, "system[0].type"),
    (RESPONSES, {"input": None}, "input"),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
    (RESPONSES, {"tools": [{"type": "web_search"}]}, "tools[0].type"),
    (RESPONSES, {"text": {"format": {"type": "json_object"}}}, "text.format.type"),
    (RESPONSES, {"max_output_tokens": "many"}, "max_output_tokens"),
]


@pytest.mark.parametrize(("wire", "change", "param"), REFUSED)
def test_what_is_not_valid_is_refused_with_the_clients_parameter(wire: str, change: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as raised:
        read(wire, ASK[wire] | change)
    problem = raised.value.problem
    assert problem.param == param
    assert param in problem.message
    written = find_wire(wire).error_body(problem, "req_1")
    assert param in written["error"]["message"]
    assert find_wire(wire).status(problem) == 400


def test_a_body_that_is_no_object_is_refused() -> None:
    for wire in ASK:
        with pytest.raises(RequestRefused, match="the body must be a JSON object"):
            find_wire(wire).read_request([])  # type: ignore[arg-type]


def test_a_schema_keeps_its_name() -> None:
    sent = chat_response_format(SCHEMA)
    assert read(CHAT, {**ASK[CHAT], "response_format": sent}).request.output_schema == SCHEMA
    assert chat_tools(read(CHAT, {**ASK[CHAT], "tools": chat_tools([TOOL])}).request.tools) == chat_tools([TOOL])
