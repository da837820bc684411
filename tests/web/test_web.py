"""Use the service over real sockets: streams, conversations, stops, limits, and access."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import jsonschema
import pytest
from fastapi import FastAPI, Header, HTTPException

from streamcore import ConfigError
from streamcore.testing import Answer, Simulator
from streamcore.web import create_app, router, sessions
from tests.serving import listen, messages_in, reading, serving, text_of
from tests.support import KEY, provider_at, wait_until

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = (
    "  lead\n\n\ttab \n   \n[DONE] <script>alert(1)</script><img src=x onerror=alert(1)> 漢字かな 👩‍👩‍👧‍👦 é\n end\n"
)


def pieces(text: str) -> list[str]:
    return list(text)


def app_at(simulator: Simulator, target: str = "chat", **options: Any) -> FastAPI:
    provider = provider_at(simulator, "openai")
    return create_app(target, provider=provider, prompts_dir=ROOT / "prompts", **options)


def at(simulator: Simulator, target: str = "chat", **options: Any) -> AbstractContextManager[str]:
    return serving(app_at(simulator, target, **options))


@pytest.fixture
def slow() -> Iterator[Simulator]:
    """Serve an answer that takes longer than any test."""
    with Simulator(Answer([f"w{number} " for number in range(5000)]), rate=20) as running:
        yield running


@pytest.fixture
def interview() -> Iterator[str]:
    """Serve the example that asks."""
    with serving(create_app(str(ROOT / "graphs" / "interview.yaml"), provider="demo")) as url:
        yield url


# Streams


def test_every_format_brings_the_text_whole() -> None:
    with Simulator(Answer(pieces(HOSTILE))) as simulator, at(simulator) as url:
        text = listen(url, "/stream?prompt=x")
        assert "".join(one.data for one in text[:-1]) == HOSTILE
        assert (text[-1].name, text[-1].data) == ("message", "[DONE]")
        chunks = listen(url, "/stream?prompt=x&format=json")
        assert text_of(chunks) == HOSTILE
        assert chunks[-1].name == "done"
        assert chunks[-1].json["complete"] is True
        html = listen(url, "/stream?prompt=x&format=html")
        assert not [one for one in html if "<script" in one.data or "<img" in one.data]
        assert html[-1].name == "done"
        assert [request.body["messages"][-1]["content"] for request in simulator.requests] == ["x"] * 3


def test_a_conversation_sends_earlier_turns_to_the_model() -> None:
    with Simulator("Yes.") as simulator, at(simulator) as url:
        first = httpx2.post(f"{url}/start", json={"prompt": "One?"}).json()
        assert text_of(listen(url, f"/{first['stream']}&format=json")) == "Yes."
        assert text_of(listen(url, f"/stream/{first['session_id']}?format=json&prompt=Two%3F")) == "Yes."
        said = [(one["role"], one["content"]) for one in simulator.requests[1].body["messages"]]
        assert [role for role, _ in said] == ["system", "user", "assistant", "user"]
        assert said[1:] == [("user", "One?"), ("assistant", "Yes."), ("user", "Two?")]
        state = httpx2.get(f"{url}/state/{first['session_id']}").json()
        assert state["status"] == "idle"
        assert [turn["user"] for turn in state["turns"]] == ["One?", "Two?"]


def test_conversations_outlive_the_process_where_a_store_keeps_them(tmp_path: Path) -> None:
    store = {"type": "sqlite", "path": str(tmp_path / "threads.db")}
    for round_ in range(2):
        with Simulator("Yes.") as simulator, at(simulator, checkpointer=store) as url:
            listen(url, f"/stream/kept?prompt={round_}")
            assert len(simulator.requests[0].body["messages"]) == 2 + 2 * round_


def test_a_failure_is_sent_in_the_stream_and_frees_its_slot() -> None:
    with Simulator(Answer(["Half ", "a "], cut=2)) as simulator, at(simulator, max_streams=1) as url:
        for _ in range(2):
            *_, trouble, done = listen(url, "/stream/s?format=json&prompt=x")
            assert trouble.name == "stream-error"
            assert trouble.json["type"] == "StreamInterrupted"
            assert done.json["complete"] is False
        assert httpx2.get(f"{url}/state/s").json()["turns"] == []


def test_a_run_can_be_read_many_times_and_runs_once() -> None:
    with Simulator("Yes.") as simulator, at(simulator) as url:
        begun = httpx2.post(f"{url}/start", json={"prompt": "One?"}).json()
        first = listen(url, f"/{begun['stream']}&format=json")
        assert text_of(first) == "Yes."
        assert listen(url, f"/{begun['stream']}&format=json") == first
        assert listen(url, f"/stream/{begun['session_id']}?format=json") == first  # its last run
        known = httpx2.get(f"{url}/{begun['stream']}&format=json")
        tag = {"If-None-Match": known.headers["etag"]}
        assert httpx2.get(f"{url}/{begun['stream']}&format=json", headers=tag).status_code == 304
        assert len(simulator.requests) == 1
        nothing = httpx2.get(f"{url}/stream/{begun['session_id']}x")
        assert nothing.status_code == 400
        assert "there is no message" in nothing.json()["detail"]
        nothing = httpx2.get(f"{url}/stream/{begun['session_id']}?run=x")
        assert nothing.status_code == 404


def test_variables_fill_the_rest_of_a_prompt() -> None:
    with Simulator("Hi.") as simulator, at(simulator, "greet", message_as="name", variables={"style": "stiff"}) as url:
        listen(url, "/stream?prompt=Ada")
        sent = simulator.requests[0].body["messages"][-1]["content"]
        assert "Ada" in sent
        assert "stiff" in sent
    with Simulator("Hi.") as simulator, at(simulator, "greet", message_as="name", client_variables=["style"]) as url:
        begun = httpx2.post(f"{url}/start", json={"prompt": "Bob", "variables": {"style": "loud"}}).json()
        listen(url, f"/{begun['stream']}")
        sent = simulator.requests[0].body["messages"][-1]["content"]
        assert "Bob" in sent
        assert "loud" in sent


# Stop, disconnect, reconnect


@pytest.mark.parametrize("form", ["text", "json"])
def test_stop_closes_the_upstream_and_ends_the_stream_well(slow: Simulator, form: str) -> None:
    with at(slow) as url:
        thread, came, begun = reading(url, f"/stream/s?prompt=x&format={form}")
        assert begun.wait(60)
        assert httpx2.get(f"{url}/state/s").json()["status"] == "running"
        stopped = httpx2.post(f"{url}/stop/s")
        assert stopped.json() == {"stopped": True}
        wait_until(lambda: slow.abandoned == 1 and slow.open == 0, "the upstream was closed")
        thread.join(60)
        messages = messages_in(b"".join(came))
        assert "stream-error" not in [one.name for one in messages]
        if form == "json":
            assert messages[-1].json["complete"] is False
            turn = httpx2.get(f"{url}/state/s").json()["turns"][0]
            assert turn["assistant"] == text_of(messages)
        else:
            assert messages[-1].data == "[DONE]"
        assert httpx2.post(f"{url}/stop/s").json() == {"stopped": False}
        assert httpx2.get(f"{url}/health").json()["running"] == 0


def test_stop_reaches_a_graph_and_a_reader_who_does_not_read(slow: Simulator) -> None:
    graph = str(ROOT / "graphs" / "router.yaml")
    app = create_app(graph, provider=provider_at(slow, "openai"), prompts_dir=ROOT / "prompts")
    with serving(app) as url, httpx2.stream("GET", f"{url}/stream/g?prompt=x&format=json", timeout=60):
        wait_until(lambda: slow.open == 1, "the model was asked")
        assert httpx2.post(f"{url}/stop/g", timeout=60).json() == {"stopped": True}
        wait_until(lambda: slow.open == 0, "the upstream was closed")


def test_without_a_reader_the_upstream_is_closed(slow: Simulator) -> None:
    with at(slow, max_streams=1, grace=0.5) as url:
        with httpx2.stream("GET", f"{url}/stream/s?prompt=x", timeout=60) as response:
            body = response.iter_bytes()  # dropping it would close the connection
            assert next(body)
            wait_until(lambda: slow.open == 1, "the model was asked")
        wait_until(lambda: slow.open == 0, "the upstream was closed")
        wait_until(lambda: httpx2.get(f"{url}/health").json()["running"] == 0, "the place was free")
        # A client that comes too late gets the text and the end of that run, and starts no run.
        *_, trouble, done = listen(url, "/stream/s?format=json")
        assert trouble.name == "stream-error"
        assert "had no reader for" in trouble.json["message"]
        assert done.name == "done"
        assert len(slow.requests) == 1


@pytest.mark.parametrize("form", ["text", "json", "html"])
@pytest.mark.parametrize("path", ["/stream?prompt=x", "/stream/s?prompt=x"])
def test_a_client_that_reconnects_gets_exactly_the_rest(path: str, form: str) -> None:
    """Cut the connection after each message in turn."""
    with Simulator(Answer(pieces("a\r\nb [DONE] 漢\n"))) as simulator, at(simulator) as url:
        whole = listen(url, f"{path}&format={form}")
        assert whole[-1].id.endswith(".end")
        for cut, message in enumerate(whole, 1):
            rest = listen(url, f"{path}&format={form}", headers={"Last-Event-ID": message.id})
            assert rest == (whole[cut:] or whole[-1:])
        assert len(simulator.requests) == 1


@pytest.mark.parametrize("said", ["2", "nonsense", "nothing.2", "nothing.end"])
def test_a_client_that_reconnects_to_an_unknown_run_gets_an_error(said: str) -> None:
    with Simulator("Yes.") as simulator, at(simulator) as url:
        unknown = listen(url, "/stream/other?prompt=x", headers={"Last-Event-ID": said})
        assert [one.name for one in unknown] == ["stream-error", "message"]
        assert "ask again" in unknown[0].data
        assert simulator.requests == []


# Graphs


def test_an_interview_asks_is_answered_and_ends(interview: str) -> None:
    begun = httpx2.post(f"{interview}/start", json={}).json()
    path, session = f"/{begun['stream']}&format=json", begun["session_id"]
    asked = listen(interview, path)
    assert [one.json.get("type") for one in asked[:-1]] == ["node_start", "interrupt"]
    state = httpx2.get(f"{interview}/state/{session}").json()
    assert state["status"] == "waiting"
    assert state["question"] == {"node": "ask_name", "message": "What is your name?", "resume_key": "name"}
    assert listen(interview, path) == asked  # a second request repeats the question
    for answer in ("Ada", "Fly"):
        resumed = httpx2.post(f"{interview}/resume/{session}", json={"answer": answer})
        assert resumed.status_code == 202
        events = [one.json for one in listen(interview, f"/{resumed.json()['stream']}&format=json")]
    assert events[-2]["type"] == "graph_complete"
    assert events[-1]["complete"] is True
    said = "".join(
        one["content"] for one in events if one.get("type") == "token" and one["node"] == "generate_response"
    )
    state = httpx2.get(f"{interview}/state/{session}").json()
    assert (state["status"], state["question"]) == ("idle", None)
    assert (state["state"]["name"], state["state"]["response"]) == ("Ada", said)
    refused = httpx2.post(f"{interview}/resume/{session}", json={"answer": "more"})
    assert refused.status_code == 409


# Limits


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/stream", {"params": {"prompt": "x" * 101}}),
        ("POST", "/start", {"json": {"prompt": "x" * 101}}),
        ("POST", "/start", {"json": {"variables": {"a": "x" * 9000}}}),
        ("POST", "/resume/s", {"json": {"answer": "x" * 9000}}),
        ("POST", "/start", {"content": (b'{"prompt": "', b"x" * 9000, b'"}')}),
    ],
)
def test_too_much_input_is_refused(simulator: Simulator, method: str, path: str, options: dict[str, Any]) -> None:
    with at(simulator, max_input=100) as url:
        response = httpx2.request(method, f"{url}{path}", **options)
        assert response.status_code == 413
        assert "may have" in response.json()["detail"]
        assert simulator.requests == []


def test_a_conversation_has_one_run_at_a_time(slow: Simulator) -> None:
    with at(slow) as url:
        begun = httpx2.post(f"{url}/start", json={"prompt": "x", "session_id": "s"})
        assert begun.status_code == 201
        assert httpx2.get(f"{url}/stream/s?prompt=y").status_code == 409
        busy = httpx2.post(f"{url}/start", json={"prompt": "y", "session_id": "s"})
        assert (busy.status_code, busy.json()["detail"]) == (
            409,
            "This conversation has a run that has not ended. Stop it, or wait for its end.",
        )
        assert httpx2.post(f"{url}/stop/s").json() == {"stopped": True}
        assert httpx2.post(f"{url}/start", json={"prompt": "y", "session_id": "s"}).status_code == 201
        assert httpx2.post(f"{url}/stop/s").json() == {"stopped": True}


def test_too_many_streams_are_refused_until_one_ends(slow: Simulator) -> None:
    with at(slow, max_streams=2) as url:
        threads = [reading(url, f"/stream/s{number}?prompt=x") for number in range(2)]
        assert all(begun.wait(60) for _, _, begun in threads)
        full = httpx2.get(f"{url}/stream?prompt=x")
        assert (full.status_code, full.headers["retry-after"]) == (429, "2")
        assert "at most 2 answers may run at once" in full.json()["detail"]
        for number in range(2):
            httpx2.post(f"{url}/stop/s{number}")
        thread, _, begun = reading(url, "/stream/s0?prompt=x")
        assert begun.wait(60)
        httpx2.post(f"{url}/stop/s0")
        thread.join(60)


@pytest.mark.parametrize("name", ["a.b", "%2e%2e", "a b", "x" * 65, "é", "a%00"])
def test_odd_session_ids_are_refused(simulator: Simulator, name: str) -> None:
    with at(simulator) as url:
        assert httpx2.get(f"{url}/stream/{name}?prompt=x").status_code in (404, 422)
        assert httpx2.post(f"{url}/start", json={"prompt": "x", "session_id": name}).status_code == 422
        assert simulator.requests == []


def test_old_conversations_are_forgotten(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    with at(simulator) as url:
        for name in "abc":
            listen(url, f"/stream/{name}?prompt=x")
        assert [len(httpx2.get(f"{url}/state/{name}").json()["turns"]) for name in "abc"] == [0, 1, 1]


# Access


def who(authorization: Annotated[str | None, Header()] = None) -> str:
    if authorization is None:
        raise HTTPException(401, "say who you are")
    return authorization


def test_auth_guards_everything_but_health_and_the_page(simulator: Simulator) -> None:
    with at(simulator, auth=who) as url:
        for path in ("/stream?prompt=x", "/stream/s?prompt=x", "/state/s", "/about"):
            assert httpx2.get(f"{url}{path}").status_code == 401
        for path in ("/start", "/stop/s", "/resume/s"):
            assert httpx2.post(f"{url}{path}", json={"answer": 1}).status_code in (401, 422)
        assert [httpx2.get(f"{url}{path}").status_code for path in ("/health", "/")] == [200, 200]
        assert simulator.requests == []


@pytest.mark.long
def test_each_user_has_so_many_answers_at_once(slow: Simulator) -> None:
    ada, bob = {"Authorization": "ada"}, {"Authorization": "bob"}
    with at(slow, auth=who, max_per_user=2, grace=10) as url:
        begun = [httpx2.post(f"{url}/start", json={"prompt": "x"}, headers=ada).status_code for _ in range(3)]
        assert begun == [201, 201, 429]
        assert httpx2.post(f"{url}/start", json={"prompt": "x"}, headers=bob).status_code == 201
        wait_until(lambda: slow.open == 0 and len(slow.requests) == 3, "nobody came, and all was closed")


def test_people_see_their_own_conversations_only(simulator: Simulator) -> None:
    with at(simulator, auth=who) as url:
        ada, bob = {"Authorization": "ada"}, {"Authorization": "bob"}
        last = listen(url, "/stream/s?prompt=x", headers=ada)[-2]
        run = httpx2.get(f"{url}/state/s", headers=ada).json()["run"]
        assert httpx2.get(f"{url}/stream/s?run={run}", headers=ada).status_code == 200
        assert httpx2.get(f"{url}/stream/s?run={run}", headers=bob).status_code == 404
        theirs = listen(url, "/stream/s?prompt=x", headers={**bob, "Last-Event-ID": last.id})
        assert [one.name for one in theirs] == ["stream-error", "message"]
        assert httpx2.get(f"{url}/state/s", headers=ada).status_code == 200
        assert httpx2.get(f"{url}/state/s", headers=bob).status_code == 404
        assert httpx2.post(f"{url}/stop/s", headers=bob).status_code == 404
        listen(url, "/stream/s?prompt=y", headers=bob)
        assert len(simulator.requests[1].body["messages"]) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://friend.example"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_spend(simulator: Simulator, headers: dict[str, str], status: int) -> None:
    with at(simulator, cors=["https://friend.example"]) as url:
        response = httpx2.get(f"{url}/stream?prompt=x", headers=headers)
        assert (response.status_code, len(simulator.requests)) == (status, int(status == 200))
        allowed = response.headers.get("access-control-allow-origin")
        assert allowed == (headers["Origin"] if "friend" in headers.get("Origin", "") else None)


def test_another_sites_name_for_this_address_is_refused(simulator: Simulator) -> None:
    with at(simulator, allowed_hosts=["127.0.0.1"]) as url:
        assert httpx2.get(f"{url}/health").status_code == 200
        assert httpx2.get(f"{url}/health", headers={"Host": "rebound.example"}).status_code == 400


# The OpenAPI description


HELLO = [{"role": "user", "content": "Hello"}]
PARTS = [{"type": "text", "text": "Hello"}]


def test_openapi_is_true(interview: str) -> None:
    spec = httpx2.get(f"{interview}/openapi.json").json()
    asked: Sequence[tuple[str, str, Any, str]] = [
        ("get", "/health", None, "/health"),
        ("get", "/about", None, "/about"),
        ("post", "/start", {}, "/start"),
        ("post", "/start", {"session_id": "s"}, "/start"),
        ("post", "/start", {"prompt": 1}, "/start"),
        ("post", "/start", {"promt": "typo"}, "/start"),
        ("post", "/start", {"prompt": "x" * 40_000}, "/start"),
        ("get", "/stream/s", None, "/stream/{session_id}"),
        ("get", "/stream/s?format=xml", None, "/stream/{session_id}"),
        ("get", "/stream", None, "/stream"),
        ("get", "/token", None, "/token"),
        ("get", "/state/s", None, "/state/{session_id}"),
        ("get", "/state/none", None, "/state/{session_id}"),
        ("post", "/resume/none", {"answer": "x"}, "/resume/{session_id}"),
        ("post", "/resume/s", {"answer": None}, "/resume/{session_id}"),
        ("post", "/resume/s", {"answer": {"any": ["json"]}}, "/resume/{session_id}"),
        ("post", "/stop/s", None, "/stop/{session_id}"),
        ("post", "/stop/none", None, "/stop/{session_id}"),
        ("get", "/conversations", None, "/conversations"),
        ("get", "/conversations/none", None, "/conversations/{conversation_id}"),
        ("put", "/conversations/none", {"record": {}}, "/conversations/{conversation_id}"),
        ("post", "/fork/none", {"keep": []}, "/fork/{session_id}"),
        ("post", "/feedback/none", {"run": "r", "rating": "good"}, "/feedback/{session_id}"),
        ("post", "/v1/chat/completions", {"model": "interview", "messages": HELLO}, "/v1/chat/completions"),
        ("post", "/v1/chat/completions", {"model": "nothing", "messages": HELLO}, "/v1/chat/completions"),
        ("post", "/v1/messages", {"model": "interview", "messages": HELLO}, "/v1/messages"),
        ("post", "/v1/responses", {"model": "interview", "input": "Hello"}, "/v1/responses"),
        ("get", "/v1/responses/none", None, "/v1/responses/{response_id}"),
        ("post", "/v1/responses/none/cancel", None, "/v1/responses/{response_id}/cancel"),
        ("delete", "/v1/responses/none", None, "/v1/responses/{response_id}"),
        ("get", "/v1/models", None, "/v1/models"),
        ("get", "/v1/models/interview", None, "/v1/models/{name}"),
        ("get", "/v1/models/none", None, "/v1/models/{name}"),
        ("post", "/agui", {"threadId": "t", "runId": "r", "messages": []}, "/agui"),
        ("post", "/agui/stop", {}, "/agui/stop"),
        ("post", "/api/chat", {"id": "c", "messages": []}, "/api/chat"),
        ("post", "/api/chat", {"id": "c", "messages": [{"role": "user", "parts": PARTS}]}, "/api/chat"),
        ("get", "/api/chat/c/stream", None, "/api/chat/{chat_id}/stream"),
        ("post", "/api/chat/c/stop", None, "/api/chat/{chat_id}/stop"),
    ]
    seen: set[str] = set()
    for method, path, body, route in asked:
        response = httpx2.request(method, f"{interview}{path}", json=body, timeout=60)
        seen.add(route)
        answers = spec["paths"][route][method]["responses"]
        assert str(response.status_code) in answers, (method, path, response.status_code)
        content = answers[str(response.status_code)]["content"]
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in content, (method, path, kind)
        if kind == "application/json":
            schema = {**content[kind]["schema"], "components": spec["components"]}
            jsonschema.validate(response.json(), schema)
    assert seen == set(spec["paths"])


def test_mounted_under_a_prefix(simulator: Simulator) -> None:
    app = FastAPI()
    provider = provider_at(simulator, "openai")
    app.include_router(router("chat", provider=provider, prompts_dir=ROOT / "prompts"), prefix="/bot")
    app.include_router(router("chat", provider="demo", prompts_dir=ROOT / "prompts", page=False), prefix="/bare")
    with serving(app) as url:
        listen(url, "/bot/stream?prompt=x")
        assert httpx2.get(f"{url}/bot/").status_code == 200
        assert httpx2.get(f"{url}/bot/assets/app.js").status_code == 200
        assert httpx2.get(f"{url}/bare/").status_code == 404


def test_the_page_loads_nothing_from_outside(interview: str) -> None:
    page = httpx2.get(f"{interview}/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("app.js", "vendor/marked.js", "style.css"):
        asset = httpx2.get(f"{interview}/assets/{name}")
        assert asset.headers["content-security-policy"] == policy
        again = httpx2.get(f"{interview}/assets/{name}", headers={"If-None-Match": asset.headers["etag"]})
        assert again.status_code == 304
    for path in ("..%2f__init__.py", "%2e%2e/page.py", "vendor/README.md", "nothing.js"):
        assert httpx2.get(f"{interview}/assets/{path}").status_code == 404


def test_every_asset_is_served_or_a_note(interview: str) -> None:
    root = ROOT / "streamcore" / "web" / "assets"
    there = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    unserved = {name for name in there if httpx2.get(f"{interview}/assets/{name}").status_code != 200}
    assert {name for name in unserved if not name.endswith((".LICENSE", "README.md"))} == {"index.html"}


# Invalid targets and missing packages


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("greeet", {}, "there is no prompt 'greeet'; did you mean 'greet'"),
        ("nowhere.yaml", {}, "nowhere.yaml"),
        ("chat", {"provider": "mistrall"}, "mistrall"),
        ("chat", {"provider": None}, "no provider for prompt 'chat'; give provider= or --provider"),
        ("chat", {"checkpointer": {"type": "sqlit"}}, "sqlit"),
        ("two", {}, "prompt 'two' needs left, right: name the one that a user's message becomes"),
    ],
)
def test_targets_that_cannot_be_served_raise(tmp_path: Path, target: str, options: dict[str, Any], said: str) -> None:
    for name in ("chat", "greet"):
        (tmp_path / f"{name}.yaml").write_text((ROOT / "prompts" / f"{name}.yaml").read_text("utf-8"), "utf-8")
    (tmp_path / "two.yaml").write_text('user: "{left} {right}"\n', "utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)):
        settings: dict[str, Any] = {"prompts_dir": tmp_path, "provider": "demo", **options}
        create_app(target, **settings)


def test_the_key_is_in_no_answer() -> None:
    with Simulator("x") as simulator:
        provider = provider_at(simulator, "openai", base_url=f"{simulator.url}/nowhere")
        with serving(create_app("chat", provider=provider, prompts_dir=ROOT / "prompts", describe=str)) as url:
            body = httpx2.get(f"{url}/stream?prompt=x&format=json").text
            assert "stream-error" in body
            assert KEY not in body


def test_without_fastapi_it_says_which_extra_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import streamcore.web"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    said = "ConfigError: streamcore.web needs the package 'fastapi', which is not installed; run: pip install -e"
    assert f'{said} ".[server]"' in done.stderr
