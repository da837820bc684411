"""Test graphs inside graphs: what crosses, the events, questions, crashes, and what is refused at load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from streamcore import ConfigError, GraphError, NodeError, PromptError, RunLimitReached, load_graph
from streamcore import stream_graph_with_tokens as stream_graph
from streamcore.graph.check import check_graph
from streamcore.graph.limits import RunLimits
from streamcore.request import Request
from streamcore.testing import ScriptedProvider
from tests.graphs import Events, collect, kinds, output, ran, text_of

pytestmark = pytest.mark.anyio

DEMOS = Path(__file__).resolve().parents[3] / "shared" / "yamlgraph"


def write(folder: Path, **files: str) -> Path:
    """Write graphs, `child` as `child.yaml`, with a prompt that is its variable `text`; return the path of `outer`."""
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "say.yaml").write_text('user: "{text}"\n', "utf-8")
    for name, text in files.items():
        head = "prompts_relative: true\nprompts_dir: prompts\n"
        (folder / f"{name}.yaml").write_text(head + dedent(text), "utf-8")
    return folder / "outer.yaml"


def echo(*, upper: bool = True) -> ScriptedProvider:
    """Return a provider that answers in capitals."""
    return ScriptedProvider(lambda request: request.messages[-1].text.upper() if upper else request.messages[-1].text)


async def run(path: Path, state: Mapping[str, Any] | None = None, **config: Any) -> Events:
    return await collect(stream_graph(path, state or {}, {"provider": echo(), "model": "m", **config}))


CHILD = """
    state: {text: str, said: str, other: str}
    nodes:
      say: {prompt: say, state_key: said}
      more: {type: passthrough, output: {other: "{said}!", secret: 1}}
    edges: [{from: START, to: say}, {from: say, to: more}]
"""
OUTER = """
    state: {topic: str, summary: str}
    nodes:
      sub:
        type: subgraph
        graph: child.yaml
        input_mapping: {topic: text}
        output_mapping: {summary: other, nothing: absent}
      last: {type: passthrough, output: {done: "{summary}"}}
    edges: [{from: START, to: sub}, {from: sub, to: last}]
"""


async def test_only_mapped_keys_cross(tmp_path: Path) -> None:
    path = write(tmp_path, outer=OUTER, child=CHILD)
    events = await run(path, {"topic": "a b", "said": "here"})
    assert kinds(events) == [
        ("node_start", "sub"),
        ("node_start", "sub/say"),
        ("node_complete", "sub/say"),
        ("node_start", "sub/more"),
        ("node_complete", "sub/more"),
        ("node_complete", "sub"),
        ("node_start", "last"),
        ("node_complete", "last"),
        ("graph_complete", ""),
    ]
    assert text_of(events, "sub/say") == "A B"
    assert output(events, "sub") == {"summary": "A B!", "nothing": None}
    assert events[-1]["state"] == {
        "topic": "a b",
        "said": "here",
        "summary": "A B!",
        "nothing": None,
        "done": "A B!",
    }
    assert all("metadata" not in event for event in events)


async def test_a_key_that_is_absent_is_null(tmp_path: Path) -> None:
    child = CHILD.replace("say: {prompt: say", "say: {type: passthrough, output: {said: '{text is none}'}").replace(
        ", state_key: said}", "}"
    )
    events = await run(write(tmp_path, outer=OUTER, child=child))
    assert output(events, "sub/say") == {"said": True}


@pytest.mark.parametrize("word", ["auto", "'*'"])
async def test_all_keys_cross(tmp_path: Path, word: str) -> None:
    outer = f"""
        nodes: {{sub: {{type: subgraph, graph: child.yaml, input_mapping: {word}, output_mapping: {word}}}}}
        edges: [{{from: START, to: sub}}]
    """
    events = await run(write(tmp_path, outer=outer, child=CHILD), {"text": "x", "errors": ["e"]})
    assert events[-1]["state"] == {"text": "x", "errors": ["e"], "said": "X", "other": "X!", "secret": 1}


DIRECT = """
    nodes:
      begin: {type: passthrough, output: {n: 0, text: hi}}
      sub: {type: subgraph, graph: child.yaml, mode: direct}
    edges: [{from: START, to: begin}, {from: begin, to: sub}]
"""
LOOP = """
    nodes: {count: {type: passthrough, output: {n: "{n + 1}"}}, stop: {prompt: say, state_key: said}}
    edges:
      - {from: START, to: count}
      - {from: count, to: count, condition: n < 3}
      - {from: count, to: stop}
    loop_limits: {count: 9}
"""


async def test_a_direct_graph_shares_the_state(tmp_path: Path) -> None:
    events = await run(write(tmp_path, outer=DIRECT, child=LOOP), {"kept": 1})
    assert output(events, "sub") == {"n": 3, "said": "HI"}
    assert events[-1]["state"] == {"kept": 1, "n": 3, "text": "hi", "said": "HI", "_loop_counts": {"count": 3}}


ASKS = """
    state: {text: str, said: str, answer: str, partial: str}
    nodes:
      say: {prompt: say, state_key: said}
      ask: {type: interrupt, message: "Is {said} right?", resume_key: answer}
      end: {prompt: say, variables: {text: "{said} {answer}"}, state_key: final}
    edges: [{from: START, to: say}, {from: say, to: ask}, {from: ask, to: end}]
"""
ASKING = """
    nodes:
      sub:
        type: subgraph
        graph: child.yaml
        input_mapping: {topic: text}
        output_mapping: {final: final}
        interrupt_output_mapping: {sofar: said}
    edges: [{from: START, to: sub}]
"""
MIDDLE = """
    nodes: {mid: {type: subgraph, graph: outer.yaml, mode: MODE, input_mapping: auto, output_mapping: auto}}
    edges: [{from: START, to: mid}]
"""


def config_of(tmp_path: Path, provider: ScriptedProvider, **more: Any) -> dict[str, Any]:
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    return {"thread_id": "t", "checkpointer": store, "provider": provider, "model": "m", **more}


@pytest.mark.parametrize("levels", [1, 2, "direct"])
async def test_a_question_inside_is_saved_with_the_outer_thread(tmp_path: Path, levels: int | str) -> None:
    path = write(tmp_path, outer=ASKING, child=ASKS)
    before = ""
    if levels != 1:
        top = MIDDLE.replace("MODE", "invoke" if levels == 2 else "direct")
        if levels == "direct":
            top = top.replace(", input_mapping: auto, output_mapping: auto", "")
        path = write(tmp_path, top=top).with_name("top.yaml")
        before = "mid/"
    provider = echo()
    events = await collect(stream_graph(path, {"topic": "tea"}, config_of(tmp_path, provider)))
    question = {
        "type": "interrupt",
        "node": f"{before}sub/ask",
        "message": "Is TEA right?",
        "resume_key": "answer",
    }
    assert events[-1] == question
    assert [one.messages[-1].text for one in provider.requests] == ["tea"]
    # A run without an answer asks the same question again.
    assert await collect(stream_graph(path, {}, config_of(tmp_path, provider))) == [question]
    events = await collect(stream_graph(path, {}, config_of(tmp_path, provider, resume="yes")))
    assert ran(events) == [
        f"{before}sub/ask",
        f"{before}sub/end",
        f"{before}sub",
        *(["mid"] if before else []),
    ]
    assert [one.messages[-1].text for one in provider.requests] == ["tea", "TEA yes"]
    state = events[-1]["state"]
    assert (state["final"], state["topic"]) == ("TEA YES", "tea")
    if levels == 1:
        assert state["sofar"] == "TEA"
    # The next run of the thread begins again.
    events = await collect(stream_graph(path, {"topic": "rum"}, config_of(tmp_path, provider)))
    assert events[-1]["message"] == "Is RUM right?"


async def test_a_graph_that_asks_waits_for_parallel_nodes(tmp_path: Path) -> None:
    outer = """
        nodes:
          sub: {type: subgraph, graph: child.yaml, input_mapping: {topic: text}}
          slow: {prompt: say, variables: {text: slow}}
        edges: [{from: START, to: [sub, slow]}]
    """
    provider = echo()
    path = write(tmp_path, outer=outer, child=ASKS)
    events = await collect(stream_graph(path, {"topic": "tea"}, config_of(tmp_path, provider)))
    assert ran(events) == ["slow", "sub/say"]
    events = await collect(stream_graph(path, {}, config_of(tmp_path, provider, resume="ok")))
    assert ran(events) == ["sub/ask", "sub/end", "sub"]


async def test_a_run_that_breaks_inside_continues_there(tmp_path: Path) -> None:
    path = write(tmp_path, outer=OUTER, child=CHILD.replace("{type: passthrough, output:", "{prompt: say, variables:"))
    reported: list[str] = []

    def answer(request: Request) -> Any:
        reported.append(request.messages[-1].text)
        return ["half"] if len(reported) == 2 else "whole"

    child = """
        state: {text: str}
        nodes: {one: {prompt: say, state_key: a}, two: {prompt: say, variables: {text: "two {a}"}, state_key: other}}
        edges: [{from: START, to: one}, {from: one, to: two}]
    """
    path = write(tmp_path, child=child)
    provider = ScriptedProvider(answer)
    with pytest.raises(NodeError, match="node 'two' of graph 'child' failed"):
        await collect(stream_graph(path, {"topic": "x"}, config_of(tmp_path, provider)))
    config = config_of(tmp_path, provider, include_metadata=True)
    events = await collect(stream_graph(path, {}, config))
    assert ran(events) == ["sub/two", "sub", "last"]
    assert reported == ["x", "two whole", "two whole"]
    starts = {event["node"]: event["metadata"] for event in events if event["type"] == "node_start"}
    assert starts["sub/two"]["partial"] == "half"
    assert [event["metadata"]["sequence"] for event in events] == [*range(1, len(events) + 1)]


async def test_a_node_that_completed_inside_does_not_run_again(tmp_path: Path) -> None:
    child = """
        nodes: {one: {prompt: say, state_key: a}, two: {prompt: say, variables: {text: two}, state_key: other}}
        edges: [{from: START, to: one}, {from: one, to: two}]
    """
    path = write(tmp_path, outer=OUTER, child=child)
    provider = echo()
    async with stream_graph(path, {"topic": "x"}, config_of(tmp_path, provider)) as source:
        async for event in source:
            if event["type"] == "node_complete" and event["node"] == "sub/one":
                break
    events = await collect(stream_graph(path, {}, config_of(tmp_path, provider)))
    assert ran(events) == ["sub/two", "sub", "last"]
    assert [one.messages[-1].text for one in provider.requests].count("x") == 1


async def test_a_run_continues_from_every_instant(tmp_path: Path) -> None:
    """Copy the store after each event, as a kill at that instant leaves it, and continue from each copy."""
    top = """
        nodes:
          left: {type: subgraph, graph: outer.yaml, input_mapping: {topic: topic}, output_mapping: {one: done}}
          right: {type: subgraph, graph: child.yaml, input_mapping: {topic: text}, output_mapping: {two: other}}
          both: {prompt: say, variables: {text: "{one} {two}"}, state_key: three}
        edges: [{from: START, to: [left, right]}, {from: left, to: both}, {from: right, to: both}]
    """
    path = write(tmp_path, top=top, outer=OUTER, child=CHILD).with_name("top.yaml")
    config: dict[str, Any] = {"thread_id": "t", "provider": echo(), "model": "m"}
    seen: list[list[str]] = []
    completed: list[str] = []
    live = tmp_path / "live"
    live.mkdir()
    config["checkpointer"] = {"type": "sqlite", "path": str(live / "t.db")}
    async for event in stream_graph(path, {"topic": "x"}, config):
        completed += [event["node"]] if event["type"] == "node_complete" else []
        seen.append([*completed])
        shutil.copytree(live, tmp_path / f"copy{len(seen)}")
    whole = sorted(completed)
    assert whole == sorted(["left", "left/sub", "left/sub/say", "left/sub/more", "left/last", *OTHERS])
    for number, before in enumerate(seen, 1):
        if "both" in before:
            break  # the graph has ended, so a further run begins again
        config["checkpointer"] = {"type": "sqlite", "path": str(tmp_path / f"copy{number}" / "t.db")}
        started = not before
        events = await collect(stream_graph(path, {"topic": "x"} if started else {}, config))
        assert not {*ran(events)} & {*before}, f"after event {number}"
        assert events[-1]["state"]["three"] == "X! X!", f"after event {number}"


OTHERS = ("right", "right/say", "right/more", "both")


@pytest.mark.parametrize(("checkpointer", "asked"), [("", 2), ("checkpointer: {type: memory}", 1)])
async def test_what_a_graph_keeps_for_its_next_run(tmp_path: Path, checkpointer: str, asked: int) -> None:
    provider = echo()
    path = write(tmp_path, outer=OUTER, child=f"{checkpointer}\n{dedent(CHILD)}")
    for _ in range(2):
        await collect(stream_graph(path, {"topic": "x"}, config_of(tmp_path, provider)))
    assert len(provider.requests) == asked


@pytest.mark.parametrize("levels", [1, 2])
async def test_the_conversation_of_an_agent_inside_stays(tmp_path: Path, levels: int) -> None:
    child = """
        nodes: {work: {type: agent, prompt: say, state_key: other}, end: {prompt: say, state_key: said}}
        edges: [{from: START, to: work}, {from: work, to: end}]
    """
    path = write(tmp_path, outer=OUTER, child=child)
    if levels == 2:
        path = write(tmp_path, top=MIDDLE.replace("MODE", "invoke")).with_name("top.yaml")
    provider = echo()
    for topic in ("one", "two"):
        await collect(stream_graph(path, {"topic": topic}, config_of(tmp_path, provider)))
    texts = [[message.text for message in request.messages] for request in provider.requests]
    assert texts == [["one"], ["one"], ["one", "ONE", "two"], ["two"]]


async def test_an_error_inside_may_be_skipped(tmp_path: Path) -> None:
    outer = OUTER.replace("graph: child.yaml", "graph: child.yaml\n        on_error: skip")
    path = write(tmp_path, outer=outer, child=CHILD)
    events = await run(path, {"topic": "x"}, provider=ScriptedProvider(["half"]))
    assert ran(events) == ["sub", "last"]
    assert events[-1]["state"]["errors"][0]["node"] == "sub"


async def test_a_missing_variable_inside_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"outer.yaml:6: node 'sub': .*child.yaml:6: node 'say': .* 'text'"):
        await run(write(tmp_path, outer=OUTER, child=CHILD))


async def test_nodes_inside_count(tmp_path: Path) -> None:
    path = write(tmp_path, outer=OUTER, child=CHILD)
    with pytest.raises(RunLimitReached, match="max_nodes=2"):
        await run(path, {"topic": "x"}, limits=RunLimits(max_nodes=2))


async def test_a_map_over_a_graph(tmp_path: Path) -> None:
    outer = """
        nodes:
          each:
            type: map
            over: "{words}"
            as: word
            node: {type: subgraph, graph: child.yaml, input_mapping: {word: text}, output_mapping: {out: other}}
            collect: all
        edges: [{from: START, to: each}]
    """
    events = await run(write(tmp_path, outer=outer, child=CHILD), {"words": ["a", "b"]}, include_metadata=True)
    assert [{**one} for one in events[-1]["state"]["all"]] == [
        {"_map_index": 0, "out": "A!"},
        {"_map_index": 1, "out": "B!"},
    ]
    tokens = {(event["node"], event["metadata"]["map_index"]) for event in events if event["type"] == "token"}
    assert tokens == {("each/say", 0), ("each/say", 1)}
    assert ran(events) == ["each"]
    assert output(events, "each") == {"all": events[-1]["state"]["all"]}


async def test_metadata_of_one_node_inside(tmp_path: Path) -> None:
    child = CHILD.replace("prompt: say,", "prompt: say, stream_options: {include_metadata: true},")
    events = await run(write(tmp_path, outer=OUTER, child=child), {"topic": "x"})
    assert {event["node"] for event in events if "metadata" in event} == {"sub/say"}


# What is refused

START = "edges: [{from: START, to: m}]\n"


@pytest.mark.parametrize(
    ("outer", "child", "says"),
    [
        (OUTER.replace("child.yaml", "none.yaml"), CHILD, r"outer.yaml:8: node 'sub': there is no file .*none.yaml"),
        (OUTER.replace("child.yaml", "outer.yaml"), CHILD, r"outer.yaml:8: .* inside itself: outer.yaml -> outer.yaml"),
        (OUTER, OUTER.replace("child", "outer"), r"child.yaml:8: .* itself: outer.yaml -> child.yaml -> outer.yaml"),
        (OUTER, "nodes: {a: {promt: x}}\nedges: [{from: START, to: a}]\n", r"child.yaml:3: node 'a': unknown key"),
        (OUTER.replace("graph: child.yaml", "graph: child.yaml\n        mode: direct"), CHILD, r"remove the mapping"),
        (OUTER.replace("graph: child.yaml", "graph: child.yaml\n        mode: steam"), CHILD, "'invoke' or 'direct'"),
        (
            "nodes: {m: {type: map, over: '{x}', node: {type: subgraph, graph: child.yaml}}}\n" + START,
            ASKS,
            "a graph that asks a person cannot run in a map",
        ),
    ],
)
async def test_what_a_file_may_not_have(tmp_path: Path, outer: str, child: str, says: str) -> None:
    path = write(tmp_path, outer=outer, child=child)
    with pytest.raises(GraphError, match=says):
        load_graph(path)
    assert check_graph(path)


async def test_a_graph_that_is_too_deep(tmp_path: Path) -> None:
    names = ["outer", *(f"g{number}" for number in range(20))]
    for name, inner in pairwise(names):
        write(tmp_path, **{name: OUTER.replace("child", inner)})
    write(tmp_path, **{names[-1]: CHILD})
    with pytest.raises(GraphError, match="at most 16 levels deep"):
        load_graph(tmp_path / "outer.yaml")


async def test_a_graph_is_read_again_when_one_inside_changes(tmp_path: Path) -> None:
    path = write(tmp_path, outer=OUTER, child=CHILD)
    graph = load_graph(path)
    assert load_graph(path) is graph
    write(tmp_path, child=CHILD.replace("{said}!", "{said}?"))
    assert output(await run(path, {"topic": "x"}), "sub")["summary"] == "X?"


async def test_check_compares_the_mappings_with_the_graph_inside(tmp_path: Path) -> None:
    path = write(tmp_path, outer=OUTER.replace("text}", "texd}"), child=CHILD.replace("secret: 1", "absent: 1"))
    [problem] = check_graph(path)
    assert problem.startswith(f"{path}:9: node 'sub': 'texd' is not in the state of {tmp_path / 'child.yaml'}")
    assert problem.endswith("did you mean 'text'?")


# Graphs as tools

TOOL = """
    tools: {sum: {type: graph, path: child.yaml, input_mapping: {what: text}, output_key: KEY}}
    nodes: {call: {type: tool_call, tool: sum, args: {what: "{topic}"}, parsed_key: data}}
    edges: [{from: START, to: call}]
"""


@pytest.mark.parametrize(
    ("key", "result", "data"),
    [("other", "X!", None), ("data", '{"a": ["X"]}', {"a": ["X"]}), ("absent", "Success", None)],
)
async def test_a_graph_as_a_tool(tmp_path: Path, key: str, result: str, data: Any) -> None:
    child = CHILD.replace("secret: 1", "data: {a: ['{said}']}")
    events = await run(write(tmp_path, outer=TOOL.replace("KEY", key), child=child), {"topic": "x"})
    assert kinds(events)[:3] == [("node_start", "call"), ("node_start", "call/say"), ("node_complete", "call/say")]
    found = output(events, "call")
    assert (found["result"]["result"], found["result"]["success"], found.get("data")) == (result, True, data)


async def test_a_graph_that_fails_as_a_tool(tmp_path: Path) -> None:
    path = write(tmp_path, outer=TOOL, child=CHILD)
    events = await run(path, {"topic": "x"}, provider=ScriptedProvider(["half"]))
    assert output(events, "call")["result"]["result"].startswith("Error: node 'say' of graph 'child' failed")
    events = await run(write(tmp_path, child=ASKS), {"topic": "x"})
    assert output(events, "call")["result"]["result"] == "Error: the graph asks a person, which a tool cannot do"
    events = await run(write(tmp_path, outer=TOOL.replace('{what: "{topic}"}', "{}")))
    assert output(events, "call")["result"]["error"] == "wrong arguments: missing 'what'"


async def test_a_limit_of_the_run_holds_in_a_tool(tmp_path: Path) -> None:
    with pytest.raises(RunLimitReached, match="max_nodes=1"):
        await run(write(tmp_path, outer=TOOL, child=CHILD), {"topic": "x"}, limits=RunLimits(max_nodes=1))


async def test_a_tool_inside_itself(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"outer.yaml:4: tool 'sum' runs a graph inside itself"):
        load_graph(write(tmp_path, outer=TOOL.replace("child", "outer")))


# The graph of yamlgraph


@pytest.mark.skipif(not DEMOS.exists(), reason="the graphs are not next to the checkout")
async def test_the_graph_of_yamlgraph_runs_unmodified() -> None:
    reference = json.loads((DEMOS / "reference" / "subgraph.json").read_text("utf-8"))
    [done] = reference["runs"]
    answers = next(iter(done["order"][0][1].values())), done["state"]["summary"], done["state"]["final_output"]
    provider = ScriptedProvider(*answers)
    path = DEMOS / "graphs" / "subgraph" / "examples" / "demos" / "subgraph" / "graph.yaml"
    assert check_graph(path) == []
    config: dict[str, Any] = {"provider": provider, "model": "m"}
    events = await collect(stream_graph(path, {"raw_text": done["state"]["raw_text"]}, config))
    keys = ("raw_text", "prepared_text", "summary", "final_output")
    assert events[-1]["state"] == {key: done["state"][key] for key in keys}
    asked = [
        [{"role": message.role, "content": message.text} for message in request.messages]
        for request in provider.requests
    ]
    assert asked == [one["messages"] for one in reference["requests"]]
    assert [one.temperature for one in provider.requests] == [one["temperature"] for one in reference["requests"]]
    assert text_of(events, "summarize/summarize") == "Short."


async def test_a_node_alone_cannot_run_a_graph(tmp_path: Path) -> None:
    from streamcore import stream_node_output

    path = write(tmp_path, outer=OUTER, child=CHILD)
    with pytest.raises(ConfigError, match="only llm, router and agent nodes"):
        await collect(stream_node_output(path, "sub", {}))
