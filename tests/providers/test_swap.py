"""Swap the vendor by one word of YAML and see the same stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import execute_prompt_streaming, stream_prompt
from streamcore.testing import Answer, PlannedCall, Simulator
from tests.support import KEY, VENDORS

PROMPT = """\
provider: {provider}
system: You greet people.
user: Greet {{name}}.
temperature: 0.2
max_tokens: 300
tools:
  - name: wave
    description: Wave a hand.
    parameters: {{type: object, properties: {{times: {{type: integer}}}}}}
"""
NAMES = (*VENDORS, "openrouter")
"""Every vendor, and a gateway."""
TOKENS = ["Hel", "lo", ", Wörld", "!\n", "👋"]
CALL = PlannedCall("wave", {"times": 3})


@pytest.fixture
def vendors(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Let every vendor's variables point at the simulator."""
    simulator.decide = lambda asked: Answer(TOKENS, calls=[CALL], model=asked.model)
    for name in ("anthropic", "openai", "mistral", "google", "bedrock", "openrouter"):
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", simulator.base_url(name))
        monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
    return simulator


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # Mistral's SDK knows no other
async def test_one_word_swaps_the_vendor(vendors: Simulator, tmp_path: Path, anyio_backend: str) -> None:
    prompt = tmp_path / "greet.yaml"
    seen = {}
    for name in NAMES:
        prompt.write_text(PROMPT.format(provider=name), "utf-8")
        stream = stream_prompt("greet", {"name": "World"}, prompts_dir=tmp_path)
        kinds = [chunk.kind async for chunk in stream]
        answer = stream.partial
        texts = [text async for text in execute_prompt_streaming("greet", {"name": "World"}, prompts_dir=tmp_path)]
        call = answer.tool_calls[0]
        seen[name] = (kinds, answer.text, texts, call.name, call.parse(), answer.finish_reason)
    for name in NAMES:
        calls = 1 if name == "google" else 1 + len(CALL.fragments)  # Google sends a call at once
        expected = ["start", *["text"] * len(TOKENS), *["tool_call"] * calls, "finish", "usage"]
        assert seen[name] == (expected, "".join(TOKENS), TOKENS, "wave", {"times": 3}, "tool_calls"), name
    assert [request.path for request in vendors.requests[::2]] == [
        "/v1/messages",
        "/v1/chat/completions",
        "/v1/responses",
        "/mistral/v1/chat/completions",
        "/v1/models/gemini-3.5-flash-lite:streamGenerateContent",
        "/model/global.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream",
        "/v1/chat/completions",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_argument_swaps_it_too(vendors: Simulator, tmp_path: Path, anyio_backend: str) -> None:
    (tmp_path / "greet.yaml").write_text(PROMPT.format(provider="anthropic"), "utf-8")
    for name in NAMES:
        stream = stream_prompt("greet", {"name": "World"}, provider=name, prompts_dir=tmp_path)
        assert (await stream.collect()).text == "".join(TOKENS)
        assert stream.partial.attempts[0].provider == name
