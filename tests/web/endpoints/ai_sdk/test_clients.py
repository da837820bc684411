"""Use `/api/chat` with the chat class of `useChat` under Node.js, over real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from streamcore.web import create_app
from tests.browser.test_relay_pages import cutting
from tests.node_clients import NodeClients
from tests.serving import serving
from tests.sse.ai_sdk.test_encoder import HOSTILE
from tests.support import provider_at, wait_until
from tests.web.endpoints.conftest import Serve

WEATHER = {"name": "weather", "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}}}
FUNCTIONS = '''
from pathlib import Path
from streamcore import Image
from streamcore.tools import tool

@tool
async def add(a: int, b: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}

@tool(needs_approval=True)
async def book(seat: int) -> str:
    """Book a seat."""
    with Path(__file__).with_name("log").open("a") as log:
        log.write(f"{seat};")
    return f"booked {seat}"

def plus(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

def reserve(seat: int) -> str:
    """Book a seat."""
    with Path(__file__).with_name("log").open("a") as log:
        log.write(f"{seat};")
    return f"booked {seat}"

@tool
async def picture() -> Image:
    """Return a picture."""
    return Image(data=b"PNG", media_type="image/png")
'''
GRAPH = """
state:
  topic: str
nodes:
  ask:
    type: interrupt
    message: "Which tone?"
    resume_key: tone
  write:
    type: llm
    prompt: greet
    variables: {name: "{state.topic} {state.tone}"}
    state_key: text
edges:
  - {from: START, to: ask}
  - {from: ask, to: write}
  - {from: write, to: END}
"""

AGENT = """
prompts_relative: true
state:
  topic: str
tools:
  add: {type: python, path: functions.py, function: plus}
  book: {type: python, path: functions.py, function: reserve}
nodes:
  work: {type: agent, prompt: do, tools: [add, book], approve: [book], variables: {message: "{state.topic}"}}
edges: [{from: START, to: work}, {from: work, to: END}]
"""


def run_chat(node: NodeClients, url: str, *send: Any, **given: Any) -> Any:
    return node.run("ui_chat.mjs", {"api": url, "id": "chat-1", "send": send, **given})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tools = '[{python: "functions.py:add"}, {python: "functions.py:book"}]'
    (tmp_path / "p.yaml").write_text(f'user: "{{message}}"\ntools: {tools}\n', "utf-8")
    (tmp_path / "look.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:picture"}]\n', "utf-8")
    (tmp_path / "do.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "agent.yaml").write_text(AGENT, "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    (tmp_path / "graph.yaml").write_text(GRAPH, "utf-8")
    return tmp_path


def test_a_conversation_arrives_as_it_was_sent(node: NodeClients, serve: Serve) -> None:
    pieces = [HOSTILE[at : at + 3] for at in range(0, len(HOSTILE), 3)]
    with Simulator(Answer(pieces, reasoning=["Hm", "m"])) as simulator, serve(simulator) as url:
        found = run_chat(node, url, HOSTILE.replace("\0", ""), "Again", body={"model": "anthropic/claude"})
        assert found["errors"] == []
        assert found["status"] == "ready"
        assert found["texts"][1] == ["assistant", HOSTILE]
        assert found["texts"][3] == ["assistant", HOSTILE]
        assert [one["type"] for one in found["messages"][1]["parts"]] == ["step-start", "reasoning", "text"]
        assert found["messages"][1]["metadata"]["model"] == "anthropic/claude"
        assert found["messages"][1]["metadata"]["usage"]["outputTokens"] > 0
        sent = simulator.requests[1].body["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "user"]


def test_files_reach_the_vendor(node: NodeClients, serve: Serve) -> None:
    image = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,iVBORw0KGgo="}
    with Simulator() as simulator, serve(simulator) as url:
        parts = [image, {"type": "text", "text": "What is this?"}]
        found = run_chat(node, url, parts, body={"model": "openai/gpt"})
        assert found["errors"] == []
        content = simulator.requests[0].body["messages"][0]["content"]
    assert [part["type"] for part in content] == ["image_url", "text"]
    assert content[0]["image_url"]["url"] == image["url"]


@pytest.mark.parametrize("model", ["openai/gpt", "anthropic/claude"])
def test_the_page_answers_parallel_calls_of_its_tools(node: NodeClients, serve: Serve, model: str) -> None:
    calls = [PlannedCall("weather", {"city": city}, f"c-{city}") for city in ("Paris", "Rome")]
    answers: list[Answer | str] = [Answer.of("Let me look. ", calls=calls), "Both are sunny."]
    with Simulator(answers) as simulator, serve(simulator) as url:
        body = {"model": model, "tools": [WEATHER]}
        found = run_chat(node, url, "Weather?", body=body, tools={"weather": {"sky": "clear"}})
        sent = simulator.requests[1].body["messages"]
    assert found["errors"] == []
    assert found["called"] == [{"name": "weather", "input": {"city": city}} for city in ("Paris", "Rome")]
    assert found["texts"] == [["user", "Weather?"], ["assistant", "Let me look. Both are sunny."]]
    assert json.dumps(sent).count("clear") == 2


def test_tools_of_a_prompt_run_in_the_service(node: NodeClients, folder: Path) -> None:
    answers: list[Answer | str] = [
        Answer.of("One moment. ", calls=[PlannedCall("add", {"a": 1, "b": 2}, "c1")]),
        "It is 3.",
    ]
    with Simulator(answers) as simulator:
        app = create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)
        with serving(app) as url:
            found = run_chat(node, url, "1 + 2?", "And now?")
    assert found["errors"] == []
    assert found["called"] == []
    assert found["texts"][1] == ["assistant", "One moment. It is 3."]
    (part,) = [part for part in found["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
    assert (part["state"], part["input"], part["output"]) == ("output-available", {"a": 1, "b": 2}, {"sum": 3})
    again = simulator.requests[2].body["messages"]
    assert [one["role"] for one in again] == ["user", "assistant", "tool", "assistant", "user"]
    assert again[2]["content"] == '{"sum":3}'


@pytest.mark.parametrize("approved", [True, False])
def test_calls_that_need_approval_wait_for_the_user(node: NodeClients, folder: Path, approved: bool) -> None:
    answers: list[Answer | str] = [Answer.of("I would. ", calls=[PlannedCall("book", {"seat": 7}, "b1")]), "Done."]
    with Simulator(answers) as simulator:
        app = create_app("p", provider=provider_at(simulator, "anthropic"), prompts_dir=folder)
        with serving(app) as url:
            found = run_chat(node, url, "Book!", approve=[approved])
    assert found["errors"] == []
    assert found["status"] == "ready"
    assert found["texts"] == [["user", "Book!"], ["assistant", "I would. Done."]]
    (part,) = [part for part in found["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
    assert part["state"] == ("output-available" if approved else "output-denied")
    log = folder / "log"
    assert (log.read_text("utf-8") if log.exists() else "") == ("7;" if approved else "")
    assert ("booked 7" if approved else "denied: no money") in json.dumps(simulator.requests[1].body)


def test_images_in_results_reach_the_page_and_the_vendor_again(node: NodeClients, folder: Path) -> None:
    answers: list[Answer | str] = [Answer.of("", calls=[PlannedCall("picture", {}, "p1")]), "A picture.", "Yes."]
    with Simulator(answers) as simulator:
        app = create_app("look", provider=provider_at(simulator, "anthropic"), prompts_dir=folder)
        with serving(app) as url:
            found = run_chat(node, url, "Show it", "Again?")
    assert found["errors"] == []
    (file,) = [part for part in found["messages"][1]["parts"] if part["type"] == "file"]
    assert (file["mediaType"], file["url"]) == ("image/png", "data:image/png;base64,UE5H")
    results = [
        block
        for request in simulator.requests[1:3]  # with the result, and in the next turn
        for message in request.body["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else ())
        if block["type"] == "tool_result"
    ]
    sources = [part["source"] for block in results for part in block["content"] if part["type"] == "image"]
    assert sources == [{"type": "base64", "media_type": "image/png", "data": "UE5H"}] * 2
    assert len(results) == 2


@pytest.mark.parametrize("approved", [True, False])
def test_calls_of_a_graphs_agent_wait_for_the_user(node: NodeClients, folder: Path, approved: bool) -> None:
    calls = [
        PlannedCall("add", {"a": 1, "b": 2}, "a1"),
        PlannedCall("book", {"seat": 7}, "b1"),
        PlannedCall("book", {"seat": 8}, "b2"),
    ]
    answers: list[Answer | str] = [Answer.of("I would. ", calls=calls), "Done."]
    with Simulator(answers) as simulator:
        app = create_app(folder / "agent.yaml", provider=provider_at(simulator, "openai"), prompts_dir=folder)
        with serving(app) as url:
            first = run_chat(node, url, "Book!")
            again = run_chat(node, url, messages=first["messages"], onlyResume=True)
            found = run_chat(node, url, messages=again["messages"], approve=[approved])
            later = run_chat(node, url, "Thanks", messages=found["messages"])
    asked = [part for part in again["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
    assert again["messages"] == first["messages"]
    assert [(part["toolCallId"], part["state"]) for part in asked[1:]] == [
        ("b1", "approval-requested"),
        ("b2", "approval-requested"),
    ]
    assert found["errors"] == later["errors"] == []
    assert found["texts"] == [["user", "Book!"], ["assistant", "I would. Done."]]
    parts = [part for part in found["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
    expected = "output-available" if approved else "output-denied"
    assert [part["state"] for part in parts] == ["output-available", expected, expected]
    log = folder / "log"
    assert sorted((log.read_text("utf-8") if log.exists() else "").split(";")) == (["", "7", "8"] if approved else [""])
    sent = [message for message in simulator.requests[1].body["messages"] if message["role"] == "tool"]
    denied = "This call was denied: no money"
    assert [one["content"] for one in sent] == ["3", *(["booked 7", "booked 8"] if approved else [denied, denied])]
    assert (later["status"], len(later["texts"])) == ("ready", 4)


def test_a_graph_asks_and_continues_with_the_next_message(node: NodeClients, folder: Path) -> None:
    with Simulator("Hello.") as simulator:
        app = create_app(folder / "graph.yaml", provider=provider_at(simulator, "openai"))
        with serving(app) as url:
            found = run_chat(node, url, "Ada", "friendly", "Bob")
    assert found["errors"] == []
    assert [text for role, text in found["texts"] if role == "assistant"] == ["Which tone?", "Hello.", "Which tone?"]
    question = [part for part in found["messages"][1]["parts"] if part["type"] == "data-interrupt"]
    assert question[0]["data"] == {"node": "ask", "message": "Which tone?", "resume_key": "tone"}
    assert "Ada friendly" in simulator.requests[0].body["messages"][-1]["content"]
    assert len(simulator.requests) == 1


def test_no_cut_upstream_is_taken_for_an_end(node: NodeClients, serve: Serve) -> None:
    with FaultServer("end-without-mark", wire="openai-chat") as server, serve(server) as url:
        found = run_chat(node, url, "Hello", body={"model": "openai/gpt"})
    assert found["status"] == "error"
    assert "cut off" in found["errors"][0]
    assert found["texts"][1][1] != ""
    assert found["messages"][1]["parts"][-1]["state"] == "streaming"


def test_an_error_before_the_answer_is_shown_as_text(node: NodeClients, serve: Serve) -> None:
    with Simulator() as simulator, serve(simulator) as url:
        found = run_chat(node, url, "Hello", body={"model": "nobody/none"})
    assert found["status"] == "error"
    assert found["errors"][0].startswith("there is no model 'nobody/none'")


def test_stop_ends_the_answer_and_the_upstream(node: NodeClients, serve: Serve) -> None:
    with Simulator(Answer([f"w{number} " for number in range(100_000)]), rate=100) as simulator:
        with serve(simulator) as url:
            found = run_chat(node, url, "Hello", body={"model": "openai/gpt"}, stopAt="w5 ")
            wait_until(lambda: simulator.open == 0, "the upstream was closed")
    assert found["errors"] == []
    assert found["status"] == "ready"
    assert found["stopped"]["stopped"] == {"success": True, "stopped": True}
    print(f"stopped in {found['stopped']['milliseconds']} ms")
    assert found["texts"][1][1].startswith("w0 w1 ")
    assert simulator.abandoned == 1


def test_twenty_cuts_and_the_message_is_exact(node: NodeClients, serve: Serve) -> None:
    words = [f"w{number} " for number in range(600)]
    with Simulator(Answer(words), rate=400) as simulator, serve(simulator) as url:
        port = int(url.rpartition(":")[2])
        with cutting(port, 3, b"POST /api/chat", b"GET /api/chat") as cutter:
            found = run_chat(
                node, f"http://127.0.0.1:{cutter.port}", "Hello", body={"model": "openai/gpt"}, resume=True
            )
            assert cutter.cuts == 20
        assert len(simulator.requests) == 1
    assert found["status"] == "ready"
    assert found["resumed"] == 20
    assert found["texts"] == [["user", "Hello"], ["assistant", "".join(words)]]


def test_cuts_lose_nothing_that_the_message_had_before(node: NodeClients, serve: Serve) -> None:
    calls = [PlannedCall("weather", {"city": "Paris"}, "c1")]
    words = [f"w{number} " for number in range(300)]
    with Simulator([Answer.of("Look. ", calls=calls), Answer(words)], rate=300) as simulator, serve(simulator) as url:
        body = {"model": "openai/gpt", "tools": [WEATHER]}
        with cutting(int(url.rpartition(":")[2]), 5, b"POST /api/chat", b"GET /api/chat", cuts=8) as cutter:
            api = f"http://127.0.0.1:{cutter.port}"
            found = run_chat(node, api, "Weather?", body=body, tools={"weather": "sunny"}, resume=True)
            assert cutter.cuts == 8
        assert len(simulator.requests) == 2
    assert found["status"] == "ready"
    assert found["texts"] == [["user", "Weather?"], ["assistant", "Look. " + "".join(words)]]
    (call,) = [part for part in found["messages"][1]["parts"] if part["type"] == "tool-weather"]
    assert (call["state"], call["output"]) == ("output-available", "sunny")


def test_an_answer_that_is_resumed_after_its_end_replaces_itself(node: NodeClients, serve: Serve) -> None:
    with Simulator("Hello.") as simulator, serve(simulator) as url:
        first = run_chat(node, url, "Hello", body={"model": "openai/gpt"})
        again = run_chat(node, url, messages=first["messages"], onlyResume=True)
        other = run_chat(node, url, id="another", onlyResume=True)
    assert (again["status"], again["messages"]) == ("ready", first["messages"])
    assert (other["status"], other["messages"]) == ("ready", [])
