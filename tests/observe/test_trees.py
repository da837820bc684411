"""Test what observers receive of agents, tools, graphs and relays, and that each operation names its parent."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import Chunk, NodeError, ToolCall, stream_agent, stream_graph_with_tokens, stream_request
from streamcore.observe import (
    AgentEnded,
    Event,
    GraphEnded,
    NodeEnded,
    NodeStarted,
    Operation,
    ReaderEnded,
    ReaderStarted,
    RunEnded,
    ToolEnded,
    observe,
)
from streamcore.relay import Relay
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import Step
from streamcore.tools import tool
from tests.observe.test_answers import ASK, WHOLE, Seen
from tests.support import eventually

pytestmark = pytest.mark.anyio

where: ContextVar[str] = ContextVar("where", default="")
CALLS = Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")


def asks_for(name: str, arguments: str = "{}") -> list[Step]:
    return [Chunk("start", id="r"), Chunk("tool_call", tool_call=ToolCall("c1", name, arguments)), CALLS]


def path(operation: Operation) -> str:
    above = "" if operation.parent is None else f"{path(operation.parent)} > "
    return f"{above}{operation.kind} {operation.name}".rstrip()


def paths(events: Sequence[Event], *kinds: type) -> list[str]:
    return [path(event.operation) for event in events if isinstance(event, kinds)]


async def test_an_agent_its_answers_and_tools_are_one_tree() -> None:
    seen = Seen()

    @tool
    async def ask_other() -> str:
        """Ask another model."""
        return (await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()).text

    provider = ScriptedProvider(asks_for("ask_other"), WHOLE)
    await stream_agent(ASK, tools=[ask_other], provider=provider, observer=seen).collect()
    assert seen.names[0] == "AgentStarted"
    assert seen.names[-1] == "AgentEnded"
    assert seen.names.count("StepStarted") == 2
    ended = [path(event.operation) for event in seen.events if type(event).__name__ == "AnswerEnded"]
    assert sorted(ended) == [
        "agent > answer large",
        "agent > answer large",
        "agent > tool ask_other > answer large",
    ]
    (call,) = [event for event in seen.events if isinstance(event, ToolEnded)]
    assert (call.outcome, path(call.operation)) == ("finished", "agent > tool ask_other")
    assert call.result is not None
    assert call.result.content == "Hello World"


async def test_a_tool_that_fails_and_one_that_is_cancelled() -> None:
    seen = Seen()
    began = anyio.Event()

    @tool
    def broken() -> str:
        """Fail."""
        raise ValueError("no")

    @tool
    async def endless() -> str:
        """Never end."""
        began.set()
        await anyio.sleep_forever()
        return ""

    both = [
        Chunk("tool_call", tool_call=ToolCall("c1", "broken", "{}", 0)),
        Chunk("tool_call", tool_call=ToolCall("c2", "endless", "{}", 1)),
        CALLS,
    ]
    async with stream_agent(ASK, tools=[broken, endless], provider=ScriptedProvider(both), observer=seen) as stream:
        async for chunk in stream:
            if chunk.kind == "tool_result":
                await began.wait()
                break
    ends = {event.operation.name: event.outcome for event in seen.events if isinstance(event, ToolEnded)}
    assert ends == {"broken": "failed", "endless": "cancelled"}
    (end,) = [event for event in seen.events if isinstance(event, AgentEnded)]
    assert end.outcome == "closed"


async def test_an_agent_that_waits_for_approval() -> None:
    seen = Seen()

    @tool(needs_approval=True)
    def pay() -> str:
        """Pay."""
        return "paid"

    await stream_agent(ASK, tools=[pay], provider=ScriptedProvider(asks_for("pay")), observer=seen).collect()
    (end,) = [event for event in seen.events if isinstance(event, AgentEnded)]
    assert end.outcome == "waiting"
    assert [call.name for call in end.completion.pending] == ["pay"]


class Activating(Seen):
    """An observer that sets a context variable for the code of tools, nodes and runs."""

    @contextmanager
    def activate(self, operation: Operation) -> Generator[None]:
        token = where.set(path(operation))
        try:
            yield
        finally:
            where.reset(token)

    def trace(self, operation: Operation) -> str:
        return f"trace of {operation.name}"


async def test_code_of_tools_runs_in_the_context_that_an_observer_sets() -> None:
    found: list[str] = []

    @tool
    def in_thread() -> str:
        """Look."""
        found.append(where.get())
        return ""

    @tool
    async def in_task() -> str:
        """Look."""
        found.append(where.get())
        return ""

    provider = ScriptedProvider(asks_for("in_thread"), asks_for("in_task"), WHOLE)
    await stream_agent(ASK, tools=[in_thread, in_task], provider=provider, observer=Activating()).collect()
    assert found == ["agent > tool in_thread", "agent > tool in_task"]
    assert where.get() == ""


GRAPH = """
name: letters
tools:
  look: {type: python, module: tests.observe.test_trees, function: look}
nodes:
  write: {type: llm, prompt: write, state_key: text}
  check: {type: python, tool: look}
  ask: {type: interrupt, message: "Good?", resume_key: good}
edges:
  - {from: START, to: write}
  - {from: write, to: check}
  - {from: check, to: ask}
  - {from: ask, to: END}
"""


def look(state: dict[str, Any]) -> dict[str, str]:
    return {"where": where.get()}


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", str(tmp_path / "prompts"))
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "write.yaml").write_text("system: Write.\nuser: Hello\n")
    (tmp_path / "letters.yaml").write_text(GRAPH)
    return tmp_path / "letters.yaml"


async def test_a_graph_its_nodes_and_their_answers_are_one_tree(graph: Path) -> None:
    seen = Activating()
    config: dict[str, Any] = {"provider": ScriptedProvider(WHOLE), "observer": seen, "thread_id": "t"}
    events = [event async for event in stream_graph_with_tokens(graph, {}, config)]
    assert next(event for event in events if event["type"] == "node_complete" and event["node"] == "check")[
        "output"
    ] == {"where": "graph letters > node check"}
    nodes = [(event.operation.name, event.type) for event in seen.events if isinstance(event, NodeStarted)]
    assert nodes == [("write", "llm"), ("check", "python"), ("ask", "interrupt")]
    assert [event.outcome for event in seen.events if isinstance(event, NodeEnded)] == [
        "finished",
        "finished",
        "waiting",
    ]
    (end,) = [event for event in seen.events if isinstance(event, GraphEnded)]
    assert end.outcome == "waiting"
    answers = {path(event.operation) for event in seen.events if event.operation.kind == "answer"}
    assert answers == {"graph letters > node write > answer"}
    assert where.get() == ""


@pytest.fixture
def parallel(graph: Path) -> Path:
    each = "  each: {type: map, over: '{state.items}', as: item, collect: texts, node: {type: llm, prompt: write}}\n"
    text = GRAPH.replace("nodes:\n", f"nodes:\n{each}", 1)
    text = text.replace("{from: START, to: write}", "{from: START, to: [write, each]}")
    graph.write_text(text.replace("edges:\n", "edges:\n  - {from: each, to: check}\n"))
    return graph


async def test_parallel_nodes_and_maps_have_the_right_parents(parallel: Path) -> None:
    seen = Seen()
    config: dict[str, Any] = {"provider": ScriptedProvider(WHOLE), "observer": seen}
    async for _ in stream_graph_with_tokens(parallel, {"items": [1, 2]}, config):
        pass
    answers = sorted(path(event.operation) for event in seen.events if type(event).__name__ == "AnswerEnded")
    assert answers == [
        "graph letters > node each > node each > answer",
        "graph letters > node each > node each > answer",
        "graph letters > node write > answer",
    ]


async def test_a_node_that_fails(graph: Path) -> None:
    seen = Seen()
    config: dict[str, Any] = {"provider": ScriptedProvider(["cut"]), "observer": seen}
    with pytest.raises(NodeError):
        async for _ in stream_graph_with_tokens(graph, {}, config):
            pass
    ends = [event for event in seen.events if isinstance(event, NodeEnded | GraphEnded)]
    assert [event.outcome for event in ends] == ["interrupted", "interrupted"]
    assert all(isinstance(event.error, NodeError) for event in ends)


async def test_a_run_of_the_relay_and_its_reader() -> None:
    seen = Activating()
    with observe(seen):
        async with Relay() as relay:
            await relay.start("r1", stream_request(ASK, provider=ScriptedProvider(WHOLE)), owner="ann")
            texts = [item.text async for item in relay.read("r1", who="ann") if isinstance(item, Chunk) and item.text]
            await eventually(lambda: "RunEnded" in seen.names, "the end of the run")
    assert texts == ["Hello ", "World"]
    (run,) = [event for event in seen.events if isinstance(event, RunEnded)]
    assert (run.outcome, run.operation.name) == ("finished", "r1")
    assert run.completion is not None
    assert run.completion.text == "Hello World"
    answers = {path(event.operation) for event in seen.events if event.operation.kind == "answer"}
    assert answers == {"run r1 > answer large"}
    (reader,) = [event for event in seen.events if isinstance(event, ReaderStarted)]
    assert reader.trace == "trace of r1"
    (end,) = [event for event in seen.events if isinstance(event, ReaderEnded)]
    assert end.outcome == "finished"


async def test_a_run_that_cannot_begin_has_an_end() -> None:
    seen = Seen()
    with observe(seen):
        async with Relay() as relay:
            await relay.start("r1", stream_request(ASK, provider=ScriptedProvider([anyio.sleep_forever])))
            with pytest.raises(Exception, match="r1"):
                await relay.start("r1", stream_request(ASK, provider=ScriptedProvider(WHOLE)))
    ends = [event for event in seen.events if isinstance(event, RunEnded)]
    assert len(ends) == 2
    assert ends[0].outcome == "failed"
