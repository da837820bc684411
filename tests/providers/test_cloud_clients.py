"""Test clients of Anthropic's SDK for other clouds: Bedrock's binary event stream, and Vertex."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from streamcore import (
    ConfigError,
    MalformedStream,
    Message,
    RateLimitError,
    Request,
    StreamInterrupted,
    get_provider,
    stream_request,
)

EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m1", "model": "c", "content": [], "usage": {"input_tokens": 3}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "High tide "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "at six \u2013 six.\n"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


def message(headers: dict[str, str], payload: bytes) -> bytes:
    heads = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(heads) + len(payload), len(heads))
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + heads + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def frame(event: dict[str, Any]) -> bytes:
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcd"}).encode()
    return message({":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}, payload)


def throttled() -> bytes:
    headers = {":exception-type": "throttlingException", ":message-type": "exception"}
    return message(headers, json.dumps({"message": "Too many tokens"}).encode())


BODY = b"".join(map(frame, EVENTS))


class Cut(httpx2.AsyncByteStream):
    """A body in reads of `size` bytes."""

    def __init__(self, body: bytes, size: int) -> None:
        self._reads = [body[start : start + size] for start in range(0, len(body), size)]

    async def __aiter__(self) -> Any:
        for data in self._reads:
            yield data


def bedrock(body: bytes, size: int = 10_000) -> Any:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path.endswith("/invoke-with-response-stream")
        return httpx2.Response(
            200, headers={"content-type": "application/vnd.amazon.eventstream"}, stream=Cut(body, size)
        )

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = anthropic.AsyncAnthropicBedrock(api_key="bedrock-key-1234", aws_region="us-east-1", http_client=http)
    return get_provider("anthropic", model="anthropic.claude-x", client=client)


ASK = Request([Message("user", "Hi")])


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
async def test_bedrock_streams(size: int) -> None:
    answer = await stream_request(ASK, provider=bedrock(BODY, size), max_retries=0).collect()
    assert (answer.text, answer.finish_reason, answer.complete) == ("High tide at six \u2013 six.\n", "stop", True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"".join(map(frame, EVENTS[:4])), StreamInterrupted),
        (BODY[:-20], StreamInterrupted),
        (b"".join(map(frame, EVENTS[:4])) + throttled(), RateLimitError),
        (frame(EVENTS[0]) + b"x" * 60, MalformedStream),
        (frame(EVENTS[0]) + frame(EVENTS[1])[:-1] + b"!" + b"".join(map(frame, EVENTS[2:])), MalformedStream),
    ],
    ids=["cut", "cut frame", "exception", "no frame", "checksum"],
)
async def test_bedrock_ends_honestly(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        await stream_request(ASK, provider=bedrock(body, 50), max_retries=0).collect()


@pytest.mark.anyio
async def test_vertex_streams() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path.endswith(":streamRawPredict")
        body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body.encode())

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = anthropic.AsyncAnthropicVertex(region="us-east5", project_id="p", access_token="t", http_client=http)
    provider = get_provider("anthropic", model="claude-x", client=client)
    assert (await stream_request(ASK, provider=provider, max_retries=0).collect()).complete


@pytest.mark.anyio
async def test_azure_streams() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/openai/deployments/m/chat/completions"
        event = {
            "id": "1",
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}],
        }
        body = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body.encode())

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    client = openai.AsyncAzureOpenAI(
        api_key="k", api_version="2024-10-21", azure_endpoint="https://a.example", http_client=http
    )
    provider = get_provider("openai", model="m", client=client)
    assert (await stream_request(ASK, provider=provider, max_retries=0).collect()).text == "Hi"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("anthropic", lambda: anthropic.Anthropic(api_key="k")),
        ("anthropic", lambda: anthropic.AnthropicBedrock(api_key="k", aws_region="us-east-1")),
        ("anthropic", lambda: anthropic.AnthropicVertex(region="r", project_id="p", access_token="t")),
        ("openai", lambda: openai.OpenAI(api_key="k")),
        ("openai-responses", lambda: openai.OpenAI(api_key="k")),
        ("groq", lambda: openai.OpenAI(api_key="k")),
    ],
)
def test_a_synchronous_client_is_refused(name: str, make: Callable[[], Any]) -> None:
    with make() as client, pytest.raises(ConfigError, match="synchronous"):
        get_provider(name, client=client)
