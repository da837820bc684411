"""Use `/agui` with the real client, `HttpAgent` of @ag-ui/client under Node.js."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore import Chunk, ToolCall
from streamcore.testing import Answer, FaultServer, PlannedCall, ScriptedProvider, Simulator
from streamcore.web import create_app
from tests.agui_support import user
from tests.node_clients import NodeClients
from tests.serving import serving
from tests.sse_support import HOSTILE
from tests.support import wait_until
from tests.web.endpoints.agui.test_agui import CALL, DECISIONS, FUNCTIONS, LOOK, poem
from tests.web.endpoints.conftest import ROOT, Serve

pytestmark = pytest.mark.long

APPROVED = {"status": "resolved", "payload": True}
OPENAI: dict[str, Any] = {"forwardedProps": {"model": "openai/gpt-5.4-mini"}}


def runs(node: NodeClients, url: str, *each: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Return what the client has after each run; it must not have warned of anything."""
    found = node.run("agui.mjs", f"{url}/agui", {"threadId": "t1", **options}, each)
    assert not found["warnings"]
    outcomes: list[dict[str, Any]] = found["outcomes"]
    return outcomes


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [user(text, f"u-{text}")], **more}


def test_hostile_texts_arrive_to_the_last_character(serve: Serve, node: NodeClients) -> None:
    with Simulator([Answer(HOSTILE)]) as upstream, serve(upstream) as url:
        (found,) = runs(node, url, asked("Hi", parameters=OPENAI))
    assert found["messages"][-1]["content"] == "".join(HOSTILE)
    assert (found["outcome"], found["error"], found["result"]) == ("success", None, {"finishReason": "stop"})


def test_parallel_calls_are_answered_by_the_client(serve: Serve, node: NodeClients) -> None:
    both = [PlannedCall("look", {"x": 1}, "a"), PlannedCall("look", {"x": 2}, "b")]
    results = [{"id": f"r{one}", "role": "tool", "toolCallId": one, "content": "sunny"} for one in "ab"]
    more = {"parameters": {**OPENAI, "tools": [LOOK]}}
    with Simulator([Answer.of("I look. ", calls=both), "Sunny."]) as upstream, serve(upstream) as url:
        first, last = runs(node, url, asked("Weather?", **more), {"messages": results, **more})
        sent = upstream.requests[-1].body["messages"]
    assert first["pending"] == ["a", "b"]
    assert [call["id"] for call in first["messages"][-1]["toolCalls"]] == ["a", "b"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert last["messages"][-1]["content"] == "Sunny."
    assert last["pending"] == []


@pytest.mark.parametrize("fault", ["closed-mid-stream", "end-without-mark", "error-event"])
def test_a_cut_upstream_is_never_an_end(serve: Serve, node: NodeClients, fault: str) -> None:
    with FaultServer(fault, wire="openai-chat") as upstream, serve(upstream) as url:
        (found,) = runs(node, url, asked("Hi", parameters=OPENAI))
    assert found["errorEvent"]
    assert found["outcome"] is None
    assert "RUN_FINISHED" not in found["types"]
    assert found["messages"][-1]["content"]  # what arrived


def test_a_status_rejects_the_run(serve: Serve, node: NodeClients) -> None:
    with FaultServer("rate-limited", wire="openai-chat") as upstream, serve(upstream) as url:
        (found,) = runs(node, url, asked("Hi", parameters=OPENAI))
    assert found["error"]["status"] == 429
    assert found["error"]["payload"]["error"]["type"] == "rate_limit"


def test_an_abort_closes_the_upstream(serve: Serve, node: NodeClients) -> None:
    with Simulator([Answer(["x "] * 100_000)], rate=500) as upstream, serve(upstream) as url:
        found = runs(node, url, asked("Hi", parameters=OPENAI, abortAfter="TEXT_MESSAGE_CONTENT"))[0]
        wait_until(lambda: not upstream.open, "the upstream was closed")
    assert found["outcome"] is None


@pytest.mark.parametrize(("payload", "content", "logged"), DECISIONS)
def test_an_interrupt_is_resumed(
    serve: Serve, node: NodeClients, tmp_path: Path, payload: Any, content: str, logged: str | None
) -> None:
    (tmp_path / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:delete"}]\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    answer = {"status": "cancelled"} if payload is None else {"status": "resolved", "payload": payload}
    with Simulator([CALL, "Done."]) as upstream, serve(upstream, "p", provider="openai", prompts_dir=tmp_path) as url:
        first, last, after = runs(node, url, asked("Delete it"), {"resume": [answer]}, asked("Thanks"))
    assert first["outcome"] == "interrupt"
    assert first["pendingInterrupts"][0]["toolCallId"] == "d1"
    assert last["outcome"] == "success"
    assert [message["role"] for message in last["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert content in last["messages"][2]["content"]
    assert last["messages"][3]["content"] == "Done."
    assert ((tmp_path / "log").read_text("utf-8") if logged else None) == logged
    assert after["error"] is None


def test_deltas_rebuild_the_state_of_a_graph(serve: Serve, node: NodeClients, tmp_path: Path) -> None:
    with Simulator() as upstream, poem(serve, upstream, tmp_path, client_variables=["tone"]) as url:
        first, last = runs(node, url, asked("the sea"), asked("the sky"), initialState={"tone": "low"})
    assert (first["state"]["topic"], first["state"]["tone"]) == ("the sea", "low")
    assert first["messages"][1]["content"] == first["state"]["text"]
    assert last["state"]["topic"] == "the sky"
    assert last["error"] is None
    assert first["types"].count("STEP_STARTED") == 2


def test_a_graph_that_asks_is_resumed(node: NodeClients) -> None:
    with serving(create_app(str(ROOT / "graphs" / "interview.yaml"), provider="demo")) as url:
        first, last = runs(node, url, {}, {"resume": [{"status": "resolved", "payload": "Ada"}]})
    assert first["pendingInterrupts"][0]["message"] == "What is your name?"
    assert last["error"] is None
    assert last["outcome"] in ("success", "interrupt")


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("arguments", ['{"path": "a.tx', '{"path": a.txt}', "a.txt"])
def test_broken_arguments_of_a_tool_that_runs_here(
    node: NodeClients, tmp_path: Path, arguments: str, asks: bool
) -> None:
    (tmp_path / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:delete"}]\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS.replace("needs_approval=True", f"needs_approval={asks}"), "utf-8")
    broken = [
        Chunk("tool_call", tool_call=ToolCall("d1", "delete", arguments)),
        Chunk("finish", finish_reason="tool_calls"),
    ]
    provider = ScriptedProvider(broken, ["Sorry.", Chunk("finish", finish_reason="stop")])
    with serving(create_app("p", provider=provider, prompts_dir=tmp_path)) as url:
        found = runs(node, url, asked("Delete it"), *([{"resume": [APPROVED]}] if asks else []))
    (call,) = found[0]["messages"][1]["toolCalls"]
    assert json.loads(call["function"]["arguments"])["INVALID_JSON"] == arguments
    assert found[0]["outcome"] == ("interrupt" if asks else "success")
    last = found[-1]
    assert (last["outcome"], last["error"], last["messages"][-1]["content"]) == ("success", None, "Sorry.")
    assert not (tmp_path / "log").exists()


def test_broken_arguments_of_a_tool_of_the_client(node: NodeClients, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text('user: "{message}"\n', "utf-8")
    broken = [
        Chunk("tool_call", tool_call=ToolCall("l1", "look", "{'x': 1}")),
        Chunk("finish", finish_reason="tool_calls"),
    ]
    with serving(create_app("p", provider=ScriptedProvider(broken), prompts_dir=tmp_path)) as url:
        (found,) = runs(node, url, asked("Look", parameters={"tools": [LOOK]}))
    assert "TOOL_CALL_END" not in found["types"]  # no client runs the tool with {}
    assert "not valid JSON" in found["errorEvent"]


def test_a_run_in_the_relay_is_read_again(serve: Serve, node: NodeClients) -> None:
    more = {"parameters": {"runId": "r1", "forwardedProps": {**OPENAI["forwardedProps"], "relay": True}}}
    with Simulator([Answer([f"{number} " for number in range(100)])], rate=200) as upstream, serve(upstream) as url:
        runs(node, url, asked("Hi", abortAfter="TEXT_MESSAGE_CONTENT", **more))
        (found,) = runs(node, url, asked("Hi", **more))
        assert len(upstream.requests) == 1
    assert found["messages"][-1]["content"] == "".join(f"{number} " for number in range(100))
    assert found["outcome"] == "success"
