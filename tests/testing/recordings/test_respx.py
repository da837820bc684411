"""Play recorded bodies to each provider through respx, at the vendor's real address, cut into odd pieces.

The bodies in `tests/recordings` follow the vendors' public API references; the first comment of
each says after which.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import respx

from streamcore import (
    Completion,
    ConnectionFailed,
    ContentRefused,
    RateLimitError,
    StreamInterrupted,
    execute_prompt_async,
    get_provider,
    stream_request,
)
from streamcore.provider import vendor
from tests.support import BACKENDS, EVERY_RUN, GATEWAYS, KEY, VENDORS, address_of, ask
from tests.wire_adapter import pieces

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).resolve().parents[2] / "recordings"
URLS = {
    "anthropic": "https://api.anthropic.com/v1/messages",
    "openai": "https://api.openai.com/v1/chat/completions",
    "openai-responses": "https://api.openai.com/v1/responses",
    "mistral": "https://api.mistral.ai/v1/chat/completions",
    "google": "https://generativelanguage.googleapis.com/v1/models/m:streamGenerateContent?alt=sse",
    "bedrock": "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse-stream",
    "ollama": "http://localhost:11434/v1/chat/completions",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "deepseek": "https://api.deepseek.com/v1/chat/completions",
    "xai": "https://api.x.ai/v1/chat/completions",
    "together": "https://api.together.xyz/v1/chat/completions",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    "vllm": "http://localhost:8000/v1/chat/completions",
    "lmstudio": "http://localhost:1234/v1/chat/completions",
    "azure": "https://resource.openai.azure.com/openai/v1/chat/completions",
    "minimax": "https://api.minimax.io/v1/chat/completions",
    "moonshot": "https://api.moonshot.ai/v1/chat/completions",
    "perplexity": "https://api.perplexity.ai/chat/completions",
    "zai": "https://api.z.ai/api/paas/v4/chat/completions",
}


class Body(httpx.AsyncByteStream):
    """A recorded body in odd pieces, which notes that it was closed."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in pieces(self._body):
            yield piece

    async def aclose(self) -> None:
        self.closed = True


PLAYED = {
    "anthropic": "anthropic-thinking-and-tool",
    "openai-responses": "openai-responses-incomplete",
    "google": "google-text",
    "bedrock": "bedrock-thinking-and-tool",
}
"""A recording for each vendor that has a wire of its own."""


def play(router: respx.Router, name: str, recording: str) -> tuple[respx.Route, Body]:
    """Mock a vendor's real address with a recording."""
    path = RECORDINGS / f"{recording}.sse"
    body = Body(path.read_bytes() if path.exists() else path.with_suffix(".bin").read_bytes())
    response = httpx.Response(200, headers={"content-type": "text/event-stream", "x-request-id": "req_9"}, stream=body)
    return router.post(URLS[name]).mock(return_value=response), body


async def play_to(router: respx.Router, name: str, recording: str) -> Completion:
    """Return the answer that a recording gives; its body must be closed and no byte of a key be missing."""
    route, body = play(router, name, recording)
    provider = get_provider(name, api_key=KEY, model="m")
    answer = await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert answer.complete
    assert answer.request_id == "req_9"
    assert body.closed
    assert KEY in str(route.calls.last.request.headers.raw)
    return answer


def calls(answer: Completion) -> list[tuple[str | None, str | None, Any]]:
    return [(call.id, call.name, call.parse()) for call in answer.tool_calls]


def counts(answer: Completion) -> tuple[int | None, ...]:
    usage = answer.usage
    assert usage is not None
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


both = pytest.mark.parametrize("anyio_backend", BACKENDS)
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@both
async def test_anthropic_thinks_speaks_and_calls(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "anthropic", "anthropic-thinking-and-tool")
    assert answer.reasoning == "The tide table is needed first."
    assert answer.text == "Let me look at the tides in Saint‑Malo 🌊."
    assert calls(answer) == [("toolu_01Tide", "tide_table", {"port": "Saint-Malo", "days": 2})]
    assert answer.tool_calls[0].arguments == '{"port": "Saint-Malo", "days": 2}'
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "tool_use")
    assert (answer.id, answer.model) == ("msg_01Harbour", "claude-haiku-4-5-20251001")
    # message_delta counts the output anew and leaves the rest as message_start had it
    assert counts(answer) == (421, 89, 300, 12, None)
    assert answer.opaque is not None
    assert answer.opaque.items == (
        {
            "type": "thinking",
            "thinking": "The tide table is needed first.",
            "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk",
        },
        {"type": "text", "text": "Let me look at the tides in Saint‑Malo 🌊."},
        {"type": "tool_use", "id": "toolu_01Tide", "name": "tide_table", "input": {"port": "Saint-Malo", "days": 2}},
    )


@both
async def test_anthropic_refuses(
    httpx2_mock: respx.Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    play(httpx2_mock, "anthropic", "anthropic-refusal")
    (tmp_path / "hello.yaml").write_text("user: Hello", "utf-8")
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with pytest.raises(ContentRefused) as caught:
        await execute_prompt_async("hello", provider="anthropic", prompts_dir=tmp_path)
    assert (caught.value.code, caught.value.request_id) == ("refusal", "req_9")
    assert caught.value.partial is not None
    assert counts(caught.value.partial)[:2] == (30, 1)


@both
async def test_openai_runs_into_the_limit(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "openai", "openai-text")
    assert answer.text == "Pont Saint-Bénézet\n"
    assert (answer.finish_reason, answer.raw_finish_reason) == ("length", "length")
    assert (answer.id, answer.model) == ("chatcmpl-Bridge", "gpt-5.4-mini-2026-03-01")
    assert counts(answer) == (19, 130, 8, None, 120)


@both
async def test_openai_calls_two_tools(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "openai", "openai-tools")
    assert calls(answer) == [("call_A", "tide_table", {"port": "Brest"}), ("call_B", "clock", {})]
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    assert counts(answer)[:2] == (70, 41)


@both
async def test_responses_reason_speak_and_call(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "openai-responses", "openai-responses-reasoning-and-call")
    assert answer.reasoning == "**Asking the lock keeper**"
    assert answer.text == "I'll ask the keeper."
    assert calls(answer) == [("call_Keeper", "ask_keeper", {"lock": 7})]
    assert (answer.finish_reason, answer.raw_finish_reason, answer.finish_detail) == ("tool_calls", "completed", None)
    assert (answer.id, answer.model) == ("resp_Lock", "gpt-5.4-mini-2026-03-01")
    assert counts(answer) == (55, 48, 16, None, 21)
    assert answer.opaque is not None
    assert [item["type"] for item in answer.opaque.items] == ["reasoning", "message", "function_call"]
    assert answer.opaque.items[0]["encrypted_content"] == "gAAAAABpJSm4"


@both
async def test_responses_run_into_the_limit(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "openai-responses", "openai-responses-incomplete")
    assert answer.text == "Once upon"
    assert (answer.finish_reason, answer.raw_finish_reason) == ("length", "incomplete")
    assert answer.finish_detail == "max_output_tokens"
    assert counts(answer)[:2] == (9, 16)


@asyncio_only
async def test_mistral_thinks_in_parts(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "mistral", "mistral-thinking")
    assert answer.reasoning == "Le canal du Midi ?"
    assert answer.text == "Il relie Toulouse à Sète."
    assert (answer.finish_reason, answer.model) == ("stop", "magistral-small-latest")
    assert counts(answer)[:2] == (14, 24)
    assert answer.opaque is not None
    thinking = [{"type": "text", "text": "Le canal du Midi ?"}]
    assert answer.opaque.items == ({"type": "thinking", "thinking": thinking},)


@asyncio_only
async def test_mistral_calls_two_tools_at_once(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "mistral", "mistral-tools")
    assert calls(answer) == [
        ("aB3dE6gH9", "tide_table", {"port": "Brest"}),
        ("kL2mN5pQ8", "tide_table", {"port": "Sète"}),
    ]
    assert answer.finish_reason == "tool_calls"
    assert counts(answer)[:2] == (94, 36)


@both
async def test_groq_counts_under_its_own_key(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "groq", "groq-text")
    assert (answer.text, answer.finish_reason) == ("Quickly.", "stop")
    assert counts(answer)[:2] == (36, 3)


@both
async def test_openrouter_comments_and_reasons(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "openrouter", "openrouter-reasoning")
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("Weigh both.", "The second.", "stop")
    assert counts(answer) == (61, 44, None, None, 33)
    assert answer.opaque is not None
    assert answer.opaque.items == (
        {
            "type": "reasoning.text",
            "text": "Weigh both.",
            "signature": "EpwCCkYIBxgC",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
    )


@both
async def test_ollama_calls_a_tool_in_one_piece(httpx2_mock: respx.Router, anyio_backend: str) -> None:
    answer = await play_to(httpx2_mock, "ollama", "ollama-tool")
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("Ask.", "", "tool_calls")
    assert calls(answer) == [("call_x9", "clock", {})]
    assert counts(answer)[:2] == (161, 15)


@asyncio_only
@pytest.mark.parametrize("name", [*VENDORS, *GATEWAYS])
async def test_every_provider_is_reached_at_its_own_address(
    name: str, httpx2_mock: respx.Router, anyio_backend: str
) -> None:
    route, _ = play(httpx2_mock, name, PLAYED.get(name, "openai-text"))
    await stream_request(ask(model="m"), provider=get_provider(name, api_key=KEY, **address_of(name))).collect()
    assert route.call_count == 1
    row = vendor(name)
    assert row is not None
    assert row.base_url is None or URLS[name].startswith(row.base_url + "/")


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_failures_that_a_mock_raises(name: str, httpx2_mock: respx.Router) -> None:
    provider = get_provider(name, api_key=KEY, model="m", **address_of(name))
    httpx2_mock.post(URLS[name]).mock(side_effect=httpx2.ConnectError("no route"))
    with pytest.raises(ConnectionFailed, match="no route"):
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    httpx2_mock.post(URLS[name]).mock(return_value=httpx.Response(429, headers={"retry-after": "3"}, json={}))
    with pytest.raises(RateLimitError) as caught:
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert caught.value.retry_after == 3.0
    assert httpx2_mock.calls.call_count == 2


@pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
async def test_leaving_early_closes_the_mocked_body(name: str, httpx2_mock: respx.Router) -> None:
    _, body = play(httpx2_mock, name, PLAYED.get(name, "openai-text"))
    async with stream_request(ask(), provider=get_provider(name, api_key=KEY, model="m", **address_of(name))) as stream:
        await anext(stream)
    assert body.closed
    with pytest.raises(StreamInterrupted):
        await anext(stream)
