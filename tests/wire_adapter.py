"""Adapt recorded streams to a checker: each body is read by the real provider and its SDK, in pieces of odd sizes."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx2
from anthropic.lib.bedrock import AsyncAnthropicBedrock

from streamcore import Completion, Message, Provider, Request, StreamcoreError, get_provider, stream_request

PROVIDERS = {
    "anthropic-messages": "anthropic",
    "openai-chat": "openai",
    "openai-responses": "openai-responses",
    "mistral-chat": "mistral",
    "gemini": "google",
}


def pieces(body: bytes, seed: int = 0) -> Iterator[bytes]:
    """Cut a body as a network may."""
    rng = random.Random(seed)
    start = 0
    while start < len(body):
        size = rng.choice((1, 2, 3, 17, 61, 256, 997, 4096))
        yield body[start : start + size]
        start += size


class _Pieces(httpx2.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in pieces(self._body):
            yield piece


def client_for(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
    """Return a client that answers every request with this body."""
    shown = {"content-type": "text/event-stream; charset=utf-8", **(headers or {})}
    return httpx2.AsyncClient(
        transport=httpx2.MockTransport(lambda request: httpx2.Response(status, headers=shown, stream=_Pieces(body)))
    )


def _provider(wire: str, http: httpx2.AsyncClient) -> Provider:
    """Return the provider for the bodies of a wire."""
    if wire == "bedrock-invoke":
        bedrock = AsyncAnthropicBedrock(api_key="test-key", aws_region="us-east-1", http_client=http)
        return get_provider("anthropic", client=bedrock)
    if wire == "bedrock-converse":
        return get_provider("bedrock", http_client=http, api_key="test-key", region="us-east-1")
    return get_provider(PROVIDERS[wire], http_client=http, api_key="test-key")


async def read(wire: str, body: bytes) -> dict[str, Any]:
    """Stream a recorded body and return what the checker compares, with `partial` and `error` if it did not end."""
    async with client_for(body) as client:
        provider = _provider(wire, client)
        request = Request(messages=[Message("user", "Hello")], model="recorded")
        stream = stream_request(request, provider=provider)
        try:
            return summary(await stream.collect(), body)
        except StreamcoreError as error:
            partial = error.partial or stream.partial
            return summary(partial) | {"error": f"{type(error).__name__}: {error}", "partial": summary(partial)}


def _sums_reasoning(body: bytes) -> bool:
    """Return whether the checker has the reasoning: it sums fields, and not the texts of `reasoning_details`."""
    return b'"reasoning_details"' not in body or b'"reasoning":' in body or b'"reasoning_content":' in body


def _server_calls(answer: Completion) -> Iterator[dict[str, Any]]:
    """Yield the calls of Bedrock's own tools, which the checker counts; the server answers them."""
    for item in answer.opaque.items if answer.opaque is not None else ():
        use: Any = item.get("toolUse")
        if answer.opaque is not None and answer.opaque.wire == "bedrock-converse" and use and use.get("type"):
            yield {"id": use["toolUseId"], "name": use["name"], "arguments": json.dumps(use["input"])}


def summary(answer: Completion, body: bytes = b"") -> dict[str, Any]:
    """Return an answer in the checker's form; without the reasoning that the checker does not read from this body."""
    if not _sums_reasoning(body):
        answer = replace(answer, reasoning="")
    usage = answer.usage
    return {
        "text": answer.text,
        "reasoning": answer.reasoning,
        "tool_calls": [
            *_server_calls(answer),
            *({"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls),
        ],
        "finish_reason_raw": answer.raw_finish_reason,
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "error": None,
    }
