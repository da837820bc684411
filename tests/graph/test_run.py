"""Test runs of graphs: order, branches, loops, routes, maps, errors, and the shape of every event."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamcore import (
    AuthenticationError,
    ConfigError,
    NodeError,
    PromptError,
    PromptNotFound,
    StreamInterrupted,
    stream_graph_with_tokens,
)
from streamcore.testing import FINISH, Answer, FaultServer, ScriptedProvider, Send, Simulator
from tests.graphs import answers, collect, kinds, output, ran, text_of, write_graph
from tests.support import KEY, eventually, require

SHARED = Path(__file__).resolve().parents[3] / "shared" / "yamlgraph" / "graphs"

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("vendor")]


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Return a function that writes a graph's Python functions."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield lambda code: (tmp_path / "graph_tools.py").write_text(code, "utf-8")
    sys.modules.pop("graph_tools", None)


PIPELINE = """
    state: {topic: str}
    nodes:
      plan: {prompt: plan, state_key: outline}
      write: {prompt: write, state_key: draft, requires: [outline]}
      polish: {prompt: polish, variables: {text: "{state.draft}"}}
    edges:
      - {from: START, to: plan}
      - {from: plan, to: write}
      - {from: write, to: polish}
      - {from: polish, to: END}
"""
STEPS = {"plan": "Plan {topic}", "write": "Write {outline}", "polish": "Polish {text}"}


async def test_a_pipeline_passes_the_output_of_each_node_on(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    answers(vendor, {"Plan tea": "one, two", "Write one, two": "a draft", "Polish a draft": "a text"})
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    assert kinds(events) == [
        ("node_start", "plan"),
        ("node_complete", "plan"),
        ("node_start", "write"),
        ("node_complete", "write"),
        ("node_start", "polish"),
        ("node_complete", "polish"),
        ("graph_complete", ""),
    ]
    assert [text_of(events, node) for node in ("plan", "write", "polish")] == ["one, two", "a draft", "a text"]
    assert events[-1]["state"] == {"topic": "tea", "outline": "one, two", "draft": "a draft", "polish": "a text"}


async def test_events_have_exactly_their_keys(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    answers(vendor, lambda asked: "a b c")
    shapes = {frozenset(event) for event in await collect(stream_graph_with_tokens(path, {"topic": "tea"}))}
    assert shapes == {
        frozenset({"type", "node"}),
        frozenset({"type", "node", "content"}),
        frozenset({"type", "node", "output"}),
        frozenset({"type", "state"}),
    }


async def test_metadata_on_request(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    answers(vendor, lambda asked: "a b c")
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}, {"include_metadata": True}))
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    done = next(event for event in events if event["type"] == "node_complete")["metadata"]
    assert (done["provider"], done["model"]) == ("openai", "m")
    assert done["usage"].output_tokens > 0
    assert done["seconds"] >= 0


async def test_metadata_of_one_node(tmp_path: Path, vendor: Simulator) -> None:
    text = PIPELINE.replace("state_key: outline", "stream_options: {include_metadata: true}, stream_key: live")
    path = write_graph(tmp_path, text.replace("outline", "plan"), **STEPS)
    answers(vendor, lambda asked: "a b c")
    (tmp_path / "prompts" / "write.yaml").write_text("user: '{plan}'", "utf-8")
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    assert {event["node"] for event in events if "metadata" in event} == {"plan"}
    assert {
        event["metadata"]["stream_key"] for event in events if event["type"] == "token" and "metadata" in event
    } == {"live"}


async def test_a_node_that_does_not_stream_still_runs(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE.replace("{prompt: plan,", "{prompt: plan, stream: false,"), **STEPS)
    answers(vendor, lambda asked: "a b c")
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    assert text_of(events, "plan") == ""
    assert output(events, "plan") == {"outline": "a b c"}


async def test_a_node_whose_value_exists_is_skipped(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    answers(vendor, {"Write mine": "a draft", "Polish a draft": "a text"})
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea", "outline": "mine"}))
    assert ran(events) == ["write", "polish"]
    path = write_graph(tmp_path, PIPELINE.replace("state_key: outline", "state_key: outline, skip_if_exists: false"))
    answers(vendor, lambda asked: "x")
    assert ran(await collect(stream_graph_with_tokens(path, {"topic": "t", "outline": "mine"}))) == [
        "plan",
        "write",
        "polish",
    ]


async def test_requires_names_the_missing_keys(tmp_path: Path) -> None:
    path = write_graph(tmp_path, PIPELINE.replace("requires: [outline]", "requires: [outline, style]"), **STEPS)
    with pytest.raises(NodeError, match=r"node 'write' of graph 'graph' failed: it requires 'style'") as caught:
        await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    assert (caught.value.node, caught.value.graph) == ("write", "graph")


PARALLEL = """
    nodes:
      begin: {type: passthrough, output: {ready: true}}
      left: {prompt: left}
      right: {prompt: right}
      join: {prompt: join, variables: {a: "{state.left}", b: "{right}"}}
    edges:
      - {from: START, to: begin}
      - {from: begin, to: [left, right]}
      - {from: left, to: join}
      - {from: right, to: join}
      - {from: join, to: END}
"""


async def test_parallel_branches_interleave_and_join_once(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PARALLEL, left="left", right="right", join="{a}+{b}")
    vendor.rate = 200
    replies = {"left": "l " * 20, "right": "r " * 20}
    answers(vendor, lambda asked: replies.get(asked.text, "both"))
    events = await collect(stream_graph_with_tokens(path))
    order = [event["node"] for event in events if event["type"] == "token" and event["node"] != "join"]
    assert order != sorted(order)
    assert order != sorted(order, reverse=True)
    assert ran(events)[0] == "begin"
    assert sorted(ran(events)[1:3]) == ["left", "right"]
    assert ran(events)[3:] == ["join"]
    assert events[-1]["state"]["left"] == "l " * 20
    assert events[-1]["state"]["right"] == "r " * 20
    assert vendor.requests[-1].body["messages"][0]["content"] == f"{'l ' * 20}+{'r ' * 20}"


async def test_a_join_waits_for_the_longer_branch(tmp_path: Path, vendor: Simulator) -> None:
    text = PARALLEL.replace("- {from: right, to: join}", "- {from: right, to: more}\n      - {from: more, to: join}")
    text = text.replace("right: {prompt: right}", "right: {prompt: right}\n      more: {prompt: more}")
    path = write_graph(tmp_path, text, left="left", right="right", more="more", join="{a}+{b}")
    answers(vendor, lambda asked: asked.text)
    events = await collect(stream_graph_with_tokens(path))
    assert ran(events)[-2:] == ["more", "join"]
    assert ran(events).count("join") == 1


async def test_a_branch_that_fails_cancels_the_others(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PARALLEL, left="left", right="right", join="{a}")
    vendor.rate = 50
    vendor.decide = lambda asked: Answer.of(
        "x " * (1000 if asked.text == "left" else 4), cut=3 * (asked.text == "right") or None
    )
    events: list[Any] = []
    with pytest.raises(NodeError, match="node 'right'") as caught:
        async for event in stream_graph_with_tokens(path):
            events.append(event)
    assert isinstance(caught.value.cause, StreamInterrupted)
    assert caught.value.partial is not None
    assert caught.value.partial.text == text_of(events, "right")
    assert ran(events) == ["begin"]
    await eventually(lambda: vendor.open == 0, "the other branch's response was closed")


ROUTER = """
    nodes:
      classify:
        type: router
        prompt: classify
        routes: {Positive: good, negative: bad}
        default_route: other
        variables: {message: "{state.message}"}
      good: {prompt: good}
      bad: {prompt: bad}
      other: {prompt: other}
    edges:
      - {from: START, to: classify}
      - {from: classify, to: [good, bad, other], type: conditional}
"""


@pytest.mark.parametrize(
    ("reported", "goes"), [("positive", "good"), (" NEGATIVE \n", "bad"), ("indifferent", "other")]
)
async def test_a_router_follows_its_text(tmp_path: Path, vendor: Simulator, reported: str, goes: str) -> None:
    path = write_graph(tmp_path, ROUTER, classify="{message}", good="g", bad="b", other="o")
    answers(vendor, lambda asked: reported if asked.text == "hm" else "fine")
    events = await collect(stream_graph_with_tokens(path, {"message": "hm"}))
    assert ran(events) == ["classify", goes]
    assert text_of(events, "classify") == reported


async def test_a_router_without_a_route_raises(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, ROUTER.replace("default_route: other", ""), classify="{message}", good="g", bad="b")
    answers(vendor, lambda asked: "hm")
    with pytest.raises(
        NodeError, match=r"none of its routes \(Positive, negative\); add a route for it, or a 'default_route'"
    ):
        await collect(stream_graph_with_tokens(path, {"message": "hm"}))


LOOP = """
    nodes:
      tick:
        type: passthrough
        output: {count: "{(state.count or 0) + 1}", seen: "{(seen or []) + [_loop_counts.tick]}"}
      done: {type: passthrough, output: {result: "{'n=' ~ count}"}}
    edges:
      - {from: START, to: tick}
      - {from: tick, to: done, condition: count >= 10}
      - {from: tick, to: tick}
    loop_limits: {tick: 3}
"""


async def test_a_loop_ends_at_its_limit(tmp_path: Path) -> None:
    events = await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP)))
    assert ran(events) == ["tick"] * 3
    assert events[-1]["state"] == {"count": 3, "seen": [0, 1, 2], "_loop_counts": {"tick": 3}}


async def test_a_loop_ends_if_its_exit_condition_is_true(tmp_path: Path) -> None:
    events = await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP + "    loop_exits: {tick: done}\n")))
    assert ran(events) == ["tick"] * 3 + ["done"]
    assert events[-1]["state"]["result"] == "n=3"


async def test_a_condition_ends_a_loop(tmp_path: Path) -> None:
    events = await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP.replace(">= 10", ">= 2"))))
    assert ran(events) == ["tick", "tick", "done"]


async def test_the_run_ends_if_no_condition_is_true_and_there_is_no_other_edge(tmp_path: Path) -> None:
    text = LOOP.replace("      - {from: tick, to: tick}\n", "")
    assert ran(await collect(stream_graph_with_tokens(write_graph(tmp_path, text)))) == ["tick"]


MAP = """
    nodes:
      each:
        type: map
        over: "{state.words}"
        as: word
        node: {prompt: word, state_key: said, variables: {word: "{word}"}}
        collect: all
        max_concurrency: 4
    edges:
      - {from: START, to: each}
"""


async def test_a_map_keeps_the_order_of_its_items(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, MAP, word="{word}")
    vendor.decide = lambda asked: Answer.of("x " * (20 - int(asked.text)) + asked.text)
    vendor.rate = 2000
    events = await collect(stream_graph_with_tokens(path, {"words": list(range(20))}, {"include_metadata": True}))
    texts = ["x " * (20 - n) + str(n) for n in range(20)]
    assert output(events, "each") == {"all": [{"said": t, "value": t, "_map_index": n} for n, t in enumerate(texts)]}
    assert ran(events) == ["each"]
    done = next(event for event in events if event["type"] == "node_complete")["metadata"]
    assert done["usage"].output_tokens >= sum(20 - n for n in range(20))
    reported: dict[int, str] = {}
    for event in events:
        if event["type"] == "token":
            index = event["metadata"]["map_index"]
            reported[index] = reported.get(index, "") + event["content"]
    assert reported == {n: "x " * (20 - n) + str(n) for n in range(20)}


async def test_a_map_runs_at_most_max_concurrency_items_at_once(tmp_path: Path) -> None:
    path = write_graph(tmp_path, MAP, word="{word}")
    provider = ScriptedProvider(["x", 0.01, "y", FINISH])
    await collect(stream_graph_with_tokens(path, {"words": list(range(12))}, {"provider": provider}))
    assert (provider.most_open, provider.open) == (4, 0)


async def test_a_map_over_a_value_that_is_not_a_list_raises(tmp_path: Path) -> None:
    path = write_graph(tmp_path, MAP, word="{word}")
    with pytest.raises(NodeError, match=r"'over' must give a list, but \{state.words\} is null"):
        await collect(stream_graph_with_tokens(path))


async def test_a_map_over_nothing_is_an_empty_list(tmp_path: Path) -> None:
    path = write_graph(tmp_path, MAP, word="{word}")
    assert output(await collect(stream_graph_with_tokens(path, {"words": []})), "each") == {"all": []}


TOOLS = """
    tools:
      plain: {type: python, module: graph_tools, function: plain, description: x}
      slow: {type: python, module: graph_tools, function: slow}
      value: {type: python, module: graph_tools, function: value}
      flaky: {type: python, module: graph_tools, function: flaky}
    nodes:
      a: {type: python, tool: plain}
      b: {type: python, tool: slow}
      c: {type: python, tool: value, state_key: answer}
      d: {type: python, tool: flaky, on_error: retry, max_retries: 2}
    edges:
      - {from: START, to: a}
      - {from: a, to: b}
      - {from: b, to: c}
      - {from: c, to: d}
"""
FUNCTIONS = """
import anyio, datetime, threading

calls = []

def plain(state):
    state["n"] += 1
    state["inner"]["list"].append(1)
    return {"m": state["n"], "thread": threading.current_thread() is threading.main_thread()}

async def slow(state):
    await anyio.sleep(0)
    return {"k": state["m"] + 1}

def value(state):
    return datetime.date(2026, 1, 2)

def flaky(state):
    calls.append(1)
    if len(calls) < 3:
        raise OSError("not yet")
    return {"calls": len(calls)}
"""


async def test_custom_functions(tmp_path: Path, tools: Callable[[str], int]) -> None:
    tools(FUNCTIONS)
    given: dict[str, Any] = {"n": 1, "inner": {"list": []}}
    events = await collect(stream_graph_with_tokens(write_graph(tmp_path, TOOLS), given))
    assert events[-1]["state"] == {
        "n": 1,
        "inner": {"list": []},
        "m": 2,
        "thread": False,
        "k": 3,
        "answer": "2026-01-02",
        "calls": 3,
    }
    assert given == {"n": 1, "inner": {"list": []}}


async def test_a_function_that_fails_names_its_node(tmp_path: Path, tools: Callable[[str], int]) -> None:
    tools(FUNCTIONS)
    with pytest.raises(NodeError, match=r"node 'a' of graph 'graph' failed: KeyError: 'n'") as caught:
        await collect(stream_graph_with_tokens(write_graph(tmp_path, TOOLS)))
    assert isinstance(caught.value.cause, KeyError)


@pytest.mark.parametrize(
    ("module", "says"),
    [("graph_tools", "the module 'graph_tools' has no attribute 'plain'"), ("nowhere_at_all", "No module named")],
)
async def test_a_function_that_is_not_there(
    tmp_path: Path, tools: Callable[[str], int], module: str, says: str
) -> None:
    tools("")
    path = write_graph(tmp_path, TOOLS.replace("graph_tools", module))
    with pytest.raises(ConfigError, match=says) as caught:
        await collect(stream_graph_with_tokens(path))
    assert str(caught.value).startswith(f"{path}:5: the tool 'plain' cannot be loaded")


async def test_an_output_that_is_no_data(tmp_path: Path, tools: Callable[[str], int]) -> None:
    tools("def plain(state):\n    return {'x': object()}\n")
    with pytest.raises(ConfigError, match="the output of node 'a' must be JSON data"):
        await collect(stream_graph_with_tokens(write_graph(tmp_path, TOOLS)))


async def test_a_fallback_answers_when_the_first_choice_fails(
    tmp_path: Path, vendor: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_BASE_URL", vendor.url + "/nowhere")
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    text = PIPELINE.replace(
        "{prompt: plan,", "{prompt: plan, provider: groq, fallback: {provider: openai, model: other},"
    )
    monkeypatch.setenv("GROQ_BASE_URL", vendor.url + "/nowhere")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    answers(vendor, lambda asked: asked.model)
    events = await collect(stream_graph_with_tokens(write_graph(tmp_path, text, **STEPS), {"topic": "t"}))
    assert output(events, "plan") == {"outline": "other"}


async def test_an_error_that_may_be_skipped(tmp_path: Path, vendor: Simulator) -> None:
    text = PIPELINE.replace("{prompt: plan,", "{prompt: plan, on_error: skip,").replace(", requires: [outline]", "")
    path = write_graph(tmp_path, text, plan="Plan {topic}", write="Write", polish="Polish")
    vendor.decide = lambda asked: Answer.of("a b c d", cut=2 if asked.text == "Plan tea" else None)
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}, {"include_metadata": True}))
    assert kinds(events)[:3] == [("node_start", "plan"), ("restart", "plan"), ("node_complete", "plan")]
    [error] = output(events, "plan").pop("errors")
    assert (error["node"], error["type"], error["tolerated"]) == ("plan", "StreamInterrupted", True)
    assert output(events, "plan") == {}
    assert text_of(events, "plan") == ""
    assert "StreamInterrupted" in next(e for e in events if e["type"] == "node_complete")["metadata"]["error"]
    assert ran(events) == ["plan", "write", "polish"]


@pytest.mark.parametrize("key", ["on_error: retry", "on_interrupt: restart"])
async def test_an_answer_that_breaks_is_begun_again(tmp_path: Path, vendor: Simulator, key: str) -> None:
    path = write_graph(tmp_path, PIPELINE.replace("{prompt: plan,", f"{{prompt: plan, {key},"), **STEPS)
    tries: list[str] = []

    def decide(asked: Any) -> Answer:
        tries.append(asked.text)
        return Answer.of("a b c d", cut=2 if len(tries) == 1 else None)

    vendor.decide = decide
    events = await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    assert ("restart", "plan") in kinds(events)
    assert text_of(events, "plan") == "a b c d"
    assert output(events, "plan") == {"outline": "a b c d"}


async def test_an_interrupted_answer_raises_an_error_with_the_received_text(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    vendor.decide = lambda asked: Answer.of("a b c d", cut=2)
    stream = stream_graph_with_tokens(path, {"topic": "tea"})
    events: list[Any] = []
    with pytest.raises(NodeError, match="node 'plan' of graph 'graph' failed: StreamInterrupted") as caught:
        async for event in stream:
            events.append(event)
    assert caught.value.partial is not None
    assert caught.value.partial.text == text_of(events, "plan") != ""
    with pytest.raises(NodeError):
        await anext(stream)


async def test_mistakes_in_the_file_are_never_skipped(tmp_path: Path) -> None:
    text = PIPELINE.replace("{prompt: plan,", "{prompt: plan, on_error: skip,")
    with pytest.raises(PromptError, match="the variable 'topic' is missing"):
        await collect(stream_graph_with_tokens(write_graph(tmp_path, text, **STEPS)))
    (tmp_path / "prompts" / "plan.yaml").unlink()
    with pytest.raises(PromptNotFound, match="there is no prompt 'plan'"):
        await collect(stream_graph_with_tokens(tmp_path / "graph.yaml", {"topic": "x"}))


async def test_order_of_provider_and_model(tmp_path: Path, vendor: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "    defaults: {provider: openai, model: from-defaults, temperature: 0.1}\n" + PIPELINE.replace(
        "{prompt: write,", "{prompt: write, model: from-node, temperature: 0.2,"
    ).replace("{prompt: polish,", "{prompt: polish, provider: groq,")
    path = write_graph(tmp_path, text, **STEPS)
    (tmp_path / "prompts" / "plan.yaml").write_text("user: x\nmodel: from-prompt\ntemperature: 0.3", "utf-8")
    monkeypatch.setenv("GROQ_BASE_URL", vendor.base_url("groq"))
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setenv("GROQ_MODEL", "from-environment")
    await collect(stream_graph_with_tokens(path, {"topic": "tea"}))
    asked = [(request.body["model"], request.body["temperature"]) for request in vendor.requests]
    assert asked == [("from-defaults", 0.1), ("from-node", 0.2), ("from-environment", 0.1)]
    vendor.requests.clear()
    await collect(
        stream_graph_with_tokens(path, {"topic": "tea"}, {"provider": "openai", "model": "c", "temperature": 0})
    )
    assert {(request.body["model"], request.body["temperature"]) for request in vendor.requests} == {("c", 0)}


async def test_an_error_of_the_vendor_is_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"error": {"message": "no such key: %b"}}' % KEY.encode()
    head = b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-type: application/json\r\n"
    with FaultServer([Send(head + b"content-length: %d\r\n\r\n" % len(body) + body)]) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.port}/v1")
        with pytest.raises(NodeError) as caught:
            await collect(stream_graph_with_tokens(write_graph(tmp_path, PIPELINE, **STEPS), {"topic": "tea"}))
    assert isinstance(caught.value.cause, AuthenticationError)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"thread": "x"}, "unknown key 'thread' in config; did you mean 'thread_id'?"),
        ({"configurable": {"thred_id": "x"}}, "unknown key 'thred_id'"),
        ("t1", "config must be a mapping, as {'thread_id': 't1'}, not a str"),
        ({"resume": "x"}, "no interrupt waits for an answer on this run, which has no thread_id"),
        ({"resume": "x", "thread_id": 7}, "no interrupt waits for an answer on thread '7'"),
        ({"thread_id": ""}, "'thread_id' in config is empty; give the conversation a name, or leave the key out"),
        ({"limits": {"max_cost": 1}}, "'limits' in config is a streamcore.graph.limits.RunLimits, as RunLimits(max_"),
        ({"temperature": "0.3"}, "'temperature' in config is a number, not '0.3'"),
        ({"model": 5}, "'model' in config is the name of a model, not 5"),
        ({"observer": 5}, "'observer' in config is a function of an event, not 5"),
    ],
)
async def test_a_config_that_cannot_be(tmp_path: Path, config: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP), None, config))


async def test_other_keys_of_langgraph_configs_are_ignored(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "configurable": {"thread_id": "t", "user": "x", "checkpoint_ns": ""},
        "recursion_limit": 5,
        "tags": [],
    }
    assert ran(await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP), None, config)))


async def test_a_reader_may_change_the_events_it_receives(tmp_path: Path) -> None:
    last: dict[str, Any] = {}
    async for event in stream_graph_with_tokens(write_graph(tmp_path, LOOP)):
        if event["type"] == "node_complete":
            event["output"]["seen"].append("mine")
        last = {**event}
    assert last["type"] == "graph_complete"
    assert last["state"]["seen"] == [0, 1, 2]


async def test_a_state_that_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="initial_state must be JSON data"):
        await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP), {"x": object()}))
    with pytest.raises(ConfigError, match="initial_state must be a mapping, not a str"):
        await collect(stream_graph_with_tokens(write_graph(tmp_path, LOOP), "x"))  # type: ignore[arg-type]


async def test_a_missing_variable_is_reported_without_internal_keys(tmp_path: Path) -> None:
    path = write_graph(tmp_path, PIPELINE, **STEPS)
    with pytest.raises(PromptError, match=r"the variable 'topic' is missing; given were 'style'$"):
        await collect(stream_graph_with_tokens(path, {"style": "x"}))


# The two graphs of yamlgraph, as they are.


@pytest.mark.real
async def test_the_hello_graph(vendor: Simulator) -> None:
    require(SHARED.exists(), "yamlgraph's graphs are not next to the checkout")
    answers(vendor, lambda asked: "Hi Ada!")
    events = await collect(stream_graph_with_tokens(SHARED / "hello" / "graph.yaml", {"name": "Ada", "style": "warm"}))
    assert text_of(events, "greet") == "Hi Ada!"
    assert events[-1] == {
        "type": "graph_complete",
        "state": {"name": "Ada", "style": "warm", "greeting": "Hi Ada!"},
    }
    assert 'greeting for "Ada" in a warm style' in vendor.requests[0].body["messages"][1]["content"]


@pytest.mark.real
@pytest.mark.parametrize("tone", ["positive", "negative", "neutral"])
async def test_the_router_graph(vendor: Simulator, monkeypatch: pytest.MonkeyPatch, tone: str) -> None:
    require(SHARED.exists(), "yamlgraph's graphs are not next to the checkout")
    monkeypatch.setenv("XAI_BASE_URL", vendor.base_url("xai"))
    monkeypatch.setenv("XAI_API_KEY", KEY)
    monkeypatch.setenv("XAI_MODEL", "grok")
    verdict = json.dumps({"tone": tone, "confidence": 0.9, "reasoning": "so it is"})
    answers(vendor, lambda asked: verdict if "Classify" in asked.text else "Dear customer")
    events = await collect(stream_graph_with_tokens(SHARED / "router" / "graph.yaml", {"message": "Well."}))
    assert ran(events) == ["classify", f"respond_{tone}"]
    assert text_of(events, "classify") == verdict
    assert text_of(events, f"respond_{tone}") == "Dear customer" == events[-1]["state"]["response"]
    assert output(events, "classify") == {"classification": json.loads(verdict)}


@pytest.mark.real
@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-responses", "mistral"])
def test_the_router_graph_on_every_wire(vendor: Simulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    require(SHARED.exists(), "yamlgraph's graphs are not next to the checkout")
    for prefix in ("anthropic", "mistral"):
        monkeypatch.setenv(f"{prefix.upper()}_BASE_URL", vendor.base_url(prefix))
        monkeypatch.setenv(f"{prefix.upper()}_API_KEY", KEY)
    verdict = '{"tone": "Negative", "confidence": 1, "reasoning": "so it is"}'
    answers(vendor, lambda asked: verdict if "Classify" in asked.text else "Dear customer")
    path = SHARED / "router" / "graph.yaml"
    events = asyncio.run(collect(stream_graph_with_tokens(path, {"message": "Well."}, {"provider": name})))
    assert ran(events) == ["classify", "respond_negative"]
    assert text_of(events, "classify") == verdict
    assert text_of(events, "respond_negative") == "Dear customer"
