"""Check what each provider sends, and that it refuses what its vendor does not support."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from streamcore import ConfigError, Image, Message, Opaque, Request, Text, Tool, ToolCall, stream_request
from streamcore.provider import Vendor as VendorRow
from streamcore.request import Part
from streamcore.testing import Answer
from streamcore.tool_call_fragments import call_id
from tests.support import GATEWAYS, VENDORS, Vendor, ask, body_of, wire_of

PNG = b"\x89PNG"
PNG_BASE64 = "iVBORw=="
SCHEMA = {
    "title": "Weather Report",
    "type": "object",
    "properties": {"sky": {"type": "string"}},
    "required": ["sky"],
    "additionalProperties": False,
}
LOOSE = {"type": "object", "additionalProperties": {"type": "string"}}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = Tool("weather", "Tell the weather.", PARAMETERS)


def sent(name: str, request: Request) -> dict[str, Any]:
    """Return the JSON body that a provider sends for a request, without what is the same in all of them."""
    vendor = Vendor(body_of(wire_of(name), Answer.of("ok")))
    answer = asyncio.run(stream_request(request, provider=vendor.provider(name)).collect())
    assert answer.text == "ok"
    (asked,) = vendor.requests
    body: dict[str, Any] = json.loads(asked.content)
    if name == "bedrock":  # the path names the model and says that the answer is streamed
        assert asked.url.path == "/model/m/converse-stream"
        if request.temperature is None and request.reasoning is None:
            assert body["inferenceConfig"].pop("temperature") == 0.7
        return {key: value for key, value in body.items() if value != {}}
    if name != "google":  # both are in its URL
        assert body.pop("stream") is True
        assert body.pop("model") == "m"
    if request.temperature is None and request.reasoning is None:
        assert _config(name, body).pop("temperature") == 0.7
    if body.get("generationConfig") == {}:
        del body["generationConfig"]
    if name not in ("anthropic", "google", "openai-responses", "mistral", "perplexity", "zai"):
        assert body.pop("stream_options") == {"include_usage": True}
    return body


# A conversation with everything in it, as each vendor's API reference writes it


def _config(name: str, body: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = body["generationConfig"] if name == "google" else body
    return config


CONVERSATION = Request(
    messages=[
        Message("system", "Be brief."),
        Message("user", [Text("What is this?"), Image(data=PNG, media_type="image/png")]),
        Message("assistant", "Let me look.", tool_calls=(ToolCall("call_1", "weather", '{"city": "Bern"}'),)),
        Message("tool", "Rain", tool_call_id="call_1"),
        Message("user", [Image(url="https://example.com/a.png"), Text("And this?")]),
    ]
)
CHAT_MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}},
        ],
    },
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Bern"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "text", "text": "And this?"},
        ],
    },
]
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "google": {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "What is this?"},
                    {"inlineData": {"mimeType": "image/png", "data": PNG_BASE64}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Let me look."},
                    {"functionCall": {"name": "weather", "args": {"city": "Bern"}}},
                ],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "weather", "response": {"output": "Rain"}}}],
            },
            {
                "role": "user",
                "parts": [
                    {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}},
                    {"text": "And this?"},
                ],
            },
        ],
    },
    "anthropic": {
        "max_tokens": 8192,
        "system": "Be brief.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Bern"}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "Rain"}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                    {"type": "text", "text": "And this?"},
                ],
            },
        ],
    },
    "openai-responses": {
        "input": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG_BASE64}"},
                ],
            },
            {"role": "assistant", "content": "Let me look."},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Bern"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "Rain"},
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": "https://example.com/a.png"},
                    {"type": "input_text", "text": "And this?"},
                ],
            },
        ]
    },
}


@pytest.mark.parametrize("name", [name for name in (*VENDORS, *GATEWAYS) if name != "bedrock"])
def test_a_conversation_with_images_and_tools(name: str) -> None:
    written = json.dumps(CONVERSATIONS.get(name, {"messages": CHAT_MESSAGES}))
    if name == "mistral":  # it takes nine letters and digits only
        written = written.replace('"call_1"', f'"{call_id("call_1", 0)}"')
    extra = {"reasoning_split": True} if name == "minimax" else {}
    assert sent(name, CONVERSATION) == {**json.loads(written), **extra}


# One setting at a time: what it adds to the body

PLAIN = ask("Hi")
CHAT_TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tell the weather.", "parameters": PARAMETERS},
}
NAMED = {"type": "function", "function": {"name": "weather"}}
RESPONSES_TOOL = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": PARAMETERS,
    "strict": False,
}
CONVERSE_TOOL = {
    "toolSpec": {"name": "weather", "description": "Tell the weather.", "inputSchema": {"json": PARAMETERS}}
}
CONVERSE_FORMAT = {
    "type": "json_schema",
    "structure": {"jsonSchema": {"name": "answer", "schema": json.dumps(SCHEMA)}},
}
STRICT = {"name": "Weather_Report", "schema": SCHEMA, "strict": True}
FREE = {"name": "answer", "schema": LOOSE, "strict": False}

Settings = dict[str, Any]
ADDS: dict[str, list[tuple[Settings, Settings]]] = {
    "anthropic": [
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        (
            {"tools": [WEATHER]},
            {"tools": [{"name": "weather", "description": "Tell the weather.", "input_schema": PARAMETERS}]},
        ),
        ({"tool_choice": "auto"}, {"tool_choice": {"type": "auto"}}),
        ({"tool_choice": "none"}, {"tool_choice": {"type": "none"}}),
        ({"tool_choice": "required"}, {"tool_choice": {"type": "any"}}),
        ({"tool_choice": "weather"}, {"tool_choice": {"type": "tool", "name": "weather"}}),
        ({"output_schema": SCHEMA}, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ({"reasoning": "high"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ({"reasoning": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning": 2048}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        (
            {"reasoning": "low", "output_schema": SCHEMA},
            {
                "thinking": {"type": "adaptive"},
                "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
            },
        ),
        ({"cache": True}, {"cache_control": {"type": "ephemeral"}}),
        ({"cache": False}, {}),
        ({"temperature": 0.5, "extra": {"top_k": 4}}, {"temperature": 0.5, "top_k": 4}),
    ],
    "openai": [
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 5}, {"max_completion_tokens": 5}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"tools": [WEATHER]}, {"tools": [CHAT_TOOL]}),
        ({"tool_choice": "auto"}, {"tool_choice": "auto"}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tool_choice": "weather"}, {"tool_choice": NAMED}),
        ({"seed": 0}, {"seed": 0}),
        ({"output_schema": SCHEMA}, {"response_format": {"type": "json_schema", "json_schema": STRICT}}),
        ({"output_schema": LOOSE}, {"response_format": {"type": "json_schema", "json_schema": FREE}}),
        ({"reasoning": "minimal"}, {"reasoning_effort": "minimal"}),
        ({"cache": "team-7"}, {"prompt_cache_key": "team-7"}),
        ({"cache": True}, {}),
        ({"extra": {"verbosity": "low", "n": 2}}, {"verbosity": "low", "n": 2}),
    ],
    "openai-responses": [
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"tools": [WEATHER]}, {"tools": [RESPONSES_TOOL]}),
        ({"tool_choice": "auto"}, {"tool_choice": "auto"}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tool_choice": "weather"}, {"tool_choice": {"type": "function", "name": "weather"}}),
        ({"output_schema": SCHEMA}, {"text": {"format": {"type": "json_schema", **STRICT}}}),
        ({"output_schema": LOOSE}, {"text": {"format": {"type": "json_schema", **FREE}}}),
        ({"reasoning": "xhigh"}, {"reasoning": {"effort": "xhigh"}}),
        ({"cache": "team-7"}, {"prompt_cache_key": "team-7"}),
        ({"extra": {"store": False}}, {"store": False}),
    ],
    "mistral": [
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"tools": [WEATHER]}, {"tools": [CHAT_TOOL]}),
        ({"tool_choice": "auto"}, {"tool_choice": "auto"}),
        ({"tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tool_choice": "required"}, {"tool_choice": "any"}),
        ({"tool_choice": "weather"}, {"tool_choice": NAMED}),
        ({"seed": 0}, {"random_seed": 0}),
        ({"output_schema": SCHEMA}, {"response_format": {"type": "json_schema", "json_schema": STRICT}}),
        ({"reasoning": "high"}, {"reasoning_effort": "high"}),
        ({"cache": "team-7"}, {"prompt_cache_key": "team-7"}),
        ({"extra": {"safe_prompt": True, "unheard_of": 1}}, {"safe_prompt": True, "unheard_of": 1}),
    ],
    "bedrock": [
        ({"temperature": 0.0}, {"inferenceConfig": {"temperature": 0.0}}),
        ({"max_tokens": 5}, {"inferenceConfig": {"maxTokens": 5}}),
        ({"stop": "END"}, {"inferenceConfig": {"stopSequences": ["END"]}}),
        (
            {"max_tokens": 5, "extra": {"inferenceConfig": {"topP": 0.5}}},
            {"inferenceConfig": {"maxTokens": 5, "topP": 0.5}},
        ),
        ({"tools": [WEATHER]}, {"toolConfig": {"tools": [CONVERSE_TOOL]}}),
        ({"tools": [WEATHER], "tool_choice": "none"}, {}),
        (
            {"tools": [WEATHER], "tool_choice": "auto"},
            {"toolConfig": {"tools": [CONVERSE_TOOL], "toolChoice": {"auto": {}}}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": "required"},
            {"toolConfig": {"tools": [CONVERSE_TOOL], "toolChoice": {"any": {}}}},
        ),
        (
            {"tools": [WEATHER], "tool_choice": "weather"},
            {"toolConfig": {"tools": [CONVERSE_TOOL], "toolChoice": {"tool": {"name": "weather"}}}},
        ),
        ({"output_schema": SCHEMA}, {"outputConfig": {"textFormat": CONVERSE_FORMAT}}),
        ({"reasoning": "high"}, {"outputConfig": {"effort": "high"}}),
        (
            {"reasoning": "high", "output_schema": SCHEMA},
            {"outputConfig": {"effort": "high", "textFormat": CONVERSE_FORMAT}},
        ),
        (
            {"cache": True},
            {"messages": [{"role": "user", "content": [{"text": "Hi"}, {"cachePoint": {"type": "default"}}]}]},
        ),
        ({"cache": False}, {}),
        (
            {"extra": {"guardrailConfig": {"guardrailIdentifier": "g"}, "unheard_of": 1}},
            {"guardrailConfig": {"guardrailIdentifier": "g"}, "unheard_of": 1},
        ),
    ],
    "groq": [({"max_tokens": 5}, {"max_completion_tokens": 5})],
    "ollama": [({"max_tokens": 5}, {"max_tokens": 5}), ({"reasoning": "low"}, {"reasoning_effort": "low"})],
    "openrouter": [
        ({"reasoning": "low"}, {"reasoning": {"effort": "low"}}),
        ({"reasoning": 500}, {"reasoning": {"max_tokens": 500}}),
        (
            {"reasoning": "low", "extra": {"provider": {"only": ["a"]}}},
            {"reasoning": {"effort": "low"}, "provider": {"only": ["a"]}},
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "settings", "added"),
    [pytest.param(name, *row, id=f"{name}-{row[0]}") for name, rows in ADDS.items() for row in rows],
)
def test_extra_keys_of_the_vendor_are_sent(name: str, settings: Settings, added: Settings) -> None:
    assert sent(name, replace(PLAIN, **settings)) == {**sent(name, PLAIN), **added}


@pytest.mark.parametrize("name", VENDORS)
def test_fields_that_are_not_set_are_not_sent(name: str) -> None:
    plain = {
        "anthropic": {"max_tokens": 8192, "messages": [{"role": "user", "content": "Hi"}]},
        "openai-responses": {"input": [{"role": "user", "content": "Hi"}]},
        "google": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
        "bedrock": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    }
    assert sent(name, PLAIN) == plain.get(name, {"messages": [{"role": "user", "content": "Hi"}]})


# What a vendor does not support

REFUSED: list[tuple[str, Settings, str]] = [
    ("bedrock", {"seed": 1}, "seed"),
    ("bedrock", {"cache": "team-7"}, "cache key"),
    ("bedrock", {"reasoning": 500}, "budget"),
    ("bedrock", {"reasoning": "none"}, "none"),
    ("anthropic", {"seed": 1}, "seed"),
    ("anthropic", {"cache": "team-7"}, "cache key"),
    ("anthropic", {"reasoning": "minimal"}, "minimal"),
    ("openai-responses", {"seed": 1}, "seed"),
    ("openai-responses", {"stop": "END"}, "stop"),
    ("openai-responses", {"reasoning": 500}, "budget"),
    ("openai", {"reasoning": 500}, "500"),
    ("mistral", {"reasoning": 500}, "budget"),
    ("google", {"cache": "team-7"}, "cache key"),
    ("google", {"reasoning": "max"}, "max"),
    ("groq", {"cache": "team-7"}, "cache key"),
    ("groq", {"reasoning": 500}, "500"),
    ("deepseek", {"reasoning": "high"}, "high"),
    ("deepseek", {"output_schema": SCHEMA}, "schema"),
]


@pytest.mark.parametrize(("name", "settings", "word"), REFUSED)
def test_a_field_that_a_vendor_does_not_support_is_an_error_and_no_request(
    name: str, settings: Settings, word: str
) -> None:
    vendor = Vendor(body_of(wire_of(name), Answer.of("ok")))
    stream = stream_request(replace(PLAIN, **settings), provider=vendor.provider(name))
    with pytest.raises(ConfigError, match=word) as caught:
        asyncio.run(stream.collect())
    assert repr(name) in str(caught.value)
    assert vendor.requests == []


def test_anthropic_refuses_an_image_in_a_system_message() -> None:
    request = Request([Message("system", [Image(url="https://example.com/a.png")]), Message("user", "Hi")])
    with pytest.raises(ConfigError, match="system message"):
        sent("anthropic", request)


def test_anthropic_refuses_arguments_that_are_not_json() -> None:
    calls = (ToolCall("call_1", "weather", '{"city": "Be'),)
    request = Request([Message("user", "Hi"), Message("assistant", tool_calls=calls)])
    with pytest.raises(ConfigError, match="'weather'"):
        sent("anthropic", request)


# Turns that one vendor writes in another way than the others


def test_anthropic_gets_all_system_texts_first_and_all_results_of_a_turn_in_one_message() -> None:
    calls = (ToolCall("a", "weather"), ToolCall("b", "weather"))
    request = Request(
        [
            Message("system", "One."),
            Message("user", "Hi"),
            Message("system", "Two."),
            Message("assistant", tool_calls=calls),
            Message("tool", "Rain", tool_call_id="a"),
            Message("tool", [Text("Sun"), Image(data=PNG, media_type="image/png")], tool_call_id="b"),
        ]
    )
    body = sent("anthropic", request)
    assert body["system"] == "One.\n\nTwo."
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64}}
    assert body["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "weather", "input": {}},
                {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "Rain"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "Sun"}, image]},
            ],
        },
    ]


def test_images_of_results_follow_them_where_results_are_text_only() -> None:
    calls = (ToolCall("aaaaaaaaa", "look"), ToolCall("bbbbbbbbb", "look"))
    picture = Image(data=PNG, media_type="image/png")
    request = Request(
        [
            Message("assistant", tool_calls=calls),
            Message("tool", [Text("Sun"), picture], tool_call_id="aaaaaaaaa"),
            Message("tool", "Rain", tool_call_id="bbbbbbbbb"),
            Message("user", "So?"),
        ]
    )
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_BASE64}"}}
    _, first, second, *others = sent("openai", request)["messages"]
    assert [first["content"], second["content"]] == ["Sun", "Rain"]
    assert others == [{"role": "user", "content": [part]}, {"role": "user", "content": "So?"}]
    _, first, second, *others = sent("mistral", request)["messages"]
    assert first["content"] == [{"type": "text", "text": "Sun"}, part]
    assert others == [{"role": "user", "content": "So?"}]


@pytest.mark.parametrize(("name", "made"), [("openai", "call_2"), ("mistral", call_id("call_2", 0))])
def test_chat_calls_without_text_arguments_or_id(name: str, made: str) -> None:
    request = Request([Message("assistant", tool_calls=(ToolCall(None, "weather", position=2),))])
    assert sent(name, request)["messages"] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": made, "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        }
    ]


def test_responses_gets_the_image_that_a_tool_returns() -> None:
    picture: list[Part] = [Text("Here"), Image(data=PNG, media_type="image/png")]
    request = Request([Message("tool", picture, tool_call_id="call_1")])
    assert sent("openai-responses", request)["input"] == [
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [
                {"type": "input_text", "text": "Here"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG_BASE64}"},
            ],
        }
    ]


# Opaque data goes back to its own wire, and to no other

DETAILS = ({"type": "reasoning.encrypted", "data": "abc"},)


@pytest.mark.parametrize(
    ("name", "wire", "expected"),
    [
        ("openrouter", "openai-chat", {"role": "assistant", "content": "Yes", "reasoning_details": list(DETAILS)}),
        ("openai", "openai-chat", {"role": "assistant", "content": "Yes"}),
        ("openrouter", "anthropic-messages", {"role": "assistant", "content": "Yes"}),
        ("anthropic", "anthropic-messages", {"role": "assistant", "content": list(DETAILS)}),
        ("anthropic", "openai-responses", {"role": "assistant", "content": "Yes"}),
        ("mistral", "mistral-chat", {"role": "assistant", "content": [*DETAILS, {"type": "text", "text": "Yes"}]}),
        ("mistral", "openai-chat", {"role": "assistant", "content": "Yes"}),
        ("openai-responses", "openai-responses", [DETAILS[0], {"role": "assistant", "content": "Yes"}]),
        ("openai-responses", "mistral-chat", {"role": "assistant", "content": "Yes"}),
    ],
)
def test_opaque_data_is_sent_back_to_its_own_wire_only(
    name: str, wire: str, expected: Settings | list[Settings]
) -> None:
    request = Request([Message("user", "Hi"), Message("assistant", "Yes", opaque=Opaque(wire, DETAILS))])
    body = sent(name, request)
    assert (body.get("messages") or body["input"])[1:] == (expected if isinstance(expected, list) else [expected])


@pytest.mark.parametrize("messages", ["Hello", Message("user", "Hello"), ["Hello"], [{"role": "user"}]])
def test_values_that_are_not_messages_raise_at_once(messages: Any) -> None:
    with pytest.raises(TypeError, match="a sequence of Message"):
        Request(messages)


# Opaque data goes back to the server that sent it


def test_only_the_server_that_sent_it_gets_reasoning_back() -> None:
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "tide", "arguments": "{}"}}
    deltas: list[Settings] = [{"reasoning_content": "Let me"}, {"tool_calls": [call]}]
    events: list[Settings] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    vendor = Vendor(body + b"data: [DONE]\n\n")

    async def asked(name: str, turns: list[Message], **settings: Any) -> Message:
        provider = vendor.provider(name, **settings)
        return (await stream_request(Request(turns), provider=provider).collect()).to_message()

    question, result = Message("user", "Hi"), Message("tool", "high", tool_call_id="a")
    reported = asyncio.run(asked("deepseek", [question]))
    servers: list[tuple[str, Settings]] = [
        ("deepseek", {}),
        ("deepseek", {"base_url": "https://api.deepseek.com/beta"}),
        ("deepseek", {"base_url": "https://user:pw@gateway.example/v1"}),
        ("xai", {}),
        ("openai", {}),
    ]
    for name, settings in servers:
        asyncio.run(asked(name, [question, reported, result], **settings))
    answers = [json.loads(request.content)["messages"][1] for request in vendor.requests[1:]]
    assert [answer.get("reasoning_content") for answer in answers] == ["Let me", "Let me", None, None, None]
    assert {answer["tool_calls"][0]["id"] for answer in answers} == {"a"}


@pytest.mark.parametrize(
    ("base_url", "source"),
    [
        (None, "here"),
        ("https://api.here.example/v1", "here"),
        ("https://eu.api.here.example", "here"),
        ("http://key:secret@127.0.0.1:8000/v1?key=secret", "here at 127.0.0.1:8000"),
        ("https://nothere.example", "here at nothere.example"),
    ],
)
def test_a_server_is_named_without_credentials(base_url: str | None, source: str) -> None:
    vendor = VendorRow("here", None, None, base_url="https://api.here.example/v1")
    assert vendor.source(base_url) == source
