"""Run the graphs of `graphs/` offline, as the project ships them, with the provider `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamcore import stream_graph_with_tokens, stream_node_output
from streamcore.node_factory import create_streaming_llm_node
from streamcore.testing.demo import DemoProvider
from tests.graphs import collect, output, ran, text_of

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def offline(**more: Any) -> dict[str, Any]:
    return {"provider": DemoProvider(rate=0), **more}


async def test_the_interview(tmp_path: Path) -> None:
    graph = "graphs/interview.yaml"
    thread = str(tmp_path)
    first = await collect(stream_graph_with_tokens(graph, {}, offline(thread_id=thread)))
    assert first[-1]["message"] == "What is your name?"
    second = await collect(stream_graph_with_tokens(graph, {}, offline(thread_id=thread, resume="Ada")))
    assert "Ask Ada what they would like to achieve" in second[-1]["message"]
    assert text_of(second, "ask_goal") == second[-1]["message"]
    third = await collect(stream_graph_with_tokens(graph, {}, offline(thread_id=thread, resume="engines")))
    assert ran(third) == ["ask_goal", "extract", "generate_summary", "generate_response"]
    state = third[-1]["state"]
    assert state["extracted_data"] == {"name": "Ada", "goal": "engines"}
    assert "goal: engines" in state["summary"]
    assert text_of(third, "generate_response") == state["response"]
    later = [offline(thread_id=thread), {"message": "And then?"}]
    text = "".join(await collect(stream_node_output(graph, "generate_response", later[1], later[0])))
    assert "And then?" in text or "What is known" in text


async def test_the_recap() -> None:
    data = {"extracted_data": {"name": "Ada", "likes": ["tea", "engines"]}}
    events = await collect(stream_graph_with_tokens("graphs/recap.yaml", data, offline(include_metadata=True)))
    tokens = [event for event in events if event["type"] == "token"]
    assert {event["metadata"]["stream_key"] for event in tokens} == {"summary_stream"}
    assert text_of(events, "generate_summary") == events[-1]["state"]["summary"]
    assert len(tokens) < 40  # gathered to ten characters and words


async def test_the_recap_node_as_a_function() -> None:
    config = {"prompt": "recap/generate_summary", "state_key": "summary", "provider": "demo", "stream": True}
    updates = await collect(create_streaming_llm_node("generate_summary", config)({"extracted_data": {"a": "b"}}))
    assert "".join(update["summary_stream"] for update in updates[:-1]) == updates[-1]["summary"] != ""


async def test_the_router() -> None:
    events = await collect(stream_graph_with_tokens("graphs/router.yaml", {"message": "My bill is wrong."}, offline()))
    assert ran(events) == ["classify", "answer_other"]
    assert set(output(events, "classify")["classification"]) == {"intent", "reason"}
    assert "My bill is wrong." in events[-1]["state"]["answer"]


async def test_reflexion() -> None:
    events = await collect(stream_graph_with_tokens("graphs/reflexion.yaml", {"topic": "tea"}, offline()))
    assert ran(events) == ["draft", *(["critique", "refine"] * 3)]
    assert events[-1]["state"]["_loop_counts"] == {"critique": 3, "refine": 3}
    assert events[-1]["state"]["critique"]["score"] < 0.8
    assert "Make this text better" in events[-1]["state"]["text"]


async def test_the_map() -> None:
    events = await collect(stream_graph_with_tokens("graphs/map.yaml", {"topic": "tea"}, offline()))
    assert ran(events) == ["find", "expand", "combine"]
    expanded = output(events, "expand")["expanded"]
    assert [piece["_map_index"] for piece in expanded] == [0, 1, 2]
    assert all("about tea" in piece["text"] for piece in expanded)
