"""Run every usage block of yamlgraph's two streaming documents, with only the package's name changed."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fastapi import FastAPI

from streamcore import stream_graph_with_tokens
from streamcore.testing import Simulator

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT.parent / "shared" / "seeds"
SEED = SEEDS / "000_a1a538e2dc946095.txt"
PROVIDERS = ["anthropic", "openai", "openai-responses", "mistral"]
TEXT = "Hello, World! Nice to\n  meet you."


async def run(code: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a block as the seeds write it, with `await` at the top level, and return its names."""
    names = {"__name__": "snippet", **(names or {})}
    result = eval(compile(code, "<seed>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307
    if inspect.isawaitable(result):
        await result
    return names


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

NODE_YAML = """
nodes:
  generate:
    type: llm
    prompt: my-prompt
    stream: true  # Enable streaming
    state_key: response
"""

NODE_OPTIONS_YAML = """
nodes:
  response:
    type: llm
    prompt: dialogue/respond
    stream: true
    
    # Streaming options
    stream_options:
      buffer_size: 10          # Chars to buffer before emitting
      emit_interval: 100       # Minimum ms between emissions
      include_metadata: false  # Include token metadata
"""

NODE_KEY_YAML = """
nodes:
  generate_summary:
    type: llm
    prompt: recap/generate_summary
    state_key: summary
    stream: true                    # Enable streaming
    stream_key: summary_stream      # Optional: where to emit chunks
"""

STREAMING_NODE = """
from streamcore.node_factory import create_streaming_node

node_config = {
    "prompt": "greet",
    "state_key": "greeting",
    "on_token": lambda t: print(t, end=""),  # Optional callback
}

streaming_node = create_streaming_node("generate", node_config)

async for token in streaming_node(state):
    # Process each token
    pass
"""

NODE_OUTPUT = """
from streamcore.executor_async import stream_node_output

# Stream a specific node's output
async for chunk in stream_node_output(
    graph="graphs/interview.yaml",
    node="generate_summary",
    state={"extracted_data": {...}},
):
    print(chunk, end="", flush=True)
"""

FASTAPI_NODE = """
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from streamcore.executor_async import stream_node_output

@app.get("/stream/{session_id}")
async def stream_response(session_id: str):
    async def generate():
        async for chunk in stream_node_output(
            graph="graphs/interview.yaml",
            node="generate_response",
            config={"thread_id": session_id},
        ):
            yield f"data: {chunk}\\n\\n"
        yield "data: [DONE]\\n\\n"
    
    return StreamingResponse(
        generate(),
        media_type="text/event-stream",
    )
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


@pytest.mark.parametrize("text", [NODE_YAML, NODE_OPTIONS_YAML, NODE_KEY_YAML])
def test_node_config(seed_simulator: Simulator, tmp_path: Path, text: str) -> None:
    [(name, node)] = yaml.safe_load(text)["nodes"].items()
    prompt = tmp_path / "prompts" / f"{node['prompt']}.yaml"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("user: Go on.", "utf-8")
    path = tmp_path / "graph.yaml"
    path.write_text(f"prompts_dir: {tmp_path}/prompts\n{text}\nedges: [{{from: START, to: {name}}}]\n", "utf-8")

    async def main() -> list[Any]:
        return [event async for event in stream_graph_with_tokens(path, {}, {})]

    events = asyncio.run(main())
    tokens = [event for event in events if event["type"] == "token"]
    assert all(event.keys() == {"type", "node", "content"} and event["node"] == name for event in tokens)
    assert "".join(event["content"] for event in tokens) == TEXT
    complete = [event for event in events if event["type"] == "node_complete"]
    assert complete == [{"type": "node_complete", "node": name, "output": {node.get("state_key", name): TEXT}}]


def test_streaming_node_factory(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(STREAMING_NODE, {"state": {"name": "World"}}))
    assert capsys.readouterr().out == TEXT
    assert "World" in str(seed_simulator.requests[-1].body)


def test_stream_node_output(seed_simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(NODE_OUTPUT))
    assert capsys.readouterr().out == TEXT
    asyncio.run(run(NODE_OUTPUT.replace("{...}", '{"likes": "tea"}')))
    assert "likes: tea" in str(seed_simulator.requests[-1].body)


def test_fastapi_node_on_a_thread(seed_simulator: Simulator, tmp_path: Path) -> None:
    async def main() -> list[str]:
        names = await run(FASTAPI_NODE, {"app": FastAPI()})
        transport = httpx2.ASGITransport(app=names["app"])
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            return [(await client.get(f"/stream/{tmp_path.name}")).text for _ in range(3)]

    for body in asyncio.run(main()):
        pieces = [piece.removeprefix("data: ") for piece in re.split(r"\n\n(?=data: )", body.removesuffix("\n\n"))]
        assert "".join(pieces[:-1]) == TEXT
        assert pieces[-1] == "[DONE]"
    # The second and the third turn get the turns before them.
    assert ["What you said last" in str(request.body) for request in seed_simulator.requests] == [False, True, True]


@pytest.mark.skipif(not SEED.exists(), reason="the seeds are not next to the checkout")
@pytest.mark.parametrize(
    "block",
    [
        *[QUICK_START, PARAMETERS, JOIN, LIST, TRY, FASTAPI],
        *[NODE_YAML, NODE_OPTIONS_YAML, NODE_KEY_YAML, STREAMING_NODE, NODE_OUTPUT, FASTAPI_NODE],
    ],
)
def test_blocks_are_the_seeds(block: str) -> None:
    """Nothing but the package's name may differ from what users of yamlgraph have in their code."""
    seeds = "\n".join(path.read_text("utf-8") for path in sorted(SEEDS.glob("*.txt")))
    assert block.strip().replace("streamcore.", "yamlgraph.") in seeds
