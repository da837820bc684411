"""Serve graphs whose runs continue without the process that started them, or are executed by another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.errors import ConfigError
from streamcore.observe import Event, NodeEnded
from streamcore.testing import Answer, Simulator
from streamcore.web import create_app
from tests.graphs import write_graph
from tests.servers import RedisServer
from tests.serving import StreamMessage, listen, messages_in, reading, serving
from tests.support import DEADLINE, provider_at, wait_until
from tests.web.test_serve import ROOT, environment, served

GRAPH = """
    name: talk
    state: {message: str}
    nodes:
      one: {prompt: say, skip_if_exists: false, state_key: one}
      ask: {type: interrupt, message: "Go on?", resume_key: answer}
      two: {prompt: say, skip_if_exists: false, state_key: two}
    edges:
      - {from: START, to: one}
      - {from: one, to: ask}
      - {from: ask, to: two}
      - {from: two, to: END}
"""
WORDS = [f"w{number} " for number in range(100)]
WHOLE = "".join(WORDS)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@contextmanager
def worker(*arguments: str, simulator: Simulator) -> Generator[subprocess.Popen[str]]:
    """Run `streamcore worker` until the block ends."""
    line = [sys.executable, "-W", "error", "-m", "streamcore.cli", "worker", *arguments]
    process = subprocess.Popen(line, cwd=ROOT, env=environment(simulator), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line_of = process.stderr.readline()
        assert "working on" in line_of, line_of + process.stderr.read()
        yield process
    finally:
        process.kill()
        process.communicate()


def texts(events: list[StreamMessage]) -> dict[str, str]:
    """Return the text of each node after its last restart."""
    found: dict[str, str] = {}
    for event in (one.json for one in events if one.name == "message"):
        if event["type"] == "restart":
            found[event["node"]] = ""
        elif event["type"] == "token":
            found[event["node"]] = found.get(event["node"], "") + event["content"]
    return found


def state_of(url: str, session: str, status: str) -> dict[str, Any]:
    """Return the state of a conversation once it has this status."""

    def state() -> dict[str, Any]:
        found: dict[str, Any] = httpx2.get(f"{url}/state/{session}", timeout=DEADLINE).json()
        return found

    wait_until(lambda: state()["status"] == status, f"the conversation is {status}")
    return state()


@pytest.mark.real
@pytest.mark.long
def test_another_process_executes_the_runs(tmp_path: Path, redis: RedisServer) -> None:
    """Questions, a lost worker, stop, and the endpoints, while the service itself executes nothing."""
    graph = str(write_graph(tmp_path, GRAPH, say="{message}"))
    stores = ("--durable", f"sqlite:///{tmp_path / 'runs.db'}", "--relay", redis.url)
    model = ("--provider", "openai", "--model", "m")
    with Simulator(Answer(WORDS), rate=100) as simulator, ExitStack() as stack:
        first = stack.enter_context(worker(graph, *stores, *model, simulator=simulator))
        _, url = stack.enter_context(served(graph, *stores, *model, "--no-work", simulator=simulator))

        # A question, its answer, and a page that is loaded again.
        begun = httpx2.post(f"{url}/start", json={"prompt": "One?", "session_id": "s"}, timeout=DEADLINE).json()
        events = listen(url, f"/{begun['stream']}&format=json")
        assert texts(events) == {"one": WHOLE}
        assert listen(url, "/stream/s?format=json") == events
        assert state_of(url, "s", "waiting")["question"]["message"] == "Go on?"
        simulator.rate = 2
        assert httpx2.post(f"{url}/resume/s", json={"answer": "yes"}, timeout=DEADLINE).status_code == 202

        # The worker is lost while the answer streams; the reader stays connected to the service.
        reader, came, some = reading(url, "/stream/s?format=json", "token")
        assert some.wait(DEADLINE)
        first.kill()
        assert state_of(url, "s", "running")
        simulator.rate = 100
        second = stack.enter_context(worker(graph, *stores, *model, "--log-json", simulator=simulator))
        reader.join(DEADLINE)
        rest = messages_in(b"".join(came))
        assert texts(rest)["two"] == WHOLE
        assert {one.json["node"] for one in rest if one.name == "message" and one.json["type"] == "restart"} == {"two"}
        assert state_of(url, "s", "idle")["state"]["two"] == WHOLE

        # Stop, from the process that does not produce.
        simulator.rate = 1
        httpx2.post(f"{url}/start", json={"prompt": "x", "session_id": "t"}, timeout=DEADLINE)
        wait_until(lambda: simulator.open == 1, "the model was asked")
        assert httpx2.post(f"{url}/stop/t", timeout=DEADLINE).status_code == 200
        wait_until(lambda: simulator.open == 0, "the upstream was closed")
        assert "stream-error" not in [one.name for one in listen(url, "/stream/t?format=json")]
        simulator.rate = 1000

        check_chat(url)
        check_agui(url)

        # The log of the worker has an answer a line, and says whose runs it took over.
        second.terminate()
        assert second.stderr is not None
        lines = second.stderr.read().splitlines()
        answers = [json.loads(line) for line in lines if '"event": "answer"' in line]
        assert {"talk/two"} <= {answer["target"] for answer in answers}
        assert all(answer["run_id"] and answer["output_tokens"] for answer in answers[:1])
        assert any("is lost; its runs go on elsewhere: '" in line for line in lines)


@pytest.mark.long
def test_one_process_on_sqlite_executes_its_runs_itself(tmp_path: Path) -> None:
    """Its observers see the runs, and the next process takes the answer to the question."""
    graph = write_graph(tmp_path, GRAPH, say="{message}")
    observed: list[Event] = []
    with Simulator(Answer(WORDS)) as simulator:
        provider = provider_at(simulator, "openai")

        def app() -> Any:
            return create_app(
                graph, provider=provider, durable=f"sqlite:///{tmp_path / 'runs.db'}", observer=observed.append
            )

        with serving(app()) as url:
            begun = httpx2.post(f"{url}/start", json={"prompt": "One?", "session_id": "s"}, timeout=DEADLINE).json()
            assert texts(listen(url, f"/{begun['stream']}&format=json")) == {"one": WHOLE}
            state_of(url, "s", "waiting")
        assert "one" in [event.operation.name for event in observed if isinstance(event, NodeEnded)]
        with serving(app()) as url:
            assert state_of(url, "s", "waiting")["question"]["message"] == "Go on?"
            httpx2.post(f"{url}/resume/s", json={"answer": "yes"}, timeout=DEADLINE)
            assert texts(listen(url, "/stream/s?format=json")) == {"two": WHOLE}


def check_chat(url: str) -> None:
    """A chat of the AI SDK: the question is the end of the first answer, the next message its answer."""
    one = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "One?"}]}
    body = {"id": "c", "trigger": "submit-message", "messages": [one], "model": "talk"}
    first = httpx2.post(f"{url}/api/chat", json=body, timeout=DEADLINE)
    assert first.status_code == 200, first.text
    assert "w99 " in first.text
    assert "Go on?" in first.text
    two = {"id": "m2", "role": "user", "parts": [{"type": "text", "text": "yes"}]}
    second = httpx2.post(f"{url}/api/chat", json={**body, "messages": [one, two]}, timeout=DEADLINE)
    assert "w99 " in second.text
    assert '"finish"' in second.text


def check_agui(url: str) -> None:
    """An AG-UI client that asks for the relay: an interrupt with its id, its answer, and a run that is read again."""
    body: dict[str, Any] = {
        "threadId": "t",
        "runId": "r1",
        "messages": [{"id": "1", "role": "user", "content": "One?"}],
        "tools": [],
        "context": [],
        "state": {},
        "forwardedProps": {"relay": True},
    }
    first = messages_in(httpx2.post(f"{url}/agui", json=body, timeout=DEADLINE).content)
    end = first[-1].json
    assert end["type"] == "RUN_FINISHED"
    asked = end["outcome"]["interrupts"][0]
    assert asked["message"] == "Go on?"
    again = messages_in(httpx2.post(f"{url}/agui", json=body, timeout=DEADLINE).content)
    assert [one.json["type"] for one in again] == [one.json["type"] for one in first]
    answer = {"interruptId": asked["id"], "status": "resolved", "payload": "yes"}
    second = messages_in(
        httpx2.post(f"{url}/agui", json={**body, "runId": "r2", "resume": [answer]}, timeout=DEADLINE).content
    )
    assert second[-1].json["type"] == "RUN_FINISHED"
    assert "w99 " in "".join(one.data for one in second)


def test_durable_needs_a_graph_and_a_relay_and_knows_no_limit_of_cost(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, GRAPH, say="{message}")
    database = f"sqlite:///{tmp_path / 'runs.db'}"
    with pytest.raises(ConfigError, match="needs a graph"):
        create_app("chat", provider="demo", durable=database)
    with pytest.raises(ConfigError, match="need a relay that all workers share"):
        create_app(graph, provider="demo", durable="postgresql://host/runs")
    with pytest.raises(ConfigError, match=r"max_cost=.*cannot be used with durable="):
        create_app(graph, provider="demo", durable=database, max_cost="1/day")
