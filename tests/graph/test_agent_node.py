"""Test agent nodes: their events, memory, limits, structured results, approval, and what a crash leaves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

from streamcore import (
    Chunk,
    ConfigError,
    GraphError,
    NodeError,
    RunLimitReached,
    ToolCall,
    load_graph,
    stream_node_output,
)
from streamcore import stream_graph_with_tokens as stream_graph
from streamcore.graph.limits import RunLimits
from streamcore.request import Request
from streamcore.testing import ScriptedProvider
from tests.graphs import Events, collect, output

pytestmark = pytest.mark.anyio

DEMOS = Path(__file__).resolve().parents[3] / "shared" / "yamlgraph"
FINISH = Chunk("finish", finish_reason="tool_calls", raw_finish_reason="tool_calls")

TOOLS = """
import anyio

ran = []

async def double(n: int) -> int:
    ran.append(("double", n))
    return 2 * n

def fail(why: str = "no"):
    raise ValueError(why)

async def cancelled_here() -> str:
    ran.append("here")
    with anyio.CancelScope() as scope:
        scope.cancel()
    raise RuntimeError("stop")
"""
GRAPH = """
    prompts_relative: true
    prompts_dir: prompts
    state: {topic: str}
    tools:
      double: {type: python, path: tools.py, function: double, description: Double a number.}
      fail: {type: python, path: tools.py, function: fail}
      echo: {command: "echo {text}", description: Say it.}
    nodes:
      helper:
        type: agent
        prompt: work
        tools: [double, fail, echo]
        state_key: answer
        tool_results_key: results
"""
EDGES = "    edges: [{from: START, to: helper}, {from: helper, to: END}]\n"


def write(folder: Path, graph: str = GRAPH + EDGES, **prompts: str) -> Path:
    """Write a graph with its tools and prompts; return its path."""
    (folder / "prompts").mkdir(exist_ok=True)
    for name, text in {"work": 'system: "Help."\nuser: "{topic}"\n', **prompts}.items():
        (folder / "prompts" / f"{name}.yaml").write_text(text, "utf-8")
    (folder / "tools.py").write_text(TOOLS, "utf-8")
    (folder / "graph.yaml").write_text(dedent(graph), "utf-8")
    return folder / "graph.yaml"


def calls(*wanted: tuple[str, Mapping[str, Any]], text: str = "") -> list[Chunk]:
    """Return an answer that asks for these calls."""
    asked = [
        Chunk("tool_call", tool_call=ToolCall(f"call_{position}", name, json.dumps(arguments), position))
        for position, (name, arguments) in enumerate(wanted)
    ]
    return [Chunk("start"), *([Chunk("text", text)] if text else []), *asked, FINISH]


async def run(path: Path, provider: ScriptedProvider, topic: str | None = "tides", **config: Any) -> Events:
    state = {} if topic is None else {"topic": topic}
    return await collect(stream_graph(path, state, {"provider": provider, "model": "m", **config}))


def sent(request: Request) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in request.messages]


async def test_the_events_and_the_state_of_an_agent(tmp_path: Path) -> None:
    provider = ScriptedProvider(
        calls(("double", {"n": 4}), ("echo", {"text": "a; b"}), ("fail", {}), text="Looking. "), "It is 8."
    )
    events = await run(write(tmp_path), provider)
    assert [event["type"] for event in events[:4]] == ["node_start", "step", "token", "tool_call"]
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2]
    assert [(event["tool"], event["args"]) for event in events if event["type"] == "tool_call"] == [
        ("double", {"n": 4}),
        ("echo", {"text": "a; b"}),
        ("fail", {}),
    ]
    found = {event["tool"]: (event["output"], event["error"]) for event in events if event["type"] == "tool_result"}
    assert found == {"double": ("8", None), "echo": ("a; b", None), "fail": ("Error: no", "no")}
    last_step = max(number for number, event in enumerate(events) if event["type"] == "step")
    assert "".join(event["content"] for event in events[last_step:] if event["type"] == "token") == "It is 8."
    assert sent(provider.requests[1]) == [
        ("system", "Help."),
        ("user", "tides"),
        ("assistant", "Looking. "),
        ("tool", "8"),
        ("tool", "a; b"),
        ("tool", "Error: no"),
    ]
    [echo] = [tool for tool in provider.requests[0].tools if tool.name == "echo"]
    assert (echo.description, echo.parameters["required"]) == ("Say it.", ["text"])
    update = output(events, "helper")
    assert update["answer"] == "It is 8."
    assert (update["_agent_iterations"], update["_agent_limit_reached"]) == (2, False)
    assert update["results"] == [
        {"tool": "double", "args": {"n": 4}, "output": "8", "success": True},
        {"tool": "echo", "args": {"text": "a; b"}, "output": "a; b", "success": True},
        {"tool": "fail", "args": {}, "output": "Error: no", "success": False},
    ]
    assert [message["type"] for message in update["messages"]] == [
        "system",
        "human",
        "ai",
        "tool",
        "tool",
        "tool",
        "ai",
    ]


@pytest.mark.parametrize("given", [None, "x"])
async def test_the_events_of_a_call_have_one_id(tmp_path: Path, given: str | None) -> None:
    asked = [Chunk("tool_call", tool_call=ToolCall(given, "double", f'{{"n": {number}}}', number)) for number in (0, 1)]
    events = await run(write(tmp_path), ScriptedProvider([Chunk("start", id="r"), *asked, FINISH], "Done."))
    ids = {event["args"]["n"]: event["call_id"] for event in events if event["type"] == "tool_call"}
    results = {int(event["output"]) // 2: event["call_id"] for event in events if event["type"] == "tool_result"}
    assert ids == results
    assert len(set(ids.values())) == 2
    assert "" not in ids.values()


async def test_the_next_run_of_a_thread_continues_the_conversation(tmp_path: Path) -> None:
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    path = write(tmp_path)
    first = ScriptedProvider(calls(("double", {"n": 4})), "It is 8.")
    await run(path, first, thread_id="t", checkpointer=store)
    second = ScriptedProvider("Sixteen.")
    events = await run(path, second, "twice?", thread_id="t", checkpointer=store)
    assert sent(second.requests[0]) == [
        ("system", "Help."),
        ("user", "tides"),
        ("assistant", ""),
        ("tool", "8"),
        ("assistant", "It is 8."),
        ("user", "twice?"),
    ]
    assert [message["role"] for message in output(events, "helper")["messages"]] == ["user", "assistant"]
    assert output(events, "helper")["results"] == []
    assert len(events[-1]["state"]["messages"]) == 7


async def test_each_agent_has_a_conversation_of_its_own(tmp_path: Path) -> None:
    graph = (
        GRAPH
        + """
      critic: {type: agent, prompt: judge, state_key: verdict}
    edges: [{from: START, to: helper}, {from: helper, to: critic}, {from: critic, to: END}]
    """
    )
    provider = ScriptedProvider("Water rises.", "Good.")
    path = write(tmp_path, graph, judge='system: "Judge."\nuser: "{answer}"\n')
    events = await run(path, provider)
    assert sent(provider.requests[1]) == [("system", "Judge."), ("user", "Water rises.")]
    assert [message["content"] for message in events[-1]["state"]["messages"]] == [
        "Help.", "tides", "Water rises.", "Judge.", "Water rises.", "Good.",
    ]  # fmt: skip


async def test_the_limit_of_iterations_completes_the_node_with_the_models_last_text(tmp_path: Path) -> None:
    path = write(tmp_path, GRAPH + "        max_iterations: 2\n" + EDGES)
    provider = ScriptedProvider(calls(("double", {"n": 1}), text="First."), calls(("double", {"n": 2})))
    update = output(await run(path, provider), "helper")
    assert len(provider.requests) == 2
    assert (update["answer"], update["_agent_iterations"], update["_agent_limit_reached"]) == ("First.", 2, True)
    assert [one["output"] for one in update["results"]] == ["2", "4"]


@pytest.mark.parametrize("on_error", ["fail", "skip"])
async def test_a_node_fails_if_all_its_calls_failed(tmp_path: Path, on_error: str) -> None:
    path = write(tmp_path, GRAPH + f"        on_error: {on_error}\n" + EDGES)
    provider = ScriptedProvider(calls(("fail", {}), ("nope", {})), "All is well.")
    if on_error == "fail":
        with pytest.raises(NodeError, match="all 2 calls of tools failed; Error: no"):
            await run(path, provider)
    else:
        events = await run(path, provider)
        assert output(events, "helper") == {"answer": None, "errors": events[-1]["state"]["errors"]}


SCHEMA = """
system: Help.
user: "{topic}"
schema:
  name: Level
  fields:
    level: {type: int, description: "how high"}
"""


async def test_fitting_json_in_the_last_text_is_the_structured_result(tmp_path: Path) -> None:
    provider = ScriptedProvider(calls(("double", {"n": 1})), 'It is\n```json\n{"level": 3}\n```\n')
    events = await run(write(tmp_path, work=SCHEMA), provider)
    assert output(events, "helper")["answer"] == {"level": 3}
    assert [request.output_schema for request in provider.requests] == [None, None]


async def test_otherwise_one_more_request_asks_for_it(tmp_path: Path) -> None:
    provider = ScriptedProvider(calls(("double", {"n": 1})), "High.", '{"level": 3}', takes_schema=True)
    events = await run(write(tmp_path, work=SCHEMA), provider)
    assert output(events, "helper")["answer"] == {"level": 3}
    last = provider.requests[-1]
    assert last.tools == ()
    assert last.output_schema is not None
    assert sent(last)[-2:] == [
        ("assistant", "High."),
        ("user", "Give your result as JSON that fits the schema, and nothing else."),
    ]
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3]


APPROVE = GRAPH + "        approve: [double]\n" + EDGES


@pytest.mark.parametrize(
    ("answer", "result", "error"),
    [
        (True, "8", None),
        ("yes", "8", None),
        ({"approve": True, "arguments": {"n": 5}}, "10", None),
        (False, "This call was denied", "Denied"),
        ("not so big", "This call was denied: not so big", "Denied: not so big"),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_call_that_needs_approval_interrupts_the_graph(
    tmp_path: Path, answer: Any, result: str, error: str | None, kind: str
) -> None:
    store = {"type": kind, **({"path": str(tmp_path / "threads.db")} if kind == "sqlite" else {})}
    path = write(tmp_path, APPROVE)
    provider = ScriptedProvider(calls(("echo", {"text": "a"}), ("double", {"n": 4})), "done")
    config: dict[str, Any] = {"thread_id": f"{kind} {answer}", "checkpointer": store}
    events = await run(path, provider, **config)
    assert events[-1]["type"] == "interrupt"
    assert events[-1]["message"] == {"tool": "double", "args": {"n": 4}}
    assert len(provider.requests) == 1
    again = await run(path, provider, None, **config)  # without an answer, the question is asked again
    assert [event["type"] for event in again] == ["interrupt"]
    events = await run(path, provider, None, resume=answer, **config)
    found = [(event["tool"], event["output"], event["error"]) for event in events if event["type"] == "tool_result"]
    assert found == [("double", result, error)]
    assert sent(provider.requests[1])[-2:] == [("tool", "a"), ("tool", result)]
    update = output(events, "helper")
    assert update["answer"] == "done"
    assert [one["tool"] for one in update["results"]] == ["echo", "double"]


async def test_several_calls_are_approved_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path, APPROVE.replace("[double]", "true"))
    provider = ScriptedProvider(calls(("double", {"n": 1}), ("double", {"n": 2})), "done")
    config: dict[str, Any] = {"thread_id": "several"}
    events = await run(path, provider, **config)
    assert events[-1]["message"]["args"] == {"n": 1}
    events = await run(path, provider, None, resume=True, **config)
    assert events[-1]["message"]["args"] == {"n": 2}
    events = await run(path, provider, None, resume=False, **config)
    assert [one["output"] for one in output(events, "helper")["results"]] == ["2", "This call was denied"]


async def test_an_agent_goes_on_when_its_only_call_was_denied(tmp_path: Path) -> None:
    path = write(tmp_path, APPROVE)
    provider = ScriptedProvider(calls(("double", {"n": 1})), "as you want")
    config: dict[str, Any] = {"thread_id": "only one"}
    await run(path, provider, **config)
    events = await run(path, provider, None, resume=False, **config)
    assert output(events, "helper")["answer"] == "as you want"


@pytest.mark.parametrize("answer", [{"call_0": True}, {"call_0": True, "call_1": {"approve": False}}])
async def test_calls_are_approved_by_their_ids(tmp_path: Path, answer: dict[str, Any]) -> None:
    path = write(tmp_path, APPROVE.replace("[double]", "true"))
    provider = ScriptedProvider(calls(("double", {"n": 1}), ("double", {"n": 2})), "done")
    config: dict[str, Any] = {"thread_id": f"by id {answer}", "include_metadata": True}
    first = (await run(path, provider, **config))[-1]
    again = (await run(path, provider, **config))[-1]  # without an answer, the question is asked again
    ids: list[str] = again["metadata"]["calls"]
    assert ids == first["metadata"]["calls"]
    assert len(ids) == 2
    given = {ids[int(key[-1])]: value for key, value in answer.items()}
    events = await run(path, provider, None, resume=given, **config)
    if len(answer) == 1:
        assert events[-1]["message"]["args"] == {"n": 2}
        assert events[-1]["metadata"]["calls"] == ids[1:]
    else:
        assert [one["output"] for one in output(events, "helper")["results"]] == ["2", "This call was denied"]


async def test_what_is_refused_when_a_graph_is_loaded(tmp_path: Path) -> None:
    graph = GRAPH.replace("echo]", "ecco]") + EDGES
    with pytest.raises(GraphError, match=r"graph.yaml:13: node 'helper' has the tool 'ecco'.*did you mean 'echo'"):
        load_graph(write(tmp_path, graph))
    with pytest.raises(GraphError, match=r"'dubble' is not among the agent's tools; did you mean 'double'"):
        load_graph(write(tmp_path, APPROVE.replace("[double]", "[dubble]")))
    graph = """
    nodes:
      many:
        type: map
        over: "{items}"
        node: {type: agent, prompt: work, tools: [echo], approve: true}
    tools:
      echo: {command: "echo {text}"}
    edges: [{from: START, to: many}]
    """
    with pytest.raises(GraphError, match="an agent in a map cannot ask a person"):
        load_graph(write(tmp_path, graph))


async def test_agents_in_a_map_and_in_a_graph_inside_a_graph(tmp_path: Path) -> None:
    graph = """
    prompts_relative: true
    prompts_dir: prompts
    state: {topic: str, many: list}
    nodes:
      all:
        type: map
        over: "{many}"
        as: topic
        node: {type: agent, prompt: work, state_key: answer}
      sub: {type: subgraph, graph: child.yaml, input_mapping: {topic: topic}, output_mapping: {end: answer}}
    edges: [{from: START, to: all}, {from: all, to: sub}, {from: sub, to: END}]
    """
    path = write(tmp_path, graph)
    (tmp_path / "child.yaml").write_text(dedent(GRAPH + EDGES), "utf-8")
    provider = ScriptedProvider(lambda request: f"on {request.messages[-1].text}")
    events = await collect(stream_graph(path, {"topic": "t", "many": ["a", "b"]}, {"provider": provider, "model": "m"}))
    assert [one["answer"] for one in events[-1]["state"]["all"]] == ["on a", "on b"]
    assert events[-1]["state"]["end"] == "on t"
    assert any(event["type"] == "step" and event["node"] == "sub/helper" for event in events)


async def test_graphs_as_tools_show_their_nodes_inside_the_agents(tmp_path: Path) -> None:
    graph = """
    prompts_relative: true
    prompts_dir: prompts
    state: {topic: str}
    tools:
      research: {type: graph, path: child.yaml, input_mapping: {question: topic}, output_key: answer}
    nodes:
      helper: {type: agent, prompt: work, tools: [research], state_key: answer}
    edges: [{from: START, to: helper}, {from: helper, to: END}]
    """
    path = write(tmp_path, graph, ask='user: "child: {topic}"\n')
    (tmp_path / "child.yaml").write_text(
        dedent("""
        prompts_relative: true
        prompts_dir: prompts
        state: {topic: str, answer: str}
        nodes: {find: {prompt: ask, state_key: answer}}
        edges: [{from: START, to: find}]
        """),
        "utf-8",
    )

    def answer(request: Request) -> Any:
        if request.messages[-1].text.startswith("child: "):
            return "found it"
        return calls(("research", {"question": "why"})) if request.messages[-1].role == "user" else "Because."

    events = await run(path, ScriptedProvider(answer))
    inner = [event for event in events if event.get("node") == "helper/find"]
    assert "".join(event["content"] for event in inner if event["type"] == "token") == "found it"
    assert not any(event["type"] == "tool_progress" for event in events)
    [result] = [event for event in events if event["type"] == "tool_result"]
    assert (result["tool"], result["output"]) == ("research", "found it")
    assert output(events, "helper")["answer"] == "Because."


async def test_text_of_all_answers_from_one_node(tmp_path: Path) -> None:
    provider = ScriptedProvider(calls(("double", {"n": 4}), text="Looking. "), "It is 8.")
    path = write(tmp_path)
    tokens = stream_node_output(path, "helper", {"topic": "t"}, {"provider": provider, "model": "m"})
    assert "".join([token async for token in tokens]) == "Looking. It is 8."


async def test_each_answer_counts_as_a_model_call_of_the_run(tmp_path: Path) -> None:
    provider = ScriptedProvider(calls(("double", {"n": 4})))
    with pytest.raises(RunLimitReached, match="max_model_calls=3"):
        await run(write(tmp_path), provider, limits=RunLimits(max_model_calls=3))
    assert len(provider.requests) == 3 or len(provider.requests) == 4


async def test_a_run_that_was_interrupted_runs_no_saved_call_again(tmp_path: Path) -> None:
    """The process ends between two results: the next run of the thread continues where it was."""
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    path = write(tmp_path)
    first = calls(("double", {"n": 4}))
    provider = ScriptedProvider(first, [Chunk("start"), Chunk("text", "It")])  # cut
    with pytest.raises(NodeError, match="without its terminal mark"):
        await run(path, provider, thread_id="t", checkpointer=store)
    provider = ScriptedProvider("It is 8.")
    events = await run(path, provider, None, thread_id="t", checkpointer=store)
    assert sent(provider.requests[0]) == [("system", "Help."), ("user", "tides"), ("assistant", ""), ("tool", "8")]
    assert not [event for event in events if event["type"] == "tool_result"]
    update = output(events, "helper")
    assert (update["answer"], update["_agent_iterations"]) == ("It is 8.", 2)
    assert [one["output"] for one in update["results"]] == ["8"]


async def test_the_text_of_a_run_that_was_saved_whole_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends after the last answer is saved, and before the node is: no request is sent again."""
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    path = write(tmp_path)

    def die(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("streamcore.graph.agent_node._AgentNode._refuse", die)
        with pytest.raises(NodeError, match="killed"):
            await run(path, ScriptedProvider("It is 8."), thread_id="t", checkpointer=store)
    provider = ScriptedProvider("not asked")
    events = await run(path, provider, None, thread_id="t", checkpointer=store)
    assert not provider.requests
    assert [event["content"] for event in events if event["type"] == "token"] == ["It is 8."]
    assert output(events, "helper")["answer"] == "It is 8."


@pytest.mark.skipif(not DEMOS.exists(), reason="the demos of yamlgraph are not here")
async def test_yamlgraphs_memory_demo_ends_as_it_does_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(DEMOS / "graphs" / "memory", tmp_path / "demo")
    repository = tmp_path / "repository"
    repository.mkdir()
    who = {f"GIT_{one}_{what}": "a@x" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in ("init -q", "commit -qm first --allow-empty", "commit -qm second --allow-empty"):
        await anyio.run_process(["git", *command.split()], cwd=repository, env={**os.environ, **who})
    monkeypatch.chdir(repository)
    reference = json.loads((DEMOS / "reference" / "memory.json").read_text("utf-8"))
    answers: list[Any] = []
    for one in reference["runs"]:
        [[_, update]] = one["order"]
        for message in update["messages"]:
            if message["type"] == "ai":
                asked = [(call["name"], call["args"]) for call in message["tool_calls"]]
                answers.append(calls(*asked, text=message["content"]) if asked else message["content"])
    provider = ScriptedProvider(*answers)
    path = tmp_path / "demo" / "examples" / "demos" / "memory" / "graph.yaml"
    for one in reference["runs"]:
        human = next(message for message in one["order"][0][1]["messages"] if message["type"] == "human")
        events = await collect(
            stream_graph(
                path,
                {"input": human["content"].rstrip("\n")},
                {"provider": provider, "model": "m", "thread_id": "demo"},
            )
        )
        state, wanted = events[-1]["state"], one["state"]
        for key in ("response", "_agent_iterations", "_agent_limit_reached", "input"):
            assert state[key] == wanted[key], key
        assert [(each["tool"], each["args"], each["success"]) for each in state["_tool_results"]] == [
            (each["tool"], each["args"], each["success"]) for each in wanted["_tool_results"]
        ]
        assert [message["type"] for message in state["messages"]] == [message["type"] for message in wanted["messages"]]
        assert [message["content"] for message in state["messages"] if message["type"] != "tool"] == [
            message["content"] for message in wanted["messages"] if message["type"] != "tool"
        ]


TOOL_PROMPT = """
user: "{topic}"
tools:
  - {python: "tests.graph.test_agent_node:shout"}
"""


def shout(text: str) -> str:
    """Say it loud."""
    return text.upper()


async def test_an_llm_node_whose_prompt_has_tools_that_run_shows_its_steps(tmp_path: Path) -> None:
    graph = """
    prompts_relative: true
    prompts_dir: prompts
    state: {topic: str}
    nodes: {say: {prompt: work, state_key: said}}
    edges: [{from: START, to: say}]
    """
    provider = ScriptedProvider(calls(("shout", {"text": "ah"}), text="Wait. "), "AH!")
    path = write(tmp_path, graph, work=TOOL_PROMPT)
    events = await run(path, provider, limits=RunLimits(max_model_calls=2))
    assert [event["type"] for event in events if event["type"] not in ("token", "node_start")] == [
        "step", "tool_call", "tool_result", "step", "node_complete", "graph_complete",
    ]  # fmt: skip
    last = max(number for number, event in enumerate(events) if event["type"] == "step")
    assert "".join(event["content"] for event in events[last:] if event["type"] == "token") == "AH!"
    assert output(events, "say")["said"] == "AH!"
    provider = ScriptedProvider(calls(("shout", {"text": "ah"})))
    with pytest.raises(RunLimitReached, match="max_model_calls=2"):
        await run(path, provider, limits=RunLimits(max_model_calls=2))


async def test_an_llm_node_cannot_ask_for_approval(tmp_path: Path) -> None:
    graph = """
    prompts_relative: true
    prompts_dir: prompts
    state: {topic: str}
    nodes: {say: {prompt: work, state_key: said}}
    edges: [{from: START, to: say}]
    """
    prompt = TOOL_PROMPT.replace(':shout"', ':shout", needs_approval: true')
    provider = ScriptedProvider(calls(("shout", {"text": "ah"})))
    with pytest.raises(ConfigError, match="calls 'shout', which needs approval; only nodes of the type 'agent'"):
        await run(write(tmp_path, graph, work=prompt), provider)
