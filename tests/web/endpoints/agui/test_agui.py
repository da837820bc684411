"""Run prompts, graphs, agents and models for AG-UI clients, over real sockets."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from streamcore.web import create_app
from tests.agui_support import checked, kinds, run_input, text_of, user
from tests.serving import serving
from tests.sse.agui.test_graph import rebuilt
from tests.support import DEADLINE, wait_until
from tests.web.endpoints.conftest import ROOT, Serve

FUNCTIONS = '''
from pathlib import Path
from streamcore.tools import tool

@tool(needs_approval=True)
async def delete(path: str) -> str:
    """Delete a file."""
    with Path(__file__).with_name("log").open("a") as log:
        log.write(path)
    return f"deleted {path}"
'''
CALL = Answer.of("Wait. ", calls=[PlannedCall("delete", {"path": "a"}, "d1")])
LOOK: dict[str, Any] = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


def post(url: str, body: Any, path: str = "/agui", **headers: str) -> httpx2.Response:
    return httpx2.post(f"{url}{path}", json=body, timeout=DEADLINE, headers=headers)


def run(url: str, body: Any, *, allowed: Sequence[str] = (), **headers: str) -> list[dict[str, Any]]:
    """Run to the end, and return the events."""
    response = post(url, body, **headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return checked(response.content, allowed=allowed)


def refused(url: str, body: Any, status: int, path: str = "/agui") -> dict[str, Any]:
    """Return the error of a request that is refused."""
    response = post(url, body, path)
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()["error"]
    return found


def broken(url: str, body: Any) -> list[dict[str, Any]]:
    """Return the events of a run whose connection breaks."""
    data = b""
    with httpx2.stream("POST", f"{url}/agui", json=body, timeout=DEADLINE) as response:
        assert response.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            for piece in response.iter_bytes():
                data += piece
    return checked(data)


def answered(events: list[dict[str, Any]], before: list[Any]) -> list[Any]:
    """Return the conversation as a client has it after a run: as `HttpAgent` builds it."""
    messages = [dict(message) for message in before]
    by_id = {message["id"]: message for message in messages}

    def assistant(identity: str) -> Any:
        if identity not in by_id:
            by_id[identity] = {"id": identity, "role": "assistant", "content": "", "toolCalls": []}
            messages.append(by_id[identity])
        return by_id[identity]

    calls: dict[str, Any] = {}
    for event in events:
        match event["type"]:
            case "TEXT_MESSAGE_CONTENT":
                assistant(event["messageId"])["content"] += event["delta"]
            case "TOOL_CALL_START":
                function = {"name": event["toolCallName"], "arguments": ""}
                call = {"id": event["toolCallId"], "type": "function", "function": function}
                calls[event["toolCallId"]] = function
                assistant(event["parentMessageId"])["toolCalls"].append(call)
            case "TOOL_CALL_ARGS":
                calls[event["toolCallId"]]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                made = {"id": event["messageId"], "role": "tool", "toolCallId": event["toolCallId"]}
                messages.append({**made, "content": event["content"]})
            case "REASONING_ENCRYPTED_VALUE":
                assistant(event["entityId"])["encryptedValue"] = event["encryptedValue"]
            case _:
                pass
    return messages


def test_a_prompt_answers_in_a_conversation(serve: Serve, simulator: Simulator) -> None:
    messages = [user("One?"), {"id": "a1", "role": "assistant", "content": "Two."}, user("Three?", "u2")]
    body = run_input(messages=messages, tools=[], context=[], state={}, forwardedProps={})
    with serve(simulator, "chat", provider="openai") as url:
        found = run(url, body)
    sent = simulator.requests[-1].body["messages"]
    assert [(one["role"], one["content"]) for one in sent[1:]] == [
        ("user", "One?"),
        ("assistant", "Two."),
        ("user", "Three?"),
    ]
    assert text_of(found)
    assert (found[0]["threadId"], found[0]["runId"]) == ("t1", "r1")
    assert found[-1]["outcome"] == {"type": "success"}
    assert found[-1]["usage"][0]["model"] == "chat"


def test_three_vendors_differ_by_the_models_name_alone(serve: Serve, simulator: Simulator) -> None:
    found: list[list[dict[str, Any]]] = []
    with serve(simulator) as url:
        for model in ("openai/gpt-5.4-mini", "anthropic/claude-haiku-4-5", "mistral/mistral-small-latest"):
            events = run(url, run_input("Say hello", forwardedProps={"model": model}))
            found.append([{**event, "usage": None} for event in events])
        assert refused(url, run_input(), 400)["param"] == "model"
        assert refused(url, run_input(forwardedProps={"model": "nobody/x"}), 404)["code"] == "model_not_found"
    assert len({text_of(events) for events in found}) == 1
    assert len({tuple(dict.fromkeys(kinds(events))) for events in found}) == 1


def test_calls_of_the_clients_tools_come_back_as_messages(serve: Serve) -> None:
    both = [PlannedCall("look", {"x": 1}, "a"), PlannedCall("look", {"x": 2}, "b")]
    with Simulator([Answer.of("Let me see. ", calls=both), "It is sunny."]) as upstream:
        with serve(upstream) as url:
            asked = [user("Weather?")]
            more: dict[str, Any] = {"tools": [LOOK], "forwardedProps": {"model": "openai/gpt-5.4-mini"}}
            found = run(url, run_input(messages=asked, **more))
            assert found[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["a", "b"]}
            messages = answered(found, asked)
            assert "has no result" in refused(url, run_input(messages=messages, **more), 400)["message"]
            results = [{"id": f"r{one}", "role": "tool", "toolCallId": one, "content": "sunny"} for one in "ab"]
            found = run(url, run_input(messages=[*messages, *results], runId="r2", **more))
            assert text_of(found) == "It is sunny."
        sent = upstream.requests[-1].body["messages"]
        assert [one["role"] for one in sent] == ["user", "assistant", "tool", "tool"]
        assert [call["id"] for call in sent[1]["tool_calls"]] == ["a", "b"]


def test_signed_thinking_goes_back_to_its_vendor(serve: Serve) -> None:
    thought = Answer.of("I look. ", reasoning=["Hm"], calls=[PlannedCall("look", {}, "a")])
    more: dict[str, Any] = {
        "tools": [LOOK],
        "forwardedProps": {"model": "anthropic/claude-haiku-4-5", "reasoning": "low"},
    }
    with Simulator([thought, "Sunny."]) as upstream, serve(upstream) as url:
        asked = [user("Weather?")]
        found = run(url, run_input(messages=asked, **more))
        assert "REASONING_MESSAGE_CONTENT" in kinds(found)
        result = {"id": "r", "role": "tool", "toolCallId": "a", "content": "sunny"}
        found = run(url, run_input(messages=[*answered(found, asked), result], runId="r2", **more))
        assert text_of(found) == "Sunny."
        sent = upstream.requests[-1].body["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "text", "tool_use"]
    assert sent[1]["content"][0]["signature"]


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    (tmp_path / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:delete"}]\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    return tmp_path


def resume(interrupt: Any, payload: Any = None, status: str = "resolved") -> list[Any]:
    return [{"interruptId": interrupt["id"], "status": status, **({} if payload is None else {"payload": payload})}]


DECISIONS = [
    (True, "deleted a", "a"),
    ({"approved": True}, "deleted a", "a"),
    ({"approved": True, "editedArgs": {"path": "b"}}, "deleted b", "b"),
    ({"approved": False, "reason": "no"}, "This call was denied: no", None),
    (None, "The user gave no answer", None),
]


@pytest.mark.parametrize(("payload", "content", "logged"), DECISIONS)
def test_a_call_that_needs_approval_is_an_interrupt(
    serve: Serve, agent: Path, payload: Any, content: str, logged: str | None
) -> None:
    with Simulator([CALL, "Done."]) as upstream, serve(upstream, "p", provider="openai", prompts_dir=agent) as url:
        asked = [user("Delete it")]
        found = run(url, run_input(messages=asked))
        (interrupt,) = found[-1]["outcome"]["interrupts"]
        assert (interrupt["reason"], interrupt["toolCallId"]) == ("tool_call", "d1")
        assert not (agent / "log").exists()
        messages = answered(found, asked)
        assert "'d1'" in refused(url, run_input(messages=[*messages, user("And?", "u2")]), 409)["message"]
        assert refused(url, run_input(resume=[{"interruptId": "x", "status": "cancelled"}]), 409)["param"] == "resume"
        if payload is not None:
            assert refused(url, run_input(resume=resume(interrupt, {"approved": 1})), 400)["param"] == "resume"
        answer = resume(interrupt, payload, "cancelled" if payload is None else "resolved")
        found = run(url, run_input(messages=messages, runId="r2", resume=answer))
        (result,) = [event for event in found if event["type"] == "TOOL_CALL_RESULT"]
        assert result["toolCallId"] == "d1"
        assert content in result["content"]
        assert text_of(found) == "Done."
        assert ((agent / "log").read_text("utf-8") if logged else None) == logged
        assert "answered already" in refused(url, run_input(resume=answer), 409)["message"]
        messages = [*answered(found, messages), user("Thanks", "u3")]
        assert run(url, run_input(messages=messages, runId="r3"))[-1]["outcome"]["type"] in ("success", "interrupt")


def test_decisions_are_used_once_although_their_run_fails(serve: Serve, agent: Path) -> None:
    with Simulator([CALL, Answer.of("Do ne .", cut=1)]) as upstream:
        with serve(upstream, "p", provider="openai", prompts_dir=agent) as url:
            asked = [user("Delete it")]
            found = run(url, run_input(messages=asked))
            answer = resume(found[-1]["outcome"]["interrupts"][0], True)
            messages = answered(found, asked)
            events = broken(url, run_input(messages=messages, resume=answer, runId="r2"))
            assert events[-1]["type"] == "RUN_ERROR"
            assert (agent / "log").read_text("utf-8") == "a"
            refused(url, run_input(messages=messages, resume=answer, runId="r3"), 409)


def test_of_two_decisions_at_once_one_is_used(serve: Serve, agent: Path) -> None:
    with Simulator([CALL, "Done."]) as upstream, serve(upstream, "p", provider="openai", prompts_dir=agent) as url:
        asked = [user("Delete it")]
        found = run(url, run_input(messages=asked))
        messages, answer = answered(found, asked), resume(found[-1]["outcome"]["interrupts"][0], True)
        bodies = [run_input(messages=messages, resume=answer, runId=f"r{number}") for number in range(2, 8)]
        with ThreadPoolExecutor(len(bodies)) as pool:
            statuses = sorted(response.status_code for response in pool.map(partial(post, url), bodies))
        assert statuses == [200] + [409] * (len(bodies) - 1)
        assert (agent / "log").read_text("utf-8") == "a"


def test_a_client_cannot_make_a_tool_run_itself(serve: Serve, agent: Path, simulator: Simulator) -> None:
    call = {"id": "x", "type": "function", "function": {"name": "delete", "arguments": '{"path": "z"}'}}
    messages = [user("Hi"), {"id": "a", "role": "assistant", "toolCalls": [call]}]
    with serve(simulator, "p", provider="openai", prompts_dir=agent) as url:
        assert "'x' has no result" in refused(url, run_input(messages=messages), 400)["message"]
        clash = [{"name": "delete", "description": ""}]
        assert refused(url, run_input(tools=clash), 400)["param"] == "tools"
    assert not (agent / "log").exists()


GRAPH = """
state: {topic: str, tone: str, history: list}
nodes:
  write: {type: llm, prompt: greet, variables: {name: "{state.topic} {state.tone}"}, state_key: text}
  more: {type: llm, prompt: greet, variables: {name: "{state.text}"}, state_key: end}
edges:
  - {from: START, to: write}
  - {from: write, to: more}
  - {from: more, to: END}
"""


@contextmanager
def poem(serve: Serve, upstream: Any, folder: Path, **options: Any) -> Generator[str]:
    (folder / "poem.yaml").write_text(GRAPH, "utf-8")
    (folder / "greet.yaml").write_text("user: 'Hello {name}'\n", "utf-8")
    options = {"provider": "openai", "message_as": "topic", **options}
    with serve(upstream, str(folder / "poem.yaml"), **options) as url:
        yield url


def test_a_graph_has_steps_and_a_state_that_deltas_rebuild(serve: Serve, simulator: Simulator, tmp_path: Path) -> None:
    with poem(serve, simulator, tmp_path, client_variables=["tone"]) as url:
        found = run(url, run_input("the sea", state={"tone": "low"}))
        assert [event["stepName"] for event in found if event["type"] == "STEP_STARTED"] == ["write", "more"]
        state = rebuilt(found)
        assert state["topic"] == "the sea"
        assert state["tone"] == "low"
        assert text_of(found) == state["text"] + state["end"]
        assert found[-1]["usage"][0]["outputTokens"]
        refused(url, run_input(state={"topic": "x"}, threadId="t2"), 400)
        messages = [*answered(found, [user("the sea")]), user("the sky", "u2")]
        found = run(url, run_input(messages=messages, runId="r2", state={**state, "tone": "high"}))
        assert rebuilt(found)["topic"] == "the sky"
        assert rebuilt(found)["tone"] == "high"
        assert refused(url, run_input(tools=[LOOK]), 400)["param"] == "tools"
        context = [{"description": "d", "value": "v"}]
        assert refused(url, run_input(context=context), 400)["param"] == "context"


def test_a_graph_that_asks_is_resumed() -> None:
    with serving(create_app(str(ROOT / "graphs" / "interview.yaml"), provider="demo")) as url:
        found = run(url, run_input(messages=[]))
        (interrupt,) = found[-1]["outcome"]["interrupts"]
        assert (interrupt["reason"], interrupt["message"]) == ("input_required", "What is your name?")
        messages = answered(found, [])
        assert refused(url, run_input(messages=messages), 409)["param"] == "resume"
        second = run(url, run_input(messages=messages, runId="r2", resume=resume(interrupt, "Ada")))
        assert "RUN_STARTED" in kinds(second)
        refused(url, run_input(messages=messages, resume=resume(interrupt, "Eve")), 409)
        other = run(url, run_input(messages=[], threadId="t2"))[-1]["outcome"]["interrupts"][0]
        ended = run(url, run_input(messages=[], threadId="t2", resume=resume(other, status="cancelled")))
        assert ended[-1]["outcome"] == {"type": "cancelled"}
        assert run(url, run_input(messages=[], threadId="t2"))[-1]["outcome"]["type"] == "interrupt"


def test_what_cannot_be_honoured_is_refused(serve: Serve, simulator: Simulator) -> None:
    part = {"type": "audio", "source": {"type": "url", "value": "http://x"}}
    bodies: list[tuple[Any, str]] = [
        ({"runId": "r", "messages": []}, "threadId"),
        ({"threadId": "t", "runId": "r"}, "messages"),
        (run_input(state={"a": 1}), "state"),
        (run_input(messages=[{"id": "s", "role": "system", "content": "x"}, user("Hi")]), "messages"),
        (run_input(messages=[]), "messages"),
        (run_input(forwardedProps={"topK": 1}), "forwardedProps.topK"),
        (run_input(messages=[{"id": "u", "role": "user", "content": [part]}]), "messages[0].content[0].type"),
        ({**run_input(), "surprise": 1}, "surprise"),
        (run_input("x" * 40_000), "messages"),
    ]
    with serve(simulator, "chat", provider="openai") as url:
        for body, param in bodies:
            response = post(url, body)
            assert response.status_code in (400, 413), response.text
            assert response.json()["error"]["param"] == param
        assert httpx2.post(f"{url}/agui", content=b"{", timeout=DEADLINE).status_code == 400
        assert httpx2.get(f"{url}/agui", timeout=DEADLINE).status_code == 405
    assert not simulator.requests


def test_images_and_context_reach_the_model(serve: Serve, simulator: Simulator) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "data", "value": "aGk=", "mimeType": "image/png"}},
    ]
    body = run_input(
        messages=[{"id": "s", "role": "system", "content": "Be brief."}, {"id": "u", "role": "user", "content": parts}],
        context=[{"description": "Page", "value": "Home"}],
        forwardedProps={"model": "openai/gpt-5.4-mini", "temperature": 0.5},
    )
    with serve(simulator) as url:
        run(url, body)
    system, context, message = simulator.requests[-1].body["messages"]
    assert system["content"] == "Be brief."
    assert "- Page: Home" in context["content"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]
    assert simulator.requests[-1].body["temperature"] == 0.5


@pytest.mark.parametrize("fault", ["closed-mid-stream", "error-event", "end-without-mark"])
def test_a_cut_upstream_is_an_error_and_a_broken_connection(serve: Serve, fault: str) -> None:
    with FaultServer(fault, wire="openai-chat") as upstream, serve(upstream) as url:
        found = broken(url, run_input(forwardedProps={"model": "openai/gpt-5.4-mini"}))
    assert found[-1]["type"] == "RUN_ERROR"
    assert found[-1]["message"]
    assert "RUN_FINISHED" not in kinds(found)


@pytest.mark.parametrize(("fault", "status"), [("bad-request", 400), ("wrong-key", 500)])
def test_an_error_before_the_first_content_is_a_status(serve: Serve, fault: str, status: int) -> None:
    with FaultServer(fault, wire="openai-chat") as upstream, serve(upstream) as url:
        error = refused(url, run_input(forwardedProps={"model": "openai/gpt-5.4-mini"}), status)
    assert error["message"]


def test_a_client_that_disconnects_closes_the_upstream(serve: Serve) -> None:
    with Simulator([Answer(["x "] * 100_000)], rate=500) as upstream, serve(upstream) as url:
        body = run_input(forwardedProps={"model": "openai/gpt-5.4-mini"})
        with httpx2.stream("POST", f"{url}/agui", json=body, timeout=DEADLINE) as response:
            pieces = response.iter_bytes()  # which closes the response when nothing refers to it
            next(pieces)
            wait_until(lambda: upstream.open, "the upstream answers")
        wait_until(lambda: not upstream.open, "the upstream was closed")


def test_keys_separate_the_threads_of_users(agent: Path, serve: Serve) -> None:
    with Simulator([CALL, "Done."]) as upstream:
        with serve(upstream, "p", provider="openai", prompts_dir=agent, api_keys=["one", "two"]) as url:
            assert post(url, run_input()).status_code == 401
            one, two = {"Authorization": "Bearer one"}, {"x-api-key": "two"}
            (interrupt,) = run(url, run_input(), **one)[-1]["outcome"]["interrupts"]
            assert post(url, run_input(resume=resume(interrupt, True)), **two).status_code == 409
            assert run(url, run_input(resume=resume(interrupt, True), runId="r2"), allowed=["AGUI207"], **one)


def begun(url: str, body: Any) -> None:
    """Start a run, read its first events, and break the connection."""
    with httpx2.stream("POST", f"{url}/agui", json=body, timeout=DEADLINE) as response:
        assert response.status_code == 200
        data = b""
        for piece in response.iter_bytes():
            data += piece
            if b"TEXT_MESSAGE_CONTENT" in data:
                return


def test_a_run_in_the_relay_outlives_its_connection_and_is_generated_once(serve: Serve) -> None:
    with Simulator([Answer([f"{number} " for number in range(200)])], rate=200) as upstream, serve(upstream) as url:
        body = run_input(forwardedProps={"model": "openai/gpt-5.4-mini", "relay": True})
        begun(url, body)
        again = run(url, body)
        assert text_of(again) == "".join(f"{number} " for number in range(200))
        assert run(url, body) == again
        assert len(upstream.requests) == 1
        assert again[-1]["outcome"] == {"type": "success"}
        assert post(url, {"threadId": "t1", "runId": "r1"}, "/agui/stop").json() == {"stopped": False}


def test_a_run_in_the_relay_is_stopped(serve: Serve) -> None:
    with Simulator([Answer(["x "] * 100_000)], rate=500) as upstream, serve(upstream, api_keys=["a", "b"]) as url:
        body = run_input(forwardedProps={"model": "openai/gpt-5.4-mini", "relay": True})
        one, two = {"authorization": "Bearer a"}, {"authorization": "Bearer b"}
        with httpx2.stream("POST", f"{url}/agui", json=body, timeout=DEADLINE, headers=one) as response:
            pieces = response.iter_bytes()
            data = next(pieces)
            ids = {"threadId": "t1", "runId": "r1"}
            assert post(url, ids, "/agui/stop", **two).status_code == 404
            assert post(url, ids, "/agui/stop", **one).json() == {"stopped": True}
            wait_until(lambda: not upstream.open, "the upstream was closed")
            data += b"".join(pieces)
        assert checked(data)[-1]["outcome"] == {"type": "cancelled"}


def test_an_interrupt_passes_the_relay(serve: Serve, agent: Path) -> None:
    with Simulator([CALL, "Done."]) as upstream, serve(upstream, "p", provider="openai", prompts_dir=agent) as url:
        asked = [user("Delete it")]
        more: dict[str, Any] = {"forwardedProps": {"relay": True}}
        found = run(url, run_input(messages=asked, **more))
        (interrupt,) = found[-1]["outcome"]["interrupts"]
        messages = answered(found, asked)
        body = run_input(messages=messages, runId="r2", resume=resume(interrupt, True), **more)
        found = run(url, body)
        assert text_of(found) == "Done."
        assert run(url, body) == found
        assert (agent / "log").read_text("utf-8") == "a"


def test_a_graph_passes_the_relay(serve: Serve, simulator: Simulator, tmp_path: Path) -> None:
    with poem(serve, simulator, tmp_path) as url:
        found = run(url, run_input("the sea", forwardedProps={"relay": True}))
        assert rebuilt(found)["topic"] == "the sea"
        assert found[-1]["usage"][0]["outputTokens"]
        assert found[-1]["outcome"] == {"type": "success"}
