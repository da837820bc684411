"""Run every usage block of yamlgraph's streaming page, with only the package's name changed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from streamcore.testing import Simulator
from tests.snippets import run

ROOT = Path(__file__).resolve().parent.parent
SEED = ROOT.parent / "shared" / "seeds" / "000_a1a538e2dc946095.txt"
PROVIDERS = ["anthropic", "openai", "openai-responses", "mistral"]
TEXT = "Hello, World! Nice to\n  meet you."

QUICK_START = """
from streamcore.executor_async import execute_prompt_streaming

async for token in execute_prompt_streaming("greet", {"name": "World"}):
    print(token, end="", flush=True)
"""

PARAMETERS = """
import asyncio
from streamcore.executor_async import execute_prompt_streaming

async def main():
    full_response = ""
    
    async for token in execute_prompt_streaming(
        "greet",
        variables={"name": "Alice", "style": "friendly"},
        provider="mistral",
    ):
        print(token, end="", flush=True)
        full_response += token
    
    print(f"\\n\\nTotal: {len(full_response)} chars")

asyncio.run(main())
"""

JOIN = """
response = "".join([
    token async for token in execute_prompt_streaming("greet", {"name": "World"})
])
"""

LIST = """
tokens = []
async for token in execute_prompt_streaming("greet", {"name": "World"}):
    tokens.append(token)
    
response = "".join(tokens)
print(f"Received {len(tokens)} chunks")
"""

TRY = """
try:
    async for token in execute_prompt_streaming("greet", {}):
        print(token, end="")
except Exception as e:
    print(f"\\nError: {e}")
"""

FASTAPI = """
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from streamcore.executor_async import execute_prompt_streaming

app = FastAPI()

@app.get("/stream")
async def stream(prompt: str):
    async def generate():
        async for token in execute_prompt_streaming("chat", {"query": prompt}):
            yield f"data: {token}\\n\\n"
        yield "data: [DONE]\\n\\n"
    
    return StreamingResponse(generate(), media_type="text/event-stream")
"""


@pytest.fixture(params=PROVIDERS)
def seed_simulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """Serve the seed's calls, which name no provider, from the simulator: everything comes from the environment."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PROVIDER", request.param)
    with Simulator(TEXT) as simulator:
        for name in ("anthropic", "openai", "mistral"):
            monkeypatch.setenv(f"{name.upper()}_BASE_URL", simulator.base_url(name))
            monkeypatch.setenv(f"{name.upper()}_API_KEY", "seed-key")
        yield simulator


IMPORT = "from streamcore.executor_async import execute_prompt_streaming\n"


def test_quick_start(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(QUICK_START))
    assert capsys.readouterr().out == TEXT


def test_parameters_example(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PARAMETERS, "<seed>", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out == f"{TEXT}\n\nTotal: {len(TEXT)} chars\n"
    body = seed_simulator.requests[-1].body
    assert seed_simulator.requests[-1].path.startswith("/mistral")
    assert "Alice" in str(body)
    assert "friendly" in str(body)


def test_collecting_by_join(seed_simulator: Simulator) -> None:
    assert asyncio.run(run(IMPORT + JOIN))["response"] == TEXT


def test_collecting_by_list(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    names = asyncio.run(run(IMPORT + LIST))
    assert names["response"] == TEXT
    assert all(names["tokens"])
    assert capsys.readouterr().out == f"Received {len(names['tokens'])} chunks\n"


def test_try_except(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(IMPORT + TRY))
    out = capsys.readouterr().out
    assert out.startswith("\nError: ")
    assert "'name'" in out
    assert "greet.yaml" in out
    assert not seed_simulator.requests


def test_fastapi_streaming_response(seed_simulator: Simulator) -> None:
    async def main() -> tuple[str, str]:
        names = await run(FASTAPI)
        transport = httpx2.ASGITransport(app=names["app"])
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            response = await client.get("/stream", params={"prompt": "hello"})
        return response.headers["content-type"], response.text

    kind, body = asyncio.run(main())
    assert kind.startswith("text/event-stream")
    assert body.endswith("data: [DONE]\n\n")
    # Each token is written as the seed writes it, newlines and all.
    pieces = [piece.removeprefix("data: ") for piece in re.split(r"\n\n(?=data: )", body.removesuffix("\n\n"))]
    assert "".join(pieces[:-1]) == TEXT
    assert "hello" in str(seed_simulator.requests[-1].body)


@pytest.mark.skipif(not SEED.exists(), reason="the seeds do not stand beside this checkout")
@pytest.mark.parametrize("block", [QUICK_START, PARAMETERS, JOIN, LIST, TRY, FASTAPI])
def test_blocks_are_the_seeds(block: str) -> None:
    """Nothing but the package's name may differ from what users of yamlgraph have in their code."""
    assert block.strip().replace("streamcore.", "yamlgraph.") in SEED.read_text("utf-8")
