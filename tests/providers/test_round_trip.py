"""Send a next request after each recorded answer: it has what the vendor needs, and nothing that a vendor refuses."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamcore import Completion, ConfigError, Message, Request, StreamcoreError, Tool, ToolCall, stream_request
from tests.round_trip import faults
from tests.support import Vendor, ask

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"
NAMES = ("anthropic", "openai-responses", "mistral", "google", "openrouter", "ollama", "deepseek", "bedrock", "openai")
WHOLE = sorted(path.stem for path in RECORDINGS.iterdir() if path.suffix in (".sse", ".bin"))


def sender(recording: str) -> str:
    """Return the provider whose answer a recording is."""
    return next((name for name in NAMES if recording.startswith(name)), "openai")


@cache
def answer_of(recording: str) -> Completion | None:
    """Return the answer in a recording, None if it does not end well."""
    (path,) = RECORDINGS.glob(f"{recording}.*")
    body = path.read_bytes()
    stream = stream_request(ask(), provider=Vendor(body).provider(sender(recording)), max_retries=0)
    try:
        return asyncio.run(stream.collect())
    except StreamcoreError:
        return None


def next_request(answer: Completion, name: str) -> dict[str, Any]:
    """Return the request in which a vendor gets an answer, results of its tools and another question."""
    vendor = Vendor(status=400)
    results = [Message("tool", "ok", tool_call_id=call.id) for call in answer.tool_calls]
    turns = [Message("user", "Hi"), answer.to_message(), *results, Message("user", "Go on.")]
    tools = [Tool(call.name) for call in answer.tool_calls if call.name]
    stream = stream_request(Request(turns, tools=tools), provider=vendor.provider(name), max_retries=0)
    with pytest.raises(StreamcoreError):
        asyncio.run(stream.collect())
    body: dict[str, Any] = json.loads(vendor.requests[0].content)
    return body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("recording", WHOLE)
def test_no_vendor_refuses_the_next_turn(recording: str, name: str) -> None:
    answer = answer_of(recording)
    if answer is None or not all(call.complete for call in answer.tool_calls):
        pytest.skip("no whole answer")
    assert faults(name, next_request(answer, name)) == []


@pytest.mark.parametrize("recording", WHOLE)
def test_opaque_data_returns_to_its_sender(recording: str) -> None:
    answer = answer_of(recording)
    if answer is None or answer.opaque is None:
        pytest.skip("nothing but text and calls")
    name = sender(recording)
    assert answer.opaque.source == name
    body = next_request(answer, name)
    if name == "openai-responses":
        sent = [item for item in body["input"] if item.get("role") != "user" and "output" not in item]
        assert [item["type"] for item in sent] == [item["type"] for item in answer.opaque.items]
        return
    if name == "google":
        assert body["contents"][1]["parts"] == list(answer.opaque.items)
        return
    turn = body["messages"][1]
    assert {key: turn[key] for key in answer.opaque.fields} == answer.opaque.fields
    if not answer.opaque.items:
        return
    kept = turn["reasoning_details"] if name == "openrouter" else turn["content"]
    assert [item for item in kept if item in answer.opaque.items] == list(answer.opaque.items)


def test_the_recordings_have_answers_of_every_wire() -> None:
    kept = [recording for recording in WHOLE if (found := answer_of(recording)) is not None and found.opaque]
    assert {sender(recording) for recording in kept} >= {
        "anthropic",
        "openai-responses",
        "mistral",
        "google",
        "openrouter",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_was_cut_raises_before_anything_is_sent(name: str) -> None:
    vendor = Vendor(status=400)
    turns = [Message("user", "Hi"), Message("assistant", tool_calls=(ToolCall("a", "tide", '{"at": "Bre'),))]
    with pytest.raises(ConfigError, match="'tide'"):
        asyncio.run(stream_request(Request(turns), provider=vendor.provider(name)).collect())
    assert vendor.requests == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("call_id", ["functions.f:0", "call_" + "x" * 80, "123456789", "toolu_01"])
def test_an_id_that_a_vendor_refuses_is_replaced_in_the_call_and_its_result(name: str, call_id: str) -> None:
    calls = (ToolCall(call_id, "tide", "{}"), ToolCall("other", "moon", "{}", 1))
    assert faults(name, next_request(Completion(tool_calls=calls, complete=True), name)) == []
