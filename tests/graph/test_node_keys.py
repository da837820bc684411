"""Test the keys that several types of nodes have: guards, cache, timeout, tokens; and those of the whole graph."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import (
    ConfigError,
    GraphError,
    MissingAPIKey,
    NodeError,
    PromptError,
    RunLimitReached,
    stream_graph_with_tokens,
    stream_node_output,
)
from streamcore.graph import cache, time_limit
from streamcore.graph.check import check_graph
from streamcore.testing import ScriptedProvider
from tests.graphs import Events, collect, kinds, output, ran, text_of, write_graph

pytestmark = pytest.mark.anyio

FUNCTIONS = """
import time
calls = []

def f(state):
    calls.append(dict(state))
    return len(calls)

def slow(state):
    time.sleep(state.get("seconds", 30))

async def sleep(state):
    import anyio
    await anyio.sleep_forever()

def slow_tool(seconds=30):
    time.sleep(seconds)
"""


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    cache.kept_outputs.clear()
    yield
    cache.kept_outputs.clear()


def graph(folder: Path, node: str, top: str = "") -> Path:
    (folder / "functions.py").write_text(FUNCTIONS, "utf-8")
    text = f"""
    {top}
    tools:
      show: {{command: "printf %s {{text}}"}}
      stall: {{command: "sleep 600"}}
      f: {{type: python, path: functions.py, function: f}}
      slow: {{type: python, path: functions.py, function: slow}}
      sleep: {{type: python, path: functions.py, function: sleep}}
      slow_tool: {{type: python, path: functions.py, function: slow_tool}}
    nodes:
      a: {node}
      b: {{type: passthrough, output: {{done: true}}}}
    edges: [{{from: START, to: a}}, {{from: a, to: b}}]
    """
    return write_graph(
        folder, text, say="{text}", schema="\nuser: '{text}'\nschema: {name: S, fields: {n: {type: int}}}\n"
    )


async def run(path: Path, state: Mapping[str, Any] | None = None, *said: Any, **config: Any) -> Events:
    provider = ScriptedProvider(*said) if said else ScriptedProvider(lambda request: request.messages[-1].text)
    given = {"provider": provider, "model": "m", **config}
    return await collect(stream_graph_with_tokens(path, {"text": "hello", **(state or {})}, given))


# Guards


def guarded(when: str, check: str, fails: str, more: str = "") -> str:
    return f'{{prompt: say, state_key: said, guards: {{{when}: [{{check: "{check}", on_fail: {fails}{more}}}]}}}}'


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("state.text == 'hello'", True),
        ("{state.text == 'hello'}", True),
        ("text | length > 4 and not state.none", True),
        ("state.none | length == 0", True),
        ("'ell' in state.text or state.text in ['x']", True),
        ("state.text | type == 'str'", True),
        ("state.none | type == 'NoneType'", True),
        ("'a' in state.map | keys", True),
        ("state.folder | dir_exists", True),
        ("state.file | file_exists", True),
        ("'/none' | file_exists", False),
        ("state.none > 3", False),
        ("state.text.x.y == 1", False),
        ("false", False),
    ],
)
async def test_what_a_check_may_say(tmp_path: Path, check: str, holds: bool) -> None:
    path = graph(tmp_path, guarded("pre", check, "skip"))
    state = {"map": {"a": 1}, "folder": str(tmp_path), "file": str(path)}
    assert (output(await run(path, state), "a")["said"] == "hello") is holds


async def test_a_guard_before_a_node_may_end_the_run(tmp_path: Path) -> None:
    path = graph(
        tmp_path, guarded("pre", "state.x", "halt", ", message: No x").replace("{prompt", "{on_error: skip, prompt")
    )
    with pytest.raises(NodeError, match=r"node 'a' of graph 'graph' failed: a guard before it is not fulfilled: No x$"):
        await run(path)


async def test_a_guard_before_a_node_may_skip_it(tmp_path: Path) -> None:
    events = await run(graph(tmp_path, guarded("pre", "state.x", "skip")))
    assert text_of(events, "a") == ""
    assert output(events, "a") == {
        "said": None,
        "errors": [{"node": "a", "type": "GuardFailed", "message": "state.x", "tolerated": True}],
    }
    assert ran(events) == ["a", "b"]


@pytest.mark.parametrize("when", ["pre", "post"])
async def test_a_guard_may_warn(tmp_path: Path, when: str) -> None:
    found = output(await run(graph(tmp_path, guarded(when, "state.x", "warn"))), "a")
    assert found["said"] == "hello"
    assert [one["message"] for one in found["errors"]] == ["state.x"]


async def test_a_guard_after_a_node_may_run_it_again(tmp_path: Path) -> None:
    path = graph(tmp_path, guarded("post", "output != 'bad'", "retry", ", max_retries: 2"))
    events = await run(path, {}, "bad", "bad", "good")
    assert output(events, "a") == {"said": "good"}
    assert text_of(events, "a") == "good"
    assert kinds(events)[:4] == [("node_start", "a"), ("restart", "a"), ("restart", "a"), ("node_complete", "a")]
    with pytest.raises(NodeError, match="a guard after it is not fulfilled: output != 'bad'"):
        await run(path, {}, "bad", "bad", "bad", "good")


async def test_a_guard_after_a_node_may_end_the_run(tmp_path: Path) -> None:
    path = graph(tmp_path, guarded("post", "output == 'x' and state.said == output", "halt"))
    assert output(await run(path, {}, "x"), "a") == {"said": "x"}
    with pytest.raises(NodeError, match="a guard after it"):
        await run(path, {}, "y")


async def test_a_guard_reads_structured_output(tmp_path: Path) -> None:
    path = graph(tmp_path, guarded("post", "output.n > 3", "retry").replace("prompt: say", "prompt: schema"))
    assert output(await run(path, {}, '{"n": 1}', '{"n": 4}'), "a") == {"said": {"n": 4}}


async def test_guards_of_functions_and_commands(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: python, tool: f, guards: {post: [{check: output > 1, on_fail: retry}]}}")
    assert output(await run(path), "a") == {"a": 2}
    path = graph(tmp_path, "{type: tool, tool: show, variables: {text: x}, guards: {post: [{check: output == 'y'}]}}")
    with pytest.raises(NodeError, match="a guard after it"):
        await run(path)


async def test_a_guard_cannot_restart_a_text(tmp_path: Path) -> None:
    path = graph(tmp_path, guarded("post", "output != 'bad'", "retry"))
    config: dict[str, Any] = {"provider": ScriptedProvider("bad", "good"), "model": "m"}
    with pytest.raises(NodeError, match="a guard after it"):
        await collect(stream_node_output(path, "a", {"text": "x"}, config))


async def test_guards_and_the_time_limit_of_an_agent(tmp_path: Path) -> None:
    path = graph(tmp_path, "{type: agent, prompt: say, guards: {post: [{check: output == 'y', on_fail: retry}]}}")
    events = await run(path, {}, "x", "y")
    assert (output(events, "a")["a"], text_of(events, "a")) == ("y", "y")
    with pytest.raises(NodeError, match="a guard after it"):
        await run(path, {}, "x", "z")
    path = graph(tmp_path, "{type: agent, prompt: say, timeout: 0.3}")
    with pytest.raises(NodeError, match=r"TimeoutError: it took longer than 0\.3 s"):
        await run(path, {}, ["part", anyio.sleep_forever])


@pytest.mark.parametrize(("fails", "count"), [("warn", 1), ("halt", None)])
async def test_the_whole_graph_is_verified_at_its_end(tmp_path: Path, fails: str, count: int | None) -> None:
    path = graph(tmp_path, "{prompt: say}", f"verify: [{{check: done and not x, on_fail: {fails}, message: Why}}]")
    assert "errors" not in (await run(path))[-1]["state"]
    if count is None:
        with pytest.raises(NodeError, match="the verification of graph 'graph' failed: Why"):
            await run(path, {"x": 1})
        return
    [error] = (await run(path, {"x": 1}))[-1]["state"]["errors"]
    assert (error["node"], error["message"]) == ("verify", "Why")


# Cache


async def test_an_answer_is_kept_by_its_input(tmp_path: Path) -> None:
    path = graph(tmp_path, "{prompt: say, cache: true}")
    provider = ScriptedProvider("one two", "three four")
    for text, said, tokens in (("x", "one two", 2), ("x", "one two", 1), ("y", "three four", 2)):
        events = await run(path, {"text": text, "other": tokens}, provider=provider)
        assert (output(events, "a"), text_of(events, "a")) == ({"a": said}, said)
        assert sum(event["type"] == "token" for event in events) == tokens
    assert len(provider.requests) == 2
    await run(path, {"text": "x"}, provider=provider, model="other")
    assert len(provider.requests) == 3


async def test_what_is_kept_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = graph(tmp_path, "{type: python, tool: f, cache: {ttl: 10}}")
    assert [output(await run(path), "a")["a"] for _ in range(2)] == [1, 1]
    assert output(await run(path, {"text": "other"}), "a")["a"] == 2
    now = time.monotonic() + 11
    monkeypatch.setattr(cache, "clock", lambda: now)
    assert output(await run(path), "a")["a"] == 3


async def test_an_output_that_failed_is_not_kept(tmp_path: Path) -> None:
    path = graph(tmp_path, "{prompt: say, cache: true, on_error: skip}")
    provider = ScriptedProvider(["half"], "whole")
    await run(path, provider=provider)
    assert output(await run(path, provider=provider), "a") == {"a": "whole"}


async def test_no_more_are_kept_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_ENTRIES", 2)
    path = graph(tmp_path, "{type: tool, tool: show, variables: {text: '{text}'}, cache: true}")
    for text in "abc":
        await run(path, {"text": text})
    assert len(cache.kept_outputs) == 2


# Time


@pytest.mark.long
@pytest.mark.parametrize(
    "node",
    [
        "{prompt: say, timeout: 2}",
        "{type: python, tool: sleep, timeout: 0.3}",
        "{type: python, tool: slow, timeout: 0.3, variables: {seconds: 2}}",
        "{type: tool, tool: stall, timeout: 0.3}",
        "{type: tool_call, tool: stall, timeout: 0.3, on_error: fail}",
        "{type: tool_call, tool: slow_tool, args: {seconds: 2}, timeout: 0.3, on_error: fail}",
    ],
)
async def test_a_node_that_is_late_fails(tmp_path: Path, node: str) -> None:
    path = graph(tmp_path, node)
    said = [["part", anyio.sleep_forever]]
    with pytest.raises(NodeError, match=r"failed: TimeoutError: it took longer than (0\.3|2) s") as caught:
        await run(path, {}, *said)
    assert isinstance(caught.value.cause, TimeoutError)
    if "prompt" in node:
        assert caught.value.partial is not None
        assert caught.value.partial.text == "part"


async def test_a_late_node_may_be_skipped(tmp_path: Path) -> None:
    events = await run(graph(tmp_path, "{type: tool, tool: stall, timeout: 0.3, on_error: skip}"))
    assert output(events, "a")["a"] is None
    assert output(events, "a")["errors"][0]["type"] == "TimeoutError"
    events = await run(graph(tmp_path, "{type: tool_call, tool: stall, timeout: 0.3}"))
    assert output(events, "a")["result"]["error"] == "it took longer than 0.3 s"


@pytest.mark.long
@pytest.mark.parametrize("more", ["on_error: retry", "on_error: fallback, fallback: {provider: 'late_fallback:make'}"])
async def test_a_late_answer_may_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    (tmp_path / "late_fallback.py").write_text(
        "from streamcore.testing import ScriptedProvider\n"
        "def make(**settings):\n"
        "    return ScriptedProvider('from another')\n",
        "utf-8",
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "late_fallback", raising=False)
    provider = ScriptedProvider(["part", anyio.sleep_forever], "again")
    events = await run(graph(tmp_path, f"{{prompt: say, timeout: 3, {more}}}"), provider=provider)
    assert kinds(events)[:3] == [("node_start", "a"), ("restart", "a"), ("node_complete", "a")]
    assert text_of(events, "a") == ("from another" if "fallback" in more else "again")
    assert output(events, "a")["a"] == text_of(events, "a")
    assert provider.open == 0


async def test_a_fallback_that_cannot_be_asked_has_the_timeout_as_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    node = "{prompt: say, timeout: 100, on_error: fallback, fallback: {provider: openai}}"
    late = TimeoutError("it took too long")
    with pytest.raises(MissingAPIKey) as caught:
        await run(graph(tmp_path, node), {}, ["part", late])
    assert caught.value.__cause__ is late


async def test_the_time_of_the_reader_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time_limit, "clock", lambda: now[0])

    async def items() -> AsyncGenerator[int]:
        for number in range(3):
            now[0] += 20
            yield number

    left = time_limit.TimeLeft(1000)
    async for _ in time_limit.in_time(items(), left):
        now[0] += 5000
    assert left.seconds == 940


async def test_the_whole_run_has_a_time_limit(tmp_path: Path) -> None:
    path = graph(
        tmp_path, "{type: python, tool: sleep}", "config: {timeout: 0.3, recursion_limit: 50, tool_load_mode: x}"
    )
    with pytest.raises(RunLimitReached, match=r"config\.timeout=0\.3") as caught:
        await run(path)
    assert caught.value.limit == "timeout"


# Tokens and thinking


@pytest.mark.parametrize(
    ("node", "top", "asked"),
    [
        ("max_tokens: 5", "", (5, None, 0.7)),
        ("max_tokens: 5", "defaults: {max_tokens: 7}", (5, None, 0.7)),
        ("temperature: 0.2", "defaults: {max_tokens: 7, thinking_budget: 2048}", (7, 2048, 1.0)),
        ("thinking_budget: 0", "defaults: {thinking_budget: 2048}", (None, "none", 0.7)),
        ("thinking_budget: 1024", "", (None, 1024, 1.0)),
    ],
)
async def test_tokens_and_thinking_of_a_request(tmp_path: Path, node: str, top: str, asked: Any) -> None:
    provider = ScriptedProvider("x")
    await run(graph(tmp_path, f"{{prompt: say, {node}}}", top), provider=provider)
    [request] = provider.requests
    temperature = request.temperature if request.temperature is not None else request.default_temperature
    assert (request.max_tokens, request.reasoning, temperature) == asked


async def test_a_provider_without_thinking_refuses_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    with pytest.raises(ConfigError, match="reasoning=2048"):
        await run(graph(tmp_path, "{prompt: say, thinking_budget: 2048}"), provider="openai", model="m")


# A router's field


@pytest.mark.parametrize(("field", "kept"), [("route_field: n", 7), ("", {"n": 7})])
async def test_a_router_keeps_the_text_of_its_field(tmp_path: Path, field: str, kept: Any) -> None:
    routes = "routes: {'7': b}, default_route: a" if field else "routes: {'8': a}, default_route: b"
    path = graph(tmp_path, f"{{type: router, prompt: schema, state_key: way, {routes}, {field}}}")
    events = await run(path, {}, '{"n": 7}')
    assert ran(events) == ["a", "b"]
    assert output(events, "a") == {"way": kept}


# First values


async def test_first_values_of_the_state(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.yaml").write_text("x: 1\n", "utf-8")
    (tmp_path / "data" / "two.yaml").write_text("", "utf-8")
    (tmp_path / "single.yaml").write_text("[1, 2]\n", "utf-8")
    top = """
    variables: {text: first, list: variable, all: {deep: [1]}}
    data_files: {list: single.yaml, files: "data/*.yaml", none: "no/*.yaml"}
    """
    path = graph(tmp_path, "{type: passthrough, output: {seen: '{list}'}}", top)
    state = (await run(path, {"given": 1}))[-1]["state"]
    assert {key: state[key] for key in ("text", "list", "all", "files", "none", "seen")} == {
        "text": "hello",
        "list": [1, 2],
        "all": {"deep": [1]},
        "files": {"one": {"x": 1}, "two": {}},
        "none": {},
        "seen": [1, 2],
    }
    assert (await run(path, {"list": 0}))[-1]["state"]["seen"] == 0
    assert check_graph(path) == []


async def test_first_values_are_no_missing_variables(tmp_path: Path) -> None:
    path = graph(tmp_path, "{prompt: say}", "state: {text: str}\n    variables: {text: first}")
    assert check_graph(path, {}) == []
    config: dict[str, Any] = {"provider": ScriptedProvider(lambda request: request.messages[-1].text), "model": "m"}
    events = await collect(stream_graph_with_tokens(path, {}, config))
    assert output(events, "a") == {"a": "first"}


async def test_the_saved_state_overrides_variables_and_not_files(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text("1\n", "utf-8")
    top = "variables: {v: 1}\n    data_files: {n: n.yaml}"
    path = graph(tmp_path, "{type: passthrough, output: {v: '{v + 1}', n: '{n + 1}'}}", top)
    config = {"thread_id": str(tmp_path)}
    states = [(await run(path, {}, "x", **config))[-1]["state"] for _ in range(2)]
    assert [(state["v"], state["n"]) for state in states] == [(2, 2), (3, 2)]


@pytest.mark.parametrize(
    ("written", "text", "says"),
    [
        ("none.yaml", None, r"graph.yaml:4: data_files.x: there is no file"),
        ("bad.yaml", "a: [", r"bad.yaml:1"),
        ("link.yaml", "", "leads out of the graph's folder"),
    ],
)
async def test_a_data_file_that_cannot_be_read(tmp_path: Path, written: str, text: str | None, says: str) -> None:
    folder = tmp_path / "inside"
    if written == "link.yaml":
        folder.mkdir()
        (tmp_path / "secret.yaml").write_text("a: 1\n", "utf-8")
        (folder / written).symlink_to(tmp_path / "secret.yaml")
    path = graph_in(folder, written)
    if text:
        (folder / written).write_text(text, "utf-8")
    with pytest.raises(GraphError, match=says):
        await run(path)
    assert any(line for line in check_graph(path))


def graph_in(folder: Path, written: str) -> Path:
    folder.mkdir(exist_ok=True)
    return graph(folder, "{prompt: say}", f"data_files: {{x: {written}}}")


async def test_a_variable_that_is_missing_is_still_an_error(tmp_path: Path) -> None:
    path = graph(tmp_path, "{prompt: say}", "variables: {other: 1}")
    config: dict[str, Any] = {"provider": ScriptedProvider("x"), "model": "m"}
    with pytest.raises(PromptError, match="'text'"):
        await collect(stream_graph_with_tokens(path, {}, config))
