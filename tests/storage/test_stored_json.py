"""Write messages and answers as JSON and read them back: nothing is lost, and old data stay readable."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from streamcore import Attempt, Completion, Cost, Document, Image, Message, Opaque, Text, ToolCall, ToolResult, Usage

OPAQUE = Opaque("w", ({"type": "thinking", "signature": "s"},), {"container": {"id": "box"}}, "here")
CALLS = (ToolCall("a", "tide", '{"at": "Köln"}'), ToolCall(None, None, "select 1", 1, custom=True))
MESSAGES = [
    Message("user", "Hello 🌊\n"),
    Message("user", [Text("What is this?"), Image(data=b"\x89PNG\x00", media_type="image/png")]),
    Message("user", [Image(url="https://example.com/a.png")]),
    Message("user", [Document(data=b"%PDF\x00", media_type="application/pdf", name="a.pdf"), Text("Read.")]),
    Message("user", [Document(url="https://example.com/a.pdf"), Document(file_id="file-1")]),
    Message("assistant", "", tool_calls=CALLS, opaque=OPAQUE),
    Message("tool", "Rain", tool_call_id="a"),
    Message("system", "A lone half: \ud83c"),
]
# A value for every field of `Completion`; a field that is added needs one here, and its place in the format.
WHOLE: dict[str, Any] = {
    "text": "Wellen 🌊",
    "reasoning": "hm",
    "refusal": "no",
    "tool_calls": CALLS,
    "citations": ({"url": "u"},),
    "usage": Usage(1, 2, 0, None, 3, {"prompt_tokens": 1}),
    "finish_reason": "tool_calls",
    "raw_finish_reason": "tool_use",
    "finish_detail": {"type": "x"},
    "model": "m",
    "id": "r",
    "request_id": "q",
    "parsed": {"sky": ["blue", 1.5, None]},
    "attempts": (Attempt("openai", "m", "RateLimitError", Usage(1), Cost(Decimal("0.1"))), Attempt("mistral", None)),
    "provider": "mistral",
    "complete": True,
    "opaque": OPAQUE,
    "alternatives": (Completion(text="other", tool_calls=CALLS, complete=True),),
    "reasoning_parts": ("h", "m"),
    "service_tier": "flex",
    "stop_sequence": "END",
    "logprobs": ({"token": "a", "logprob": -0.5},),
    "served_by": "Azure",
    "reported_cost": Cost(Decimal("0.25"), price="usage.cost"),
    "tool_results": (
        ToolResult("a", "tide", "high", seconds=0.5, parts=(Text("high"), Image(data=b"x", media_type="image/png"))),
        ToolResult("b", "tide", "Error: no", "ValueError: no"),
    ),
    "pending": CALLS,
    "steps": (Completion(text="first", tool_calls=CALLS), Completion(text="Wellen 🌊", complete=True)),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_comes_back_as_it_was(message: Message) -> None:
    written = message.to_json()
    assert written.isascii()
    assert Message.from_json(written) == message
    assert Message.from_json(written.encode()) == message


def test_an_answer_comes_back_as_it_was() -> None:
    answer = Completion(**WHOLE)
    assert WHOLE.keys() == {field.name for field in fields(Completion)}
    assert Completion.from_json(answer.to_json()) == answer


@pytest.mark.parametrize("name", WHOLE)
def test_each_field_alone_comes_back(name: str) -> None:
    answer = replace(Completion(), **{name: WHOLE[name]})
    assert Completion.from_json(answer.to_json()) == answer


def test_fields_with_default_values_are_left_out() -> None:
    assert json.loads(Message("user", "Hi").to_json()) == {
        "streamcore": "message",
        "version": 1,
        "role": "user",
        "content": "Hi",
    }
    assert json.loads(Completion().to_json()) == {"streamcore": "completion", "version": 1}
    assert all(field.default is not MISSING for field in fields(Completion))


def test_the_format_of_version_1_stays_readable() -> None:
    call = {"id": "a", "name": "tide", "arguments": "{}"}
    opaque = {"wire": "w", "items": [{"type": "t"}], "fields": {"k": 1}, "source": "here"}
    stored: dict[str, Any] = {"streamcore": "message", "version": 1, "role": "assistant", "content": "Hi"}
    assert Message.from_json(json.dumps({**stored, "tool_calls": [call], "opaque": opaque})) == Message(
        "assistant", "Hi", (ToolCall("a", "tide", "{}"),), opaque=Opaque("w", ({"type": "t"},), {"k": 1}, "here")
    )
    image = {"type": "image", "media_type": "image/png", "data": "iVBORw=="}
    parts = [{"type": "text", "text": "What?"}, image, {"type": "image", "url": "u"}]
    assert Message.from_json(json.dumps({**stored, "role": "user", "content": parts})) == Message(
        "user", [Text("What?"), Image(data=b"\x89PNG", media_type="image/png"), Image(url="u")]
    )


def test_a_field_of_a_later_streamcore_is_ignored() -> None:
    stored = json.loads(Message("user", "Hi").to_json())
    assert Message.from_json(json.dumps({**stored, "mood": "calm"})) == Message("user", "Hi")


def test_a_parsed_object_is_read_as_plain_data() -> None:
    class Sky(BaseModel):
        color: str

    answer = Completion(parsed=Sky(color="blue"))
    assert Completion.from_json(answer.to_json()).parsed == {"color": "blue"}


def test_numbers_that_json_does_not_know_become_null() -> None:
    answer = Completion(usage=Usage(raw={"cost": float("nan")}))
    stored = Completion.from_json(answer.to_json())
    assert stored.usage == Usage(raw={"cost": None})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("[]", "not a message"),
        ("{}", "not a message"),
        (Completion().to_json(), "not a message"),
        ("{", "Expecting"),
        ('{"streamcore": "message", "version": 2, "role": "user"}', "version 2"),
        ('{"streamcore": "message", "version": "1", "role": "user"}', "version '1'"),
        ('{"streamcore": "message", "version": 1}', "damaged"),
        ('{"streamcore": "message", "version": 1, "role": "user", "content": [{"type": "sound"}]}', "sound"),
    ],
)
def test_data_that_cannot_be_read_raises_with_the_reason(data: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Message.from_json(data)


def test_data_that_are_nested_too_deeply_raise_value_errors() -> None:
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(ValueError, match="nested too deeply"):
        Completion(citations=({"deep": value},)).to_json()
    with pytest.raises(ValueError, match="nested too deeply"):
        Message("assistant", "", opaque=Opaque("w", ({"deep": value},))).to_json()
    with pytest.raises(ValueError, match="nested too deeply"):
        Completion.from_json('{"a":' * 5000 + "1" + "}" * 5000)
