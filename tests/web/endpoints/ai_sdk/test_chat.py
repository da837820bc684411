"""Test `/api/chat` without a client library: refused requests, owners of chats, and when runs continue and end."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore.testing import Answer, FaultServer, PlannedCall, Simulator
from streamcore.web import create_app
from tests.serving import serving
from tests.support import provider_at, wait_until
from tests.web.endpoints.ai_sdk.test_clients import AGENT, FUNCTIONS
from tests.web.endpoints.conftest import Serve

MODEL = "openai/gpt"


def user(text: str = "Hello") -> dict[str, Any]:
    return {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}


def assistant(*parts: Any, identity: str = "a1") -> dict[str, Any]:
    return {"id": identity, "role": "assistant", "parts": [{"type": "step-start"}, *parts]}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": MODEL, "messages": [*messages] or [user()], "trigger": "submit-message", **more}


def post(url: str, given: Any, **options: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/api/chat", json=given, timeout=60, **options)


def chunks(response: httpx2.Response) -> list[Any]:
    assert response.status_code == 200, response.text
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    blocks = [block.removeprefix("data: ") for block in response.text.split("\n\n") if block.startswith("data: ")]
    return [json.loads(block) for block in blocks if block != "[DONE]"]


def text(found: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in found if chunk["type"] == "text-delta")


@contextmanager
def half_read(url: str, given: Any, until: str, **options: Any) -> Any:
    """Request an answer, read it until the words have come, and break the connection."""
    with httpx2.stream("POST", f"{url}/api/chat", json=given, timeout=60, **options) as response:
        received = ""
        for piece in response.iter_text():
            received += piece
            if until in received:
                break
        yield received


def test_a_body_that_is_not_valid_is_refused_with_a_text(serve: Serve) -> None:
    cases: list[tuple[Any, int, str]] = [
        ([], 400, "JSON object"),
        ({"messages": [user()]}, 400, "id is required"),
        (body(id="x" * 300), 400, "id must have"),
        (body() | {"messages": []}, 400, "at least one message"),
        (body({"role": "user"}), 400, "messages[0].parts is required"),
        (body({"role": "robot", "parts": []}), 400, "messages[0].role"),
        (body(user() | {"parts": [{"type": "video"}]}), 400, "messages[0].parts[0].type"),
        (
            body(user() | {"parts": [{"type": "file", "url": "file:///etc/passwd", "mediaType": "image/png"}]}),
            400,
            "url",
        ),
        (body(assistant({"type": "mystery"}), user()), 400, "messages[0].parts[1].type is not known"),
        (body(assistant({"type": "tool-x", "state": "output-error"}), user()), 400, "toolCallId"),
        (body(trigger="other"), 400, "trigger"),
        (body(temperature="hot"), 400, "temperature"),
        (body(presencePenalty=1), 400, "presencePenalty is not supported"),
        (body(tools=[{"name": "a"}, {"name": "a"}]), 400, "same name"),
        (body(tools="all"), 400, "tools must be"),
        (body(toolChoice={"type": "tool"}), 400, "toolChoice"),
        (body(user("x" * 40_000)), 413, "at most 32000"),
        (body(model="nobody/none"), 404, "there is no model"),
    ]
    with Simulator() as simulator, serve(simulator) as url:
        for given, status, words in cases:
            response = post(url, given)
            assert (response.status_code, words in response.text) == (status, True), (given, response.text)
            assert response.headers["content-type"].startswith("text/plain")
        raw = httpx2.post(f"{url}/api/chat", content=b"{", timeout=60)
        assert (raw.status_code, raw.text) == (400, "the body is not valid JSON")
        assert simulator.requests == []


def test_parameters_reach_the_vendor(serve: Serve) -> None:
    tools: Any = {"find": {"description": "Find.", "inputSchema": {"jsonSchema": {"type": "object", "properties": {}}}}}
    more: dict[str, Any] = {
        "temperature": 0.5,
        "maxOutputTokens": 9,
        "stopSequences": ["END"],
        "topP": 0.9,
        "tools": tools,
    }
    system = {"role": "system", "parts": [{"type": "text", "text": "Be brief."}]}
    with Simulator() as simulator, serve(simulator) as url:
        chunks(post(url, body(system, user(), **more, toolChoice={"type": "tool", "toolName": "find"})))
        sent = simulator.requests[0].body
    assert (sent["temperature"], sent["max_completion_tokens"], sent["stop"], sent["top_p"]) == (0.5, 9, ["END"], 0.9)
    assert [one["role"] for one in sent["messages"]] == ["system", "user"]
    assert sent["tools"][0]["function"]["name"] == "find"
    assert sent["tool_choice"]["function"]["name"] == "find"


def test_the_model_may_be_left_out_where_only_one_can_be_meant(serve: Serve, tmp_path: Path) -> None:
    given = {key: value for key, value in body().items() if key != "model"}
    with Simulator() as simulator:
        with serve(simulator, "chat", provider="openai") as url:
            assert text(chunks(post(url, given)))
            assert simulator.requests[0].body["messages"][0]["role"] == "system"
        with serve(simulator) as url:
            response = post(url, given)
    assert (response.status_code, "model is required" in response.text) == (400, True)


def test_regenerate_leaves_the_replaced_answer_out(serve: Serve) -> None:
    said = assistant({"type": "text", "text": "Old"})
    with Simulator("New") as simulator, serve(simulator) as url:
        found = chunks(post(url, body(user(), said, trigger="regenerate-message", messageId="a1")))
        assert [one["role"] for one in simulator.requests[0].body["messages"]] == ["user"]
    assert found[0]["messageId"] != "a1"


def test_calls_without_a_result_are_left_out_and_never_run(serve: Serve) -> None:
    def call(name: str, state: str, **more: Any) -> dict[str, Any]:
        return {"type": f"tool-{name}", "toolCallId": f"c-{state}", "state": state, "input": {"a": 1}, **more}

    said = assistant(
        {"type": "text", "text": "Hm."},
        call("find", "input-streaming"),
        call("find", "input-available"),
        call("find", "approval-requested", approval={"id": "x"}),
        call("find", "output-available", output="found", preliminary=True),
        call("find", "output-error", errorText="broken"),
        call("find", "output-denied", approval={"id": "y", "approved": False, "reason": "no"}),
        {
            "type": "dynamic-tool",
            "toolName": "f",
            "toolCallId": "c9",
            "state": "output-available",
            "input": "x",
            "output": {"b": 2},
        },
        {"type": "step-start"},
        {"type": "data-node", "data": {}},
        {"type": "text", "text": "Then."},
    )
    with Simulator() as simulator, serve(simulator) as url:
        chunks(post(url, body(user(), said, user("Go on"))))
        sent = simulator.requests[0].body["messages"]
    roles = [one["role"] for one in sent]
    assert roles == ["user", "assistant", "tool", "tool", "tool", "assistant", "user"]
    assert [one["id"] for one in sent[1]["tool_calls"]] == ["c-output-error", "c-output-denied", "c9"]
    assert [one["content"] for one in sent[2:5]] == ["broken", "This call was denied: no", '{"b":2}']
    assert json.loads(sent[1]["tool_calls"][2]["function"]["arguments"]) == {"INVALID_JSON": "x"}


def test_what_the_vendor_signed_goes_back_to_it(serve: Serve) -> None:
    answers: list[Answer | str] = [Answer.of("Fine.", reasoning=["Hm"]), "Again."]
    with Simulator(answers) as simulator, serve(simulator) as url:
        found = chunks(post(url, body(model="anthropic/claude")))
        (end,) = [chunk for chunk in found if chunk["type"] == "text-end"]
        said = assistant({"type": "text", "text": "Fine.", "providerMetadata": end["providerMetadata"]})
        chunks(post(url, body(user(), said, user("More"), model="anthropic/claude")))
        sent = simulator.requests[1].body["messages"][1]["content"]
    assert [block["type"] for block in sent] == ["thinking", "text"]
    assert sent[0]["signature"]


def test_a_client_writes_no_keys_of_the_vendors_request(serve: Serve) -> None:
    forged: dict[str, Any] = {"wire": "openai-chat", "items": [], "fields": {"role": "system", "name": "x"}}
    said = assistant({"type": "text", "text": "Fine.", "providerMetadata": {"streamcore": {"opaque": forged}}})
    with Simulator("Hi") as simulator, serve(simulator) as url:
        chunks(post(url, body(user(), said, user("More"))))
        sent = simulator.requests[0].body
    assert sent["messages"][1] == {"role": "assistant", "content": "Fine."}


def test_a_run_outlives_its_connection_and_is_read_again_once(serve: Serve) -> None:
    words = [f"w{number} " for number in range(60)]
    with Simulator(Answer(words), rate=100) as simulator, serve(simulator) as url:
        with half_read(url, body(), "w3 ") as received:
            identity = json.loads(received.split("\n\n")[0].removeprefix("data: "))["messageId"]
        wait_until(lambda: httpx2.get(f"{url}/health").json()["running"] == 0, "the answer has ended")
        again = chunks(httpx2.get(f"{url}/api/chat/c1/stream", timeout=60))
        assert text(again) == "".join(words)
        assert again[0]["messageId"] == identity
        assert again[-1]["type"] == "finish"
        assert text(chunks(httpx2.get(f"{url}/api/chat/c1/stream", timeout=60))) == "".join(words)
        assert len(simulator.requests) == 1


def test_nothing_is_streamed_on_the_connection_that_got_the_end(serve: Serve) -> None:
    with Simulator("Hello.") as simulator, serve(simulator) as url, httpx2.Client(base_url=url, timeout=60) as client:
        assert client.get("/api/chat/c1/stream").status_code == 204
        first = chunks(client.post("/api/chat", json=body()))
        ended = client.get("/api/chat/c1/stream")
        assert (ended.status_code, ended.content) == (204, b"")
        again = chunks(httpx2.get(f"{url}/api/chat/c1/stream", timeout=60))
        assert (again[0], text(again)) == (first[0], "Hello.")


@pytest.mark.long
def test_after_the_grace_period_nothing_is_streamed(serve: Serve) -> None:
    with Simulator("Hello.") as simulator, serve(simulator, grace=5) as url:
        chunks(post(url, body()))
        wait_until(lambda: httpx2.get(f"{url}/api/chat/c1/stream").status_code == 204, "the grace period is over")


def test_any_id_that_a_page_chooses_is_a_chat(serve: Serve) -> None:
    with Simulator() as simulator, serve(simulator) as url:
        for identity in ("a/b", "ü 👩🏽", "%2F", "..x", "stream"):
            assert chunks(post(url, body(id=identity)))
            path = httpx2.URL(url).copy_with(raw_path=f"/api/chat/{_quoted(identity)}/stream".encode())
            assert chunks(httpx2.get(path, timeout=60))


def _quoted(identity: str) -> str:
    return "".join(f"%{byte:02X}" for byte in identity.encode())


def test_a_stop_ends_the_run_for_every_reader(serve: Serve) -> None:
    with Simulator(Answer(["w "] * 100_000), rate=100) as simulator, serve(simulator) as url:
        with half_read(url, body(), "w "):
            stopped = httpx2.post(f"{url}/api/chat/c1/stop", json={"activeStreamId": None}, timeout=60)
            assert stopped.json() == {"success": True, "stopped": True}
            wait_until(lambda: simulator.open == 0, "the upstream was closed")
        assert httpx2.get(f"{url}/api/chat/c1/stream").status_code == 204
        assert httpx2.post(f"{url}/api/chat/c1/stop").json() == {"success": True, "stopped": False}


def test_a_new_message_ends_the_answer_that_still_runs(serve: Serve) -> None:
    with Simulator(Answer(["w "] * 100_000), rate=100) as simulator, serve(simulator) as url:
        with half_read(url, body(), "w "):
            pass
        answered = assistant({"type": "text", "text": "w "})
        with half_read(url, body(user(), answered, user("Again")), "w "):
            wait_until(lambda: simulator.abandoned == 1, "the first answer was closed")
            assert (simulator.open, len(simulator.requests)) == (1, 2)
        assert httpx2.post(f"{url}/api/chat/c1/stop", timeout=60).json()["stopped"] is True


def test_nobody_reads_or_stops_the_chat_of_another_user(serve: Serve) -> None:
    mine, yours = ({"authorization": f"Bearer key-{name}"} for name in ("a", "b"))
    with Simulator(Answer(["w "] * 100_000), rate=100) as simulator:
        with serve(simulator, api_keys=["key-a", "key-b"]) as url:
            assert post(url, body()).status_code == 401
            with half_read(url, body(), "w ", headers=mine):
                assert httpx2.get(f"{url}/api/chat/c1/stream", headers=yours).status_code == 204
                assert httpx2.post(f"{url}/api/chat/c1/stop", headers=yours).json()["stopped"] is False
                assert httpx2.post(f"{url}/api/chat/c1/stop").status_code == 401
                assert simulator.open == 1
                assert httpx2.post(f"{url}/api/chat/c1/stop", headers=mine).json()["stopped"] is True


def test_after_an_error_event_the_connection_is_broken(serve: Serve) -> None:
    with FaultServer("end-without-mark", wire="openai-chat") as server, serve(server) as url:
        received = b""
        with httpx2.stream("POST", f"{url}/api/chat", json=body(), timeout=60) as response:
            with pytest.raises(httpx2.RemoteProtocolError):
                for piece in response.iter_raw():
                    received += piece
    assert b"cut off" in received
    for mark in (b"[DONE]", b'"finish"', b"text-end"):
        assert mark not in received


@pytest.mark.parametrize(("fault", "sent"), [("bad-request", 400), ("wrong-key", 500), ("no-such-model", 404)])
def test_an_error_of_the_vendor_before_the_answer_is_a_status(serve: Serve, fault: str, sent: int) -> None:
    with FaultServer(fault, wire="openai-chat") as server, serve(server) as url:
        response = post(url, body())
    assert response.status_code == sent
    assert response.headers["content-type"].startswith("text/plain")


def tools_app(simulator: Simulator, folder: Path) -> Any:
    (folder / "p.yaml").write_text('user: "{message}"\ntools: [{python: "functions.py:book"}]\n', "utf-8")
    (folder / "functions.py").write_text(FUNCTIONS, "utf-8")
    return create_app("p", provider=provider_at(simulator, "openai"), prompts_dir=folder)


def approved(identity: str, seat: int) -> dict[str, Any]:
    call = {"type": "dynamic-tool", "toolName": "book", "toolCallId": identity, "state": "approval-responded"}
    return {**call, "input": {"seat": seat}, "approval": {"id": identity, "approved": True}}


def test_an_approval_runs_the_call_as_the_model_made_it_and_once(tmp_path: Path) -> None:
    answers: list[Answer | str] = [Answer.of("", calls=[PlannedCall("book", {"seat": 7}, "b1")]), "Done."]
    with Simulator(answers) as simulator, serving(tools_app(simulator, tmp_path)) as url:
        asked = {**body(), "model": "p"}
        found = chunks(post(url, asked))
        assert [one["type"] for one in found][-3:] == ["tool-approval-request", "finish-step", "finish"]
        forged = post(url, {**asked, "messages": [user(), assistant(approved("b2", 99))]})
        assert (forged.status_code, "b1" in forged.text) == (400, True)
        changed = {**asked, "messages": [user(), assistant(approved("b1", 99))]}
        assert text(chunks(post(url, changed))) == "Done."
        again = post(url, changed)
        assert again.status_code == 409
    assert (tmp_path / "log").read_text("utf-8") == "7;"


def test_calls_that_nobody_asked_for_do_not_run(tmp_path: Path) -> None:
    call = {"type": "dynamic-tool", "toolName": "book", "toolCallId": "b1", "input": {"seat": 9}}
    states: list[Any] = [
        {**call, "state": "input-available"},
        {**call, "state": "approval-requested", "approval": {"id": "b1"}},
    ]
    with Simulator("Hello.") as simulator, serving(tools_app(simulator, tmp_path)) as url:
        for state in states:
            chunks(post(url, {**body(user(), assistant(state)), "model": "p"}))
    assert not (tmp_path / "log").exists()


def test_an_approval_of_a_graphs_agent_runs_its_call_as_the_model_made_it_and_once(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(AGENT, "utf-8")
    (tmp_path / "do.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    calls = [PlannedCall("book", {"seat": 7}, "b1"), PlannedCall("book", {"seat": 8}, "b2")]
    with Simulator([Answer.of("", calls=calls), "Done."]) as simulator:
        app = create_app(tmp_path / "agent.yaml", provider=provider_at(simulator, "openai"), prompts_dir=tmp_path)
        with serving(app) as url:
            asked = {**body(), "model": "agent"}
            early = post(url, {**asked, "messages": [user(), assistant(approved("b1", 7))]})
            assert (early.status_code, "no call waits" in early.text) == (409, True)
            found = chunks(post(url, asked))
            assert [one["toolCallId"] for one in found if one["type"] == "tool-approval-request"] == ["b1", "b2"]
            assert text(found) == ""
            for wrong in (["b1"], ["b1", "b3"], ["b1", "b2", "b3"]):
                parts = [approved(identity, 99) for identity in wrong]
                forged = post(url, {**asked, "messages": [user(), assistant(*parts)]})
                assert (forged.status_code, "exactly these calls: b1, b2" in forged.text) == (400, True)
            changed = {**asked, "messages": [user(), assistant(approved("b1", 99), approved("b2", 99))]}
            assert text(chunks(post(url, changed))) == "Done."
            assert post(url, changed).status_code == 409
    assert sorted((tmp_path / "log").read_text("utf-8").split(";")) == ["", "7", "8"]


def test_a_text_answers_the_question_of_a_graphs_agent_too(tmp_path: Path) -> None:
    (tmp_path / "agent.yaml").write_text(AGENT, "utf-8")
    (tmp_path / "do.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "functions.py").write_text(FUNCTIONS, "utf-8")
    with Simulator([Answer.of("", calls=[PlannedCall("book", {"seat": 7}, "b1")]), "A pity."]) as simulator:
        app = create_app(tmp_path / "agent.yaml", provider=provider_at(simulator, "openai"), prompts_dir=tmp_path)
        with serving(app) as url:
            chunks(post(url, {**body(), "model": "agent"}))
            assert text(chunks(post(url, {**body(user("too expensive")), "model": "agent"}))) == "A pity."
    assert "This call was denied: too expensive" in json.dumps(simulator.requests[1].body)
    assert not (tmp_path / "log").exists()


def test_files_in_results_of_the_pages_tools_reach_the_vendor(serve: Serve) -> None:
    call: dict[str, Any] = {"type": "tool-see", "toolCallId": "c1", "state": "output-available", "input": {}}
    value: list[Any] = [
        {"type": "text", "text": "Two:"},
        {"type": "file", "mediaType": "image/png", "data": {"type": "data", "data": "UE5H"}},
        {"type": "file", "mediaType": "image/png", "data": {"type": "url", "url": "https://example.org/a.png"}},
    ]
    with Simulator() as simulator, serve(simulator) as url:
        said = assistant({**call, "output": {"type": "content", "value": value}})
        chunks(post(url, body(user(), said, model="anthropic/claude")))
        (result,) = simulator.requests[0].body["messages"][2]["content"]
        assert [part["type"] for part in result["content"]] == ["text", "image", "image"]
        data: dict[str, Any] = {**call, "output": {"type": "content", "value": [], "more": 1}}
        chunks(post(url, body(user(), assistant(data), model="anthropic/claude")))
        assert '"more":1' in json.dumps(
            simulator.requests[1].body["messages"][2]["content"], separators=(",", ":")
        ).replace("\\", "")
        for broken, words in (
            ([{"type": "video"}], "output.value[0].type of a result's part must be text or file"),
            (
                [{"type": "file", "mediaType": "image/png", "data": {"type": "reference"}}],
                "output.value[0].data must be",
            ),
            ([{"type": "file", "mediaType": "image/png", "data": {"type": "data", "data": "#"}}], "not valid base64"),
        ):
            said = assistant({**call, "output": {"type": "content", "value": broken}})
            refused = post(url, body(user(), said, model="anthropic/claude"))
            assert (refused.status_code, words in refused.text) == (400, True), refused.text


def test_a_graph_with_a_question_is_not_regenerated(tmp_path: Path) -> None:
    graph = """
state: {topic: str}
nodes:
  ask: {type: interrupt, message: "Which?", resume_key: tone}
edges:
  - {from: START, to: ask}
  - {from: ask, to: END}
"""
    (tmp_path / "g.yaml").write_text(graph, "utf-8")
    with serving(create_app(tmp_path / "g.yaml", provider="demo")) as url:
        asked = {**body(), "model": "g"}
        assert text(chunks(post(url, asked))) == "Which?"
        refused = post(url, {**asked, "trigger": "regenerate-message"})
        assert (refused.status_code, "waits for the answer" in refused.text) == (409, True)
        unsupported = post(url, {**asked, "temperature": 0.5})
        assert (unsupported.status_code, "temperature" in unsupported.text) == (400, True)
