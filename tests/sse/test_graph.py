"""Test that the events of real graphs go out through SSE, and that a graph is closed with its client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI

from streamcore.executor_async import stream_graph_with_tokens, stream_node_output
from streamcore.sse import Format, encode, sse_response
from streamcore.sse.events import Events
from streamcore.testing import Answer, Simulator
from tests.sse.test_response import get
from tests.sse_support import ROOT, ask, parse, receive_until, service
from tests.support import KEY, eventually, require, wait_until
from tests.test_seed_snippets import FASTAPI_NODE, SEED

INTERVIEW = ROOT / "graphs" / "interview.yaml"
STATE = {"extracted_data": {"name": "Ada"}, "name": "Ada", "goal": "ships", "summary": "s"}
PEOPLE = {"extracted_data": {"name": "Ada"}}
CONFIG = {"provider": "demo"}


@pytest.fixture(autouse=True)
def in_project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set a simulator that needs a minute for a token as the provider `openai`."""
    with Simulator(Answer(["Hi", " there"]), rate=1 / 60) as simulator:
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_MODEL", "m")
        yield simulator


def body(events: list[Any]) -> str:
    return "".join(event.data for event in events if event.event == "message")


async def sent(source: Any, fmt: Format) -> list[Any]:
    events = Events(source, encode(fmt))
    try:
        return parse(b"".join([data async for data in events]))
    finally:
        await events.aclose()


async def test_a_graph_stops_at_a_question(anyio_backend: str) -> None:
    received = await sent(stream_graph_with_tokens(INTERVIEW, {}, CONFIG), "json")
    messages = [json.loads(event.data) for event in received]
    assert messages[0] == {"type": "node_start", "node": "ask_name"}
    assert messages[-2]["type"] == "interrupt"
    assert messages[-2]["message"] == "What is your name?"
    assert received[-1].event == "done"
    (question, end) = await sent(stream_graph_with_tokens(INTERVIEW, {}, CONFIG), "text")
    assert (question.event, question.data) == ("interrupt", "What is your name?")
    assert end.data == "[DONE]"


@pytest.mark.parametrize("fmt", ["text", "json"])
async def test_a_nodes_text(anyio_backend: str, fmt: Format) -> None:
    """As in yamlgraph's feature request for streaming: one node's output for one session."""
    received = await sent(stream_node_output(INTERVIEW, "generate_response", STATE, CONFIG), fmt)
    text = "".join(json.loads(e.data)["text"] for e in received[:-1]) if fmt == "json" else body(received)
    assert text.startswith("Hello! You asked:")
    assert text.removesuffix("[DONE]").endswith("nothing lost.")


async def test_a_failing_node_does_not_reveal_paths(anyio_backend: str, tmp_path: Path) -> None:
    graph = tmp_path / "secret.yaml"
    graph.write_text(
        "name: g\nnodes:\n  a: {type: llm, prompt: nowhere, state_key: x}\n"
        "edges:\n  - {from: START, to: a}\n  - {from: a, to: END}\n",
        "utf-8",
    )
    received = await sent(stream_graph_with_tokens(graph, {}, CONFIG), "text")
    assert [event.event for event in received] == ["stream-error", "message"]
    assert "secret" not in str(received)
    assert str(tmp_path) not in str(received)


def graph_app() -> FastAPI:
    app = FastAPI()
    app.get("/graph")(
        lambda: sse_response(stream_graph_with_tokens("graphs/recap.yaml", PEOPLE, {"provider": "openai"}), "json")
    )
    app.get("/node")(
        lambda: sse_response(
            stream_node_output(INTERVIEW, "generate_summary", STATE, {"provider": "openai"}), heartbeat=0.01
        )
    )
    return app


@pytest.mark.parametrize("path", ["/graph", "/node"])
def test_a_client_that_disconnects_closes_the_graph(slow: Simulator, path: str) -> None:
    with service(graph_app()) as port:
        client = ask(port, path)
        receive_until(client, b"id: 0")
        wait_until(lambda: slow.open, "the upstream is asked")
        client.close()
        wait_until(lambda: slow.abandoned == 1, "the upstream is closed")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("function", ["graph", "node"])
async def test_a_server_that_stops_ends_the_graph(anyio_backend: str, slow: Simulator, function: str) -> None:
    config = {"provider": "openai"}
    source: Any = (
        stream_graph_with_tokens("graphs/recap.yaml", PEOPLE, config)
        if function == "graph"
        else stream_node_output(INTERVIEW, "generate_summary", STATE, config)
    )
    events = Events(source, encode("text"))
    received: list[bytes] = []

    async def read() -> None:
        received.extend([data async for data in events])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await eventually(lambda: slow.open, "the upstream is asked")
        events.stop()
    await events.aclose()
    assert [event.event for event in parse(b"".join(received))] == ["stream-error", "message"]
    await eventually(lambda: slow.abandoned == 1, "the upstream is closed")


def test_the_seeds_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pasted unchanged but for the package's name."""
    monkeypatch.setenv("PROVIDER", "demo")
    names: dict[str, Any] = {"app": FastAPI()}
    exec(compile(FASTAPI_NODE, "<seed>", "exec"), names)  # noqa: S102
    with service(names["app"]) as port:
        received = get(port, "/stream/session123")[2].decode()
    assert "data: Hello\n\n" in received, received
    assert received.endswith("data: [DONE]\n\n")


def test_the_endpoint_is_the_seeds() -> None:
    require(SEED.exists(), "the seeds are not next to the checkout")
    seeds = "".join(path.read_text("utf-8") for path in sorted(SEED.parent.glob("*.txt")))
    assert FASTAPI_NODE.strip().replace("streamcore.", "yamlgraph.") in seeds


def test_a_whole_graph_over_http() -> None:
    app = FastAPI()
    app.get("/")(lambda: sse_response(stream_graph_with_tokens("graphs/recap.yaml", PEOPLE, CONFIG), "json"))
    with service(app) as port:
        messages = [json.loads(event.data) for event in parse(get(port, "/")[2])]
    tokens = "".join(message["content"] for message in messages if message.get("type") == "token")
    assert tokens
    state = next(message for message in messages if message.get("type") == "graph_complete")["state"]
    assert tokens in state.values()
