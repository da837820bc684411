"""Test every provider against the same contract: what it streams, how it ends, and that it always closes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import anthropic
import anyio
import botocore.session
import httpx2
import openai
import pytest
from google import genai
from google.genai.types import HttpOptions
from mistralai.client import Mistral

import streamcore_anthropic
import streamcore_bedrock
import streamcore_google
import streamcore_mistral
import streamcore_openai
from streamcore import (
    Chunk,
    Completion,
    Message,
    Request,
    StreamInterrupted,
    Tool,
    aclose_providers,
    get_provider,
    stream_request,
)
from streamcore.testing import Answer, PlannedCall, Simulator
from streamcore.testing.simulator.frames import PROMPT_TOKENS
from tests.support import (
    BACKENDS,
    EVERY_RUN,
    GATEWAYS,
    KEY,
    VENDORS,
    Vendor,
    address_of,
    ask,
    body_of,
    eventually,
    provider_at,
    wait_until,
    wire_of,
)

pytestmark = pytest.mark.anyio

# The gateways are rows of one table, so one of them is enough on the second backend.
EVERYWHERE = [
    *EVERY_RUN,
    ("asyncio", GATEWAYS[0]),
    ("trio", GATEWAYS[0]),
    *(pytest.param("asyncio", name, marks=pytest.mark.long) for name in GATEWAYS[1:]),
]
every_provider = pytest.mark.parametrize(("anyio_backend", "name"), EVERYWHERE)

TOKENS = ["Héllo", ", wörld", " — ", "你好", " 👋🏽", "\n\n", "  data: x", "\r\n", "end"]
TEXT = "".join(TOKENS)
CALLS = [
    PlannedCall("weather", {"city": "Zürich", "days": 3}, "call_1"),
    PlannedCall("clock", {}, "call_2"),
]
TOOLS = [Tool("weather", "Tell the weather."), Tool("clock", "Tell the time.")]
SLOW = Answer.of("word " * 500)


def say(simulator: Simulator, answer: Answer, rate: float | None = None) -> None:
    simulator.decide = lambda asked: Answer(answer.tokens, answer.reasoning, answer.calls, asked.model, answer.cut)
    simulator.rate = rate


def kinds(chunks: list[Chunk]) -> list[str]:
    return [chunk.kind for chunk in chunks]


# What is streamed


@every_provider
async def test_text_comes_token_by_token_between_start_and_finish(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(TOKENS))
    stream = stream_request(ask(), provider=provider_at(simulator, name))
    chunks = [chunk async for chunk in stream]
    assert kinds(chunks) == ["start", *["text"] * len(TOKENS), "finish", "usage"]
    assert [chunk.text for chunk in chunks if chunk.kind == "text"] == TOKENS
    assert stream.partial.text == TEXT
    assert stream.partial.complete


@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_the_demo_provider_streams_like_the_others(anyio_backend: str) -> None:
    chunks = [chunk async for chunk in stream_request(ask("Why is it?"), provider=get_provider("demo", rate=0))]
    texts = [chunk.text for chunk in chunks if chunk.kind == "text"]
    assert kinds(chunks) == ["start", *["text"] * len(texts), "finish", "usage"]
    assert len(texts) > 10
    assert "Why is it?" in "".join(texts)


@every_provider
async def test_a_stream_has_model_finish_reason_and_usage(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(TOKENS))
    answer = await stream_request(ask(), provider=provider_at(simulator, name)).collect()
    words = {
        "anthropic-messages": "end_turn",
        "bedrock-converse": "end_turn",
        "gemini": "STOP",
        "openai-responses": "completed",
    }
    assert (answer.finish_reason, answer.raw_finish_reason) == ("stop", words.get(wire_of(name), "stop"))
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (PROMPT_TOKENS, len(TOKENS))
    assert len(TOKENS) in answer.usage.raw.values()
    assert (answer.model, answer.request_id) == ("m", "req_simulated")
    assert answer.id is not None
    assert answer.id.endswith("simulated")
    assert [(attempt.provider, attempt.error) for attempt in answer.attempts] == [(name, None)]


@every_provider
async def test_tool_calls_come_in_fragments_that_name_their_call(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(["One moment."], calls=CALLS))
    chunks: list[Chunk] = []
    stream = stream_request(ask(tools=TOOLS), provider=provider_at(simulator, name))
    async for chunk in stream:
        chunks.append(chunk)
    fragments = [chunk.tool_call for chunk in chunks if chunk.tool_call is not None]
    pieces = [["", *call.fragments] for call in CALLS]
    if name == "google":  # its calls come whole
        pieces = [["".join(some)] for some in pieces]
    assert [call.arguments for call in fragments] == [*pieces[0], *pieces[1]]
    first = len(pieces[0])
    assert {(call.id, call.name, call.position) for call in fragments[:first]} == {("call_1", "weather", 0)}
    assert {(call.id, call.name, call.position) for call in fragments[first:]} == {("call_2", "clock", 1)}
    answer = stream.partial
    assert [(call.id, call.name, call.parse()) for call in answer.tool_calls] == [
        ("call_1", "weather", {"city": "Zürich", "days": 3}),
        ("call_2", "clock", {}),
    ]
    assert answer.tool_calls[0].arguments == json.dumps(CALLS[0].arguments)
    assert (answer.text, answer.finish_reason) == ("One moment.", "tool_calls")


@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_the_demo_provider_calls_a_tool(anyio_backend: str) -> None:
    answer = await stream_request(ask(tools=TOOLS), provider=get_provider("demo", rate=0)).collect()
    assert [(call.name, call.parse()) for call in answer.tool_calls] == [("weather", {})]
    assert answer.finish_reason == "tool_calls"
    answer = await stream_request(ask(tools=TOOLS, tool_choice="clock"), provider="demo").collect()
    assert [call.name for call in answer.tool_calls] == ["clock"]
    answer = await stream_request(ask(tools=TOOLS, tool_choice="none"), provider=get_provider("demo", rate=0)).collect()
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")


@every_provider
async def test_reasoning_is_kept_apart_from_text(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(TOKENS, reasoning=["Let me", " think."]))
    stream = stream_request(ask(), provider=provider_at(simulator, name))
    chunks = [chunk async for chunk in stream]
    assert [chunk.text for chunk in chunks if chunk.kind == "reasoning" and chunk.text] == ["Let me", " think."]
    assert (stream.partial.reasoning, stream.partial.text) == ("Let me think.", TEXT)
    order = [chunk.kind for chunk in chunks if chunk.text]
    assert order == ["reasoning"] * 2 + ["text"] * len(TOKENS)


def _sent_back(name: str, body: Any) -> Any:
    """Return the turn of the assistant in a second request's body."""
    if name == "google":
        return body["contents"][1]
    return body["input"][1:-1] if name == "openai-responses" else body["messages"][1]


SENT_BACK: dict[str, Any] = {
    "google": {"role": "model", "parts": [{"text": "Let me think.", "thought": True}, {"text": TEXT}]},
    "anthropic": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Let me think.", "signature": "simulated-signature"},
            {"type": "text", "text": TEXT},
        ],
    },
    "bedrock": {
        "role": "assistant",
        "content": [
            {"reasoningContent": {"reasoningText": {"text": "Let me think.", "signature": "simulated-signature"}}},
            {"text": TEXT},
        ],
    },
    "mistral": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Let me think."}]},
            {"type": "text", "text": TEXT},
        ],
    },
    "openai-responses": [
        {"id": "rs_sc0_simulated", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me think."}]},
        {
            "id": "msg_sc1_simulated",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}],
        },
    ],
}


@every_provider
async def test_opaque_data_is_sent_back_with_the_next_turn(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(TOKENS, reasoning=["Let me", " think."]))
    provider = provider_at(simulator, name)
    answer = await stream_request(ask(), provider=provider).collect()
    turns = [Message("user", "Hello"), answer.to_message(), Message("user", "Go on")]
    await stream_request(Request(messages=turns), provider=provider).collect()
    plain = {"role": "assistant", "content": TEXT}
    assert _sent_back(name, simulator.requests[1].body) == SENT_BACK.get(name, plain)


@every_provider
async def test_raw_events_are_optional_and_convert_to_the_sdks_types(name: str, simulator: Simulator) -> None:
    say(simulator, Answer(["Hi", " there"]))
    typed, text_of = _typed(name)
    chunks = [chunk async for chunk in stream_request(ask(), provider=provider_at(simulator, name), include_raw=True)]
    assert all(chunk.raw is not None for chunk in chunks)
    events = [typed(chunk) for chunk in chunks if chunk.kind == "text"]
    assert [text_of(event) for event in events] == ["Hi", " there"]
    plain = [chunk async for chunk in stream_request(ask(), provider=provider_at(simulator, name))]
    assert all(chunk.raw is None for chunk in plain)
    with pytest.raises(ValueError, match="include_raw"):
        typed(plain[1])


def _typed(name: str) -> tuple[Callable[[Chunk], Any], Callable[[Any], str]]:
    def of_chat(event: Any) -> str:
        text: str = event.choices[0].delta.content
        return text

    match wire_of(name):
        case "anthropic-messages":
            return streamcore_anthropic.typed, lambda event: event.delta.text
        case "openai-responses":
            return streamcore_openai.typed, lambda event: event.delta
        case "mistral-chat":
            return streamcore_mistral.typed, of_chat
        case "gemini":
            return streamcore_google.typed, lambda event: event.text
        case "bedrock-converse":
            return streamcore_bedrock.typed, lambda event: event["contentBlockDelta"]["delta"]["text"]
        case _:
            return streamcore_openai.typed, of_chat


# How it ends


async def _stays_failed(stream: Any, error: Exception) -> None:
    """Check that every later call says again how the stream ended, and none that it is whole."""
    for call in (stream.collect, stream.__anext__, stream.next_batch, stream.text().__anext__):
        with pytest.raises(type(error)) as again:
            await call()
        assert again.value is error
    assert not stream.partial.complete


# That it closes


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
@pytest.mark.parametrize("rate", [0.01, 5])
async def test_cancelling_the_task_closes(name: str, rate: float, simulator: Simulator, anyio_backend: str) -> None:
    say(simulator, SLOW, rate=rate)
    stream = stream_request(ask(), provider=provider_at(simulator, name))

    async def reader() -> Completion:
        async with stream:
            return await stream.collect()

    task = asyncio.create_task(reader())
    await eventually(lambda: simulator.open == 1 and (rate < 1 or stream.partial.text), "the stream runs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: simulator.abandoned == 1, "the server saw the connection close")
    await _looks_unfinished(stream, stream.partial.text)


async def _looks_unfinished(stream: Any, text: str) -> None:
    with pytest.raises(StreamInterrupted) as caught:
        await stream.collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text.startswith(text)
    await _stays_failed(stream, caught.value)


@every_provider
async def test_cancelling_before_the_first_byte_closes_the_request(name: str) -> None:
    waiting = anyio.Event()
    left: list[str] = []

    async def silence(request: httpx2.Request) -> httpx2.Response:
        waiting.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.append(request.method)
        raise AssertionError

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(silence)) as http:
        given: dict[str, Any] = {"api_key": KEY, "model": "m", "http_client": http}
        stream = stream_request(ask(), provider=get_provider(name, **address_of(name), **given))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.collect)
            await waiting.wait()
            tasks.cancel_scope.cancel()
    assert left == ["POST"]
    await _looks_unfinished(stream, "")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cancelling_while_mistrals_hooks_run_closes_the_response(anyio_backend: str) -> None:
    """Its SDK gives each response to hooks in a thread before any other code can close it."""
    vendor = Vendor(body_of("mistral-chat", SLOW))
    in_hook, go_on = threading.Event(), threading.Event()

    class Hook:
        def after_success(self, context: Any, response: Any) -> Any:
            in_hook.set()
            go_on.wait(60)
            return response

    client = Mistral(api_key=KEY, async_client=vendor.client())
    client.sdk_configuration.__dict__["_hooks"].register_after_success_hook(Hook())
    stream = stream_request(ask(), provider=get_provider("mistral", model="m", client=client))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.collect)
        await eventually(in_hook.is_set, "the hook was called")
        tasks.cancel_scope.cancel()
    go_on.set()
    assert vendor.bodies[0].closed
    await _looks_unfinished(stream, "")


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_a_deadline_of_the_caller_cuts_a_silent_stream(name: str, simulator: Simulator) -> None:
    say(simulator, SLOW, rate=0.01)
    with anyio.move_on_after(0.2) as scope:
        async with stream_request(ask(), provider=provider_at(simulator, name)) as stream:
            await stream.collect()
    assert scope.cancelled_caught
    if simulator.requests:  # the SDK's first request may take longer than the deadline
        wait_until(lambda: simulator.open == 0, "the server saw the connection close")


# What it is sent through


@every_provider
async def test_a_connection_is_used_again_after_a_full_read(name: str, simulator: Simulator) -> None:
    for _ in range(3):
        answer = await stream_request(ask(), provider=provider_at(simulator, name)).collect()
        assert answer.complete
    assert simulator.connections == 1


@every_provider
async def test_headers_and_extra_keys_arrive(name: str, simulator: Simulator) -> None:
    provider = provider_at(simulator, name, headers={"X-Team": "blue"})
    await stream_request(ask(extra={"brand_new": {"key": [1, None]}}), provider=provider).collect()
    (request,) = simulator.requests
    assert request.headers["x-team"] == "blue"
    assert request.body["brand_new"] == {"key": [1, None]}
    in_url = name in ("google", "bedrock")  # whose paths say that the answer is streamed
    assert request.body.get("stream") is (None if in_url else True)


@every_provider
async def test_the_callers_http_client_is_used_and_left_open(name: str, simulator: Simulator) -> None:
    async with httpx2.AsyncClient(headers={"X-Mine": "yes"}) as http:
        provider = provider_at(simulator, name, http_client=http)
        await stream_request(ask(), provider=provider).collect()
        await provider.aclose()
        await aclose_providers()
        assert not http.is_closed
        await stream_request(ask(), provider=provider).collect()
    assert [request.headers["x-mine"] for request in simulator.requests] == ["yes", "yes"]
    assert simulator.connections == 1


@every_provider
async def test_the_callers_sdk_client_is_used_and_left_open(name: str, simulator: Simulator) -> None:
    async with httpx2.AsyncClient() as http:
        key = "sk-the-callers-own-key"
        base = simulator.base_url(name)
        client: Any
        match name:
            case "anthropic":
                client = anthropic.AsyncAnthropic(api_key=key, base_url=base, http_client=http)
            case "google":
                options = HttpOptions(base_url=base, httpx_async_client=http)
                client = genai.Client(api_key=key, http_options=options)
            case "mistral":
                client = Mistral(api_key=key, server_url=base, async_client=http)
            case _:
                client = openai.AsyncOpenAI(api_key=key, base_url=base, http_client=http)
        if name != "bedrock":
            provider = get_provider(name, model="m", client=client)
        else:  # its SDK's clients are synchronous; a session has the key
            session = botocore.session.Session()
            session.set_credentials(key, "the-callers-own-secret")
            given: dict[str, Any] = {"session": session, "region": "us-east-1", "base_url": base, "http_client": http}
            provider = get_provider(name, model="m", **given)
        await stream_request(ask(), provider=provider).collect()
        await provider.aclose()
        await aclose_providers()
        assert not http.is_closed
        await stream_request(ask(), provider=provider).collect()
    assert len(simulator.requests) == 2
    assert all(key in json.dumps(dict(request.headers)) for request in simulator.requests)
