"""Test the nodes that call tools: `tool`, `tool_call`, and `variables` of python nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore import ConfigError, NodeError, stream_graph_with_tokens
from streamcore.graph.check import check_graph
from tests.graphs import collect, output, write_graph

pytestmark = pytest.mark.anyio

DEMOS = Path(__file__).resolve().parents[3] / "shared" / "yamlgraph"

FUNCTIONS = """
def add(a: int, b: int = 1) -> int:
    return a + b

def fail(a=1):
    raise ValueError("bad luck")

def seen(state):
    return {"seen": dict(state)}
"""


def graph(folder: Path, nodes: str, tools: str = "") -> Path:
    (folder / "functions.py").write_text(FUNCTIONS, "utf-8")
    (folder / "prompts").mkdir(exist_ok=True)
    path = folder / "graph.yaml"
    path.write_text(
        "tools:\n"
        "  show: {type: shell, command: 'printf %s {text}', description: Shows.}\n"
        '  data: {command: "cat {file}", parse: json}\n'
        '  bad: {command: "echo why >&2; exit 2"}\n'
        "  add: {type: python, path: functions.py, function: add}\n"
        "  fail: {type: python, path: functions.py, function: fail}\n"
        "  seen: {type: python, path: functions.py, function: seen}\n"
        f"{tools}\n"
        f"nodes:\n  a: {nodes}\n"
        "edges: [{from: START, to: a}]\n",
        "utf-8",
    )
    return path


async def final(path: Path, state: dict[str, Any]) -> dict[str, Any]:
    events = await collect(stream_graph_with_tokens(path, state))
    found: dict[str, Any] = events[-1]["state"]
    return found


async def test_a_tool_node_sets_its_key_to_the_output(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: tool, tool: show, variables: {text: '{state.word}!'}, state_key: out}")
    assert check_graph(path) == []
    assert (await final(path, {"word": "$(ls) 'x'"}))["out"] == "$(ls) 'x'!"


async def test_a_tool_node_parses_json(tmp_path: Path) -> None:
    (tmp_path / "data file.json").write_text('{"a": [1]}', "utf-8")
    path = graph(tmp_path, "{type: tool, tool: data, variables: {file: '{state.file}'}}")
    assert (await final(path, {"file": str(tmp_path / "data file.json")}))["a"] == {"a": [1]}


async def test_a_tool_node_that_fails(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match=r"node 'a' of graph 'graph' failed: ToolFailed: why$"):
        await final(graph(tmp_path, "{type: tool, tool: bad}"), {})
    state = await final(graph(tmp_path, "{type: tool, tool: bad, on_error: skip}"), {"errors": ["before"]})
    assert state["a"] is None
    assert state["errors"] == [
        "before",
        {"node": "a", "type": "ToolFailed", "message": "why", "tolerated": True},
    ]


CALL = "{type: tool_call, tool: '{state.task.tool}', args: '{state.task.args}', state_key: out}"


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (
            {"id": 7, "tool": "add", "args": {"a": 1, "b": 2}},
            {"task_id": 7, "success": True, "result": 3, "error": None},
        ),
        ({"tool": "show", "args": {"text": "; ls"}}, {"success": True, "result": "; ls"}),
        ({"tool": "nope"}, {"task_id": None, "success": False, "result": None, "error": "Unknown tool: nope"}),
        ({"tool": ["add"]}, {"success": False, "error": "Unknown tool: ['add']"}),
        (
            {"tool": "add", "args": {"c": 1}},
            {"success": False, "error": "wrong arguments: missing a required argument: 'a'"},
        ),
        ({"tool": "fail", "args": "no mapping"}, {"success": False, "error": "bad luck"}),
        ({"tool": "bad"}, {"success": False, "error": "why"}),
        ({}, {"success": False, "tool": None, "error": "Unknown tool: None"}),
    ],
)
async def test_tool_call_calls_what_the_state_names(tmp_path: Path, task: Any, found: dict[str, Any]) -> None:
    state = await final(graph(tmp_path, CALL), {"task": task})
    assert {**state["out"], **found} == state["out"]
    assert [*state["out"]] == ["task_id", "tool", "success", "result", "error"]
    assert state["out"]["tool"] == task.get("tool")


async def test_tool_call_with_a_name_and_a_mapping(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: tool_call, tool: add, args: {a: '{state.n}', b: 5}}")
    assert check_graph(path) == []
    assert (await final(path, {"n": 2}))["result"]["result"] == 7


async def test_tool_call_may_fail_the_node(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="ValueError: bad luck"):
        await final(graph(tmp_path, "{type: tool_call, tool: fail, on_error: fail}"), {})


async def test_tool_call_in_a_map(tmp_path: Path) -> None:
    item = "{type: tool_call, tool: add, args: {a: '{state.n}'}}"
    path = graph(tmp_path, f"{{type: map, over: '{{state.numbers}}', as: n, node: {item}, collect: all}}")
    found = (await final(path, {"numbers": [1, 5]}))["all"]
    assert len(found) == 2
    assert "6" in json.dumps(found[1])


async def test_variables_are_laid_over_the_state_of_a_function(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: python, tool: seen, variables: {x: '{state.y + 1}', y: null}}")
    state = await final(path, {"y": 1, "z": 3})
    assert {key: state["seen"][key] for key in "xyz"} == {"x": 2, "y": None, "z": 3}
    assert state["y"] == 1


async def test_a_function_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: tool_call, tool: gone}", "  gone: {type: python, path: functions.py, function: no}")
    with pytest.raises(ConfigError, match=r"graph.yaml:8: the tool 'gone' cannot be loaded: .* 'no'"):
        await final(path, {})


async def test_check_names_what_a_tool_reads_and_nothing_sets(tmp_path: Path) -> None:
    path = write_graph(
        tmp_path,
        """
        state: {word: str}
        tools: {show: {command: "printf %s {text}"}}
        nodes:
          a: {type: tool, tool: show, variables: {text: "{state.wrod}"}}
          b: {type: tool_call, tool: show, args: "{state.argz}"}
        edges: [{from: START, to: a}, {from: a, to: b}]
        """,
    )
    assert [line.partition("graph.yaml:")[2][:38] for line in check_graph(path)] == [
        "7: node 'a' reads 'wrod', which is not",
        "8: node 'b' reads 'argz', which is not",
    ]


@pytest.mark.skipif(not DEMOS.exists(), reason="the graphs are not next to the checkout")
async def test_the_graph_of_yamlgraph_runs_unmodified(monkeypatch: pytest.MonkeyPatch) -> None:
    root = DEMOS / "graphs" / "tool-call"
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    for name in [one for one in sys.modules if one == "examples" or one.startswith("examples.")]:
        monkeypatch.delitem(sys.modules, name)
    [run] = json.loads((DEMOS / "reference" / "tool-call.json").read_text("utf-8"))["runs"]
    path = root / "examples" / "demos" / "tool-call" / "graph.yaml"
    events = await collect(stream_graph_with_tokens(path, {"text": run["state"]["text"]}))
    state = events[-1]["state"]
    assert state == {key: run["state"][key] for key in ("text", "task", "result")}
    assert output(events, "dispatch") == {"result": run["state"]["result"]}
    for name in [one for one in sys.modules if one == "examples" or one.startswith("examples.")]:
        monkeypatch.delitem(sys.modules, name)
