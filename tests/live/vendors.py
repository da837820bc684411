"""Ask each vendor whose key is in the environment: one prompt, one tool call, one structured answer, one cancellation.

`make live` runs this file; its name keeps it out of `make test`. A request costs a few hundred tokens. With
`make live RECORD=1` what came is written to tests/recordings/live, without keys. A server without a key, as ollama,
is asked if its `<NAME>_BASE_URL` is set.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest

from streamcore import Completion, Message, Provider, Request, Tool, get_provider, stream_prompt, stream_request
from streamcore.provider import provider_names, vendor
from streamcore.testing import record

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
WEATHER = Tool(
    "weather",
    "Tell the weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
)
BOOK = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
    "required": ["title", "year"],
    "additionalProperties": False,
}
ENOUGH = 2000  # tokens; a reasoning model spends most of them before the first text


def ready(name: str) -> bool:
    """Return whether the environment configures a vendor."""
    known = vendor(name)
    assert known is not None
    found = known.find_key() if known.needs_key else known.from_environment("BASE_URL")
    return known.installed and found is not None


def row(name: str) -> object:
    known = vendor(name)
    assert known is not None
    why = f"set {known.variable('API_KEY' if known.needs_key else 'BASE_URL')}"
    return pytest.param(name, marks=[] if ready(name) else [pytest.mark.skip(reason=why)])


everyone = pytest.mark.parametrize("name", [row(name) for name in provider_names() if name not in ("demo", "replay")])


@asynccontextmanager
async def asked(name: str, what: str) -> AsyncGenerator[Provider]:
    """Yield a vendor's provider; record its answers if STREAMCORE_LIVE_RECORD is set."""
    folder = os.environ.get("STREAMCORE_LIVE_RECORD")
    if not folder:
        yield get_provider(name)
        return
    recorder = record(httpx2.AsyncHTTPTransport(), provider=name)
    async with httpx2.AsyncClient(transport=recorder) as client:
        yield get_provider(name, http_client=client)
    recorder.recording.save(Path(folder) / f"{name}-{what}.yaml")


def check(answer: Completion, reason: str) -> None:
    assert answer.complete
    assert answer.finish_reason == reason, answer
    assert answer.model
    assert answer.usage is not None
    assert answer.usage.output_tokens


@everyone
async def test_prompt(name: str) -> None:
    async with asked(name, "prompt") as provider:
        stream = stream_prompt("greet", {"name": "Ada"}, provider=provider, prompts_dir=ROOT / "prompts")
        pieces = [chunk.text async for chunk in stream if chunk.kind == "text"]
    check(stream.partial, "stop")
    assert "".join(pieces) == stream.partial.text
    assert stream.partial.text.strip()


@everyone
async def test_tool_call(name: str) -> None:
    async with asked(name, "tool") as provider:
        question = Message("user", "What is the weather in Bern? Use the tool.")
        first = Request([question], tools=[WEATHER], max_tokens=ENOUGH)
        answer = await stream_request(first, provider=provider).collect()
        check(answer, "tool_calls")
        call = answer.tool_calls[0]
        assert call.name == "weather"
        assert "bern" in call.parse()["city"].lower() or name_is_simulated(answer)
        result = Message("tool", '{"sky": "clear", "celsius": 21}', tool_call_id=call.id)
        second = Request([question, answer.to_message(), result], tools=[WEATHER], max_tokens=ENOUGH)
        answer = await stream_request(second, provider=provider).collect()
    check(answer, "stop")
    assert "21" in answer.text


@everyone
async def test_structured_answer(name: str) -> None:
    async with asked(name, "structured") as provider:
        question = Message("user", "Name one novel by Jane Austen and its year, as JSON with `title` and `year`.")
        request = Request([question], output_schema=BOOK, max_tokens=ENOUGH)
        answer = await stream_request(request, provider=provider).collect()
    check(answer, "stop")
    book = json.loads(answer.text)
    assert set(book) == {"title", "year"}
    assert isinstance(book["year"], int)


@everyone
async def test_cancellation(name: str) -> None:
    async with asked(name, "cancelled") as provider:
        request = Request([Message("user", "Count from 1 to 400 in words, one number a line.")], max_tokens=ENOUGH)
        stream = stream_request(request, provider=provider)
        with anyio.CancelScope() as scope:
            async with stream:
                async for _ in stream:
                    if len(stream.partial.text) > 20:
                        scope.cancel()
        assert scope.cancelled_caught
        assert stream.partial.text
        assert not stream.partial.complete
        again = Request([Message("user", "Say hello.")], max_tokens=ENOUGH)
        check(await stream_request(again, provider=provider).collect(), "stop")


def name_is_simulated(answer: Completion) -> bool:
    """Return whether a simulator answered: its arguments are made up and do not name Bern."""
    return answer.tool_calls[0].id == "call_simulated_1"
