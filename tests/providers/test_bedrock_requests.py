"""Check Bedrock's requests against the service model of botocore, and against what its models refuse."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from streamcore import (
    ConfigError,
    Document,
    Image,
    Message,
    Opaque,
    Request,
    Text,
    Tool,
    ToolCall,
    stream_request,
)
from streamcore.testing import Answer
from streamcore_bedrock.provider import VENDOR
from streamcore_bedrock.reasoning import reasoning_fields
from tests.bedrock_rules import bedrock_faults
from tests.support import Vendor, body_of

WEATHER = Tool("weather", "Tell the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALL = ToolCall("call_1", "weather", '{"city": "Bern"}')


def sent(request: Request, model: str = "m") -> dict[str, Any]:
    """Return the body that is sent for a request, which the API accepts."""
    vendor = Vendor(body_of("bedrock-converse", Answer.of("ok")))
    provider = vendor.provider("bedrock", model=model)
    assert asyncio.run(stream_request(request, provider=provider).collect()).text == "ok"
    body: dict[str, Any] = json.loads(vendor.requests[0].content)
    assert list(bedrock_faults(body)) == []
    return body


def test_a_conversation_with_images_and_tools() -> None:
    messages = [
        Message("system", "Be brief."),
        Message("user", [Text("What is this?"), Image(data=b"\x89PNG", media_type="image/png")]),
        Message("assistant", "Let me look.", tool_calls=(CALL, ToolCall("call_2", "weather", "", 1))),
        Message("tool", "Rain", tool_call_id="call_1"),
        Message("tool", [Text("Snow"), Image(url="s3://bucket/map.jpg")], tool_call_id="call_2", is_error=True),
        Message("user", [Image(url="data:image/webp;base64,UklGRg=="), Text("And this?")]),
    ]
    body = sent(Request(messages, tools=[WEATHER]))
    assert body["system"] == [{"text": "Be brief."}]
    snow = [{"text": "Snow"}, {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/map.jpg"}}}}]
    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"text": "What is this?"}, {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}}],
        },
        {
            "role": "assistant",
            "content": [
                {"text": "Let me look."},
                {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bern"}}},
                {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_1", "content": [{"text": "Rain"}]}},
                {"toolResult": {"toolUseId": "call_2", "content": snow, "status": "error"}},
                {"image": {"format": "webp", "source": {"bytes": "UklGRg=="}}},
                {"text": "And this?"},
            ],
        },
    ]


def test_turns_of_one_role_in_a_row_become_one() -> None:
    messages = [Message("user", "a"), Message("user", "b"), Message("assistant", " "), Message("user", "c")]
    (turn,) = sent(Request(messages))["messages"]
    assert turn["content"] == [{"text": "a"}, {"text": "b"}, {"text": "c"}]


def test_whitespace_at_the_end_of_a_last_answer_is_not_sent() -> None:
    body = sent(Request([Message("user", "Count."), Message("assistant", "1, 2, \n")]))
    assert body["messages"][1]["content"] == [{"text": "1, 2,"}]


def test_cache_points_follow_the_instructions_and_the_last_message() -> None:
    body = sent(Request([Message("system", "Long text."), Message("user", "Hi")], cache=True))
    point = {"cachePoint": {"type": "default"}}
    assert body["system"] == [{"text": "Long text."}, point]
    assert body["messages"][0]["content"] == [{"text": "Hi"}, point]


def test_documents_have_names_of_their_own() -> None:
    documents = [Document(data=b"x", media_type="text/plain", name=name) for name in ("a.txt", "a.md", None, "")]
    body = sent(Request([Message("user", [*documents, Text("Compare.")])]))
    names = [block["document"]["name"] for block in body["messages"][0]["content"][:4]]
    assert names == ["a", "a 2", "document", "document 2"]


def refused(request: Request, match: str) -> None:
    vendor = Vendor()
    with pytest.raises(ConfigError, match=match):
        asyncio.run(stream_request(request, provider=vendor.provider("bedrock")).collect())
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (Message("user", [Image(url="https://example.com/a.png")]), "not in S3"),
        (Message("user", [Image(data=b"x", media_type="image/tiff")]), "image/tiff"),
        (Message("user", [Document(data=b"x", media_type="application/pdf")]), "without a text"),
        (Message("system", [Image(data=b"x", media_type="image/png")]), "system message"),
        (Message("assistant", tool_calls=(ToolCall("a", "weather", "[1]"),)), "not a JSON object"),
        (Message("assistant", tool_calls=(ToolCall("a", "weather", '{"city": "Be'),)), "'weather'"),
    ],
)
def test_what_the_api_cannot_be_sent_is_refused(message: Message, match: str) -> None:
    refused(Request([message, Message("user", "Hi")] if message.role != "user" else [message]), match)


def test_calls_without_tools_are_refused() -> None:
    turns = [
        Message("user", "Hi"),
        Message("assistant", tool_calls=(CALL,)),
        Message("tool", "ok", tool_call_id="call_1"),
    ]
    refused(Request(turns), "tool calls without tools")
    refused(Request(turns, tools=[WEATHER], tool_choice="none"), "'none'")


# Reasoning and what goes back

Block = dict[str, Any]
SIGNED: Block = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}}
UNSIGNED: Block = {"reasoningContent": {"reasoningText": {"text": "Hm."}}}
REDACTED: Block = {"reasoningContent": {"redactedContent": "AAAA"}}
SEARCH: Block = {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}}
FOUND: Block = {"toolResult": {"toolUseId": "s1", "content": [{"text": "x"}], "type": "nova_grounding_result"}}
CITED: Block = {"citationsContent": {"content": [{"text": "Yes."}], "citations": [{"title": "a"}]}}
USE: Block = {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bern"}}}


@pytest.mark.parametrize(
    ("items", "calls", "content"),
    [
        ([SIGNED, {"text": "a"}], (), [SIGNED, {"text": "a"}]),
        ([REDACTED, SIGNED, USE], (CALL,), [REDACTED, SIGNED, USE]),
        ([UNSIGNED, {"text": "a"}, {"text": " "}], (), [{"text": "a"}]),
        ([SEARCH, FOUND, CITED], (), [SEARCH, FOUND, CITED]),
        ([SIGNED], (), None),
    ],
    ids=["signed", "redacted", "unsigned", "server tool", "only reasoning"],
)
def test_blocks_go_back_as_they_came(items: list[Any], calls: tuple[ToolCall, ...], content: list[Any] | None) -> None:
    opaque = Opaque("bedrock-converse", tuple(items), {}, "bedrock")
    results = [Message("tool", "ok", tool_call_id=call.id) for call in calls]
    turns = [Message("user", "Hi"), Message("assistant", "a", calls, None, opaque), *results, Message("user", "Go on.")]
    messages = sent(Request(turns, tools=[WEATHER] if calls else []))["messages"]
    assert [turn["content"] for turn in messages if turn["role"] == "assistant"] == ([content] if content else [])


def test_blocks_of_another_server_stay_there() -> None:
    opaque = Opaque("bedrock-converse", (SIGNED, {"text": "a"}), {}, "bedrock at gateway.example")
    turns = [Message("user", "Hi"), Message("assistant", "a", (), None, opaque), Message("user", "Go on.")]
    assert sent(Request(turns))["messages"][1]["content"] == [{"text": "a"}]


def fields(**more: Any) -> dict[str, Any]:
    return {"additionalModelRequestFields": more}


@pytest.mark.parametrize(
    ("model", "effort", "added"),
    [
        ("us.anthropic.claude-x", 2048, fields(thinking={"type": "enabled", "budget_tokens": 2048})),
        ("anthropic.claude-x", "high", fields(thinking={"type": "adaptive"}, output_config={"effort": "high"})),
        ("anthropic.claude-x", "none", fields(thinking={"type": "disabled"})),
        (
            "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.anthropic.claude-x",
            "low",
            fields(thinking={"type": "adaptive"}, output_config={"effort": "low"}),
        ),
        (
            "global.amazon.nova-2-lite-v1:0",
            "medium",
            fields(reasoningConfig={"type": "enabled", "maxReasoningEffort": "medium"}),
        ),
        ("amazon.nova-2-lite-v1:0", "none", fields(reasoningConfig={"type": "disabled"})),
        ("openai.gpt-oss-120b-1:0", "low", fields(reasoning_effort="low")),
        ("us.openai.gpt-6", "low", fields(reasoning={"effort": "low"})),
        ("moonshot.kimi-k2-thinking", "high", {"outputConfig": {"effort": "high"}}),
    ],
)
def test_each_family_of_models_is_asked_in_its_own_way(model: str, effort: str | int, added: dict[str, Any]) -> None:
    assert reasoning_fields(effort, model, VENDOR) == added


@pytest.mark.parametrize(
    ("model", "effort"), [("amazon.nova-2", 500), ("amazon.nova-2", "max"), ("moonshot.kimi", "none")]
)
def test_an_effort_that_a_family_does_not_have_is_refused(model: str, effort: str | int) -> None:
    with pytest.raises(ConfigError, match=model):
        reasoning_fields(effort, model, VENDOR)


def test_the_limit_of_the_answer_is_above_the_budget_for_thinking() -> None:
    request = Request([Message("user", "Hi")], reasoning=2000, max_tokens=500, extra=fields(top_k=4))
    body = sent(request, "anthropic.claude-x")
    assert body["inferenceConfig"] == {"maxTokens": 2500}
    assert body["additionalModelRequestFields"] == {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "top_k": 4,
    }
