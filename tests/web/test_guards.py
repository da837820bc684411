"""Test what `serve` promises about its clients: who may spend, how much, and what they may set."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import httpx2
import pytest
from fastapi import Header

from streamcore import Chunk, ConfigError, Usage
from streamcore.relay import Relay
from streamcore.testing import ScriptedProvider
from streamcore.web import HistoryLimit, RunLimits, create_app
from streamcore.web.input_check import refuse_value

pytestmark = pytest.mark.anyio
LOCAL, REMOTE = "127.0.0.1", "203.0.113.9"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux)"}
NEVER = 3600.0
"""Seconds of a pause that no test waits for."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.yaml").write_text('system: "{policy}"\nuser: "{message}"\n', "utf-8")
    (tmp_path / "plain.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "other.yaml").write_text('user: "{message}"\n', "utf-8")


def answers(*items: Any, turns: int = 9) -> ScriptedProvider:
    return ScriptedProvider(*[[*(items or ("Yes.",)), Chunk("finish", finish_reason="stop")] for _ in range(turns)])


@asynccontextmanager
async def clients(target: str = "plain", *, peers: tuple[str, ...] = (LOCAL,), **options: Any) -> AsyncGenerator[Any]:
    """Serve the prompt, and yield a client for each peer address."""
    options.setdefault("provider", answers())
    app = create_app(target, prompts_dir=".", **options)
    async with app.router.lifespan_context(app):
        made = [
            httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app=app, client=(peer, 1), raise_app_exceptions=False),
                base_url="http://127.0.0.1",
            )
            for peer in peers
        ]
        yield made[0] if len(made) == 1 else made


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        (LOCAL, {}, 200),
        (LOCAL, {"Host": "bot.lan"}, 200),
        (LOCAL, BROWSER, 200),
        (LOCAL, {**BROWSER, "Host": "bot.lan"}, 403),
        (LOCAL, {"X-Forwarded-For": REMOTE}, 403),
        (LOCAL, {"Forwarded": "for=203.0.113.9"}, 403),
        (LOCAL, {"X-Forwarded-Proto": "https"}, 403),
        ("::1", {}, 200),
        (REMOTE, {}, 403),
        (REMOTE, {"Host": "127.0.0.1"}, 403),
        (REMOTE, {"Sec-Fetch-Site": "none"}, 403),
        (REMOTE, {"Sec-Fetch-Site": "same-origin"}, 200),
        (REMOTE, {"Sec-Fetch-Site": "cross-site"}, 403),
        (REMOTE, {"Sec-Fetch-Site": "cross-site", "Origin": "https://friend.example"}, 200),
        (REMOTE, {"Authorization": "Bearer x"}, 200),
        (REMOTE, {"Authorization": "Basic x"}, 403),
    ],
)
async def test_get_starts_a_run_only_with_proof(peer: str, headers: dict[str, str], status: int) -> None:
    provider = answers()
    async with clients(peers=(peer,), provider=provider, cors=["https://friend.example"]) as client:
        for path in ("/stream?prompt=x", "/stream/s?prompt=x"):
            assert (await client.get(path, headers=headers)).status_code == status
        assert len(provider.requests) == (2 if status == 200 else 0)


@pytest.mark.parametrize(("allow_get", "peer", "status"), [(True, REMOTE, 200), (False, LOCAL, 403)])
async def test_the_operator_decides_about_get(allow_get: bool, peer: str, status: int) -> None:
    async with clients(peers=(peer,), allow_get=allow_get) as client:
        assert (await client.get("/stream?prompt=x")).status_code == status
        begun = (await client.post("/start", json={"prompt": "x"})).json()
        assert (await client.get(f"/{begun['stream']}")).status_code == 200


async def test_a_proxy_on_the_same_machine_is_no_local_client() -> None:
    async with clients(trusted_proxies=["127.0.0.0/8"]) as client:
        assert (await client.get("/stream?prompt=x")).status_code == 403


@pytest.mark.parametrize(
    ("options", "variables", "status"),
    [
        ({"variables": {"policy": "tea"}}, {"policy": "evil"}, 400),
        ({"variables": {"policy": "tea"}}, {"other": "x"}, 400),
        ({"variables": {"policy": "tea"}}, {"_partial": "x"}, 400),
        ({"client_variables": ["policy"]}, {"policy": "mine"}, 201),
        ({"client_variables": ["policy"]}, {"policy": "x" * 101}, 413),
        ({"client_variables": ["policy"]}, {"policy": ["[" * 60]}, 201),
        ({"client_variables": ["policy"]}, {"message": "x"}, 400),
    ],
)
async def test_clients_set_what_the_operator_allows(
    options: dict[str, Any], variables: dict[str, Any], status: int
) -> None:
    async with clients("talk", max_input=100, message_as="message", **options) as client:
        response = await client.post("/start", json={"prompt": "hi", "variables": variables})
        assert response.status_code == status, response.text


async def test_variables_are_validated() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    async with clients("talk", client_variables=["policy"], message_as="message") as client:
        bodies = [b'{"prompt":"x","variables":{"policy":"\\ud83d"}}', b'{"prompt":"\\ud83d"}']
        for body in bodies:
            response = await client.post("/start", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code in (400, 422), response.text
        response = await client.post("/start", json={"prompt": "x", "variables": {"policy": deep}})
        assert (response.status_code, "nested" in response.json()["detail"]) == (400, True)
        body = b'{"prompt":"x","variables":{"policy":' + b"[" * 5000 + b"]" * 5000 + b"}}"
        response = await client.post("/start", content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422)


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"prompt": NaN}',
        b'{"session_id": "\\ud83d"}',
        b'{"prompt": ["\\ud83d"]}',
        b'{"\\ud83d": 1}',
        b'{"files": [-Infinity]}',
    ],
)
async def test_a_body_that_is_not_valid_is_not_sent_back(body: bytes) -> None:
    """JSON cannot express NaN, and UTF-8 cannot express half a surrogate pair."""
    async with clients() as client:
        for path in ("/start", "/resume/s"):
            response = await client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 422, response.text
            assert all(set(one) == {"type", "loc", "msg"} for one in response.json()["detail"])


@pytest.mark.parametrize("names", [["policy"], ["_x"]])
def test_an_operators_value_cannot_be_a_clients(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="clients may not set"):
        create_app("talk", prompts_dir=".", provider="demo", variables={"policy": "x"}, client_variables=names)


GRAPH = """
name: pay
state: {message: str, approved: bool}
nodes:
  pay: {type: passthrough, output: {result: "{state.approved}"}}
edges: [{from: START, to: pay}, {from: pay, to: END}]
"""


async def test_clients_set_declared_keys_of_a_graph_only(tmp_path: Path) -> None:
    (tmp_path / "pay.yaml").write_text(GRAPH, "utf-8")
    with pytest.raises(ConfigError, match="declares no 'result'"):
        create_app("pay.yaml", provider="demo", client_variables=["result"])
    async with clients("pay.yaml", variables={"approved": False}) as client:
        for variables in ({"approved": True}, {"result": "x"}, {"undeclared": 1}):
            response = await client.post("/start", json={"prompt": "x", "variables": variables})
            assert response.status_code == 400
        await client.get("/stream/s?prompt=x")
        assert (await client.get("/state/s")).json()["state"]["approved"] is False


async def test_one_address_cannot_take_all_streams() -> None:
    provider = answers("w", NEVER, turns=20)
    async with clients(peers=(REMOTE, "198.51.100.7", LOCAL), max_streams=8, provider=provider) as (one, other, local):
        taken = [(await one.post("/start", json={"prompt": "x"})).status_code for _ in range(4)]
        assert taken == [201, 201, 429, 429]
        assert (await other.post("/start", json={"prompt": "x"})).status_code == 201
        assert [(await local.post("/start", json={"prompt": "x"})).status_code for _ in range(3)] == [201] * 3


async def test_addresses_are_counted_behind_a_trusted_proxy_only() -> None:
    provider = answers("w", NEVER, turns=20)
    async with clients(max_per_user=1, trusted_proxies=["127.0.0.1"], provider=provider) as client:

        async def start(*forwarded: str) -> int:
            headers = [("X-Forwarded-For", one) for one in forwarded]
            response = await client.post("/start", json={"prompt": "x"}, headers=headers)
            return int(response.status_code)

        assert await start("203.0.113.1") == 201
        assert await start("203.0.113.1") == 429
        assert await start("6.6.6.6, 203.0.113.1") == 429  # what the client itself wrote does not count
        assert await start("203.0.113.2") == 201
        assert await start("2001:db8::1") == 201
        assert await start("2001:db8::2") == 429
    async with clients(max_per_user=1, provider=answers("w", NEVER)) as client:
        assert [await start("203.0.113.1"), await start("203.0.113.2")] == [201, 429]


async def test_an_ended_run_frees_its_address() -> None:
    async with clients(max_per_user=1) as client:
        for _ in range(3):
            begun = await client.post("/start", json={"prompt": "x"})
            assert begun.status_code == 201
            assert (await client.get(f"/{begun.json()['stream']}")).status_code == 200


@pytest.mark.parametrize(
    ("user", "anonymous", "status"),
    [
        ("ada", False, 200),
        (None, False, 401),
        (None, True, 200),
        ("", True, 500),
        (1, False, 200),
        (0, False, 200),
        (UUID(int=1), False, 200),
        (SimpleNamespace(id=7), False, 200),
        (SimpleNamespace(id=UUID(int=7)), False, 200),
        (True, False, 500),
        (SimpleNamespace(id=None), False, 500),
        (SimpleNamespace(id=""), False, 500),
        (SimpleNamespace(id=True), False, 500),
        (SimpleNamespace(name="ada"), False, 500),
        ({"id": 1}, True, 500),
    ],
)
async def test_auth_returns_a_user_or_none(user: Any, anonymous: bool, status: int) -> None:
    def auth(x: Annotated[str, Header()] = "") -> Any:
        return user

    async with clients(auth=auth, anonymous=anonymous) as client:
        response = await client.get("/about")
        assert response.status_code == status
        if status == 500:
            assert "auth= of this service returned" in response.json()["detail"]


async def test_users_that_are_objects_see_only_their_own_conversations() -> None:
    def auth(x_user: Annotated[int, Header()]) -> Any:
        return SimpleNamespace(id=x_user, seen_at=time.time())

    ada, ben = {"X-User": "1"}, {"X-User": "2"}
    async with clients("plain", auth=auth) as client:
        begun = (await client.post("/start", json={"prompt": "secret", "session_id": "s"}, headers=ada)).json()
        answer = (await client.get(f"/{begun['stream']}", headers=ada)).text
        assert "data: Yes." in answer
        assert "secret" in (await client.get("/state/s", headers=ada)).text
        assert (await client.get("/state/s", headers=ben)).status_code == 404
        assert "Yes." not in (await client.get(f"/{begun['stream']}", headers=ben)).text


async def test_services_that_share_a_relay_or_a_store_never_meet(tmp_path: Path) -> None:
    store = {"type": "sqlite", "path": str(tmp_path / "c.db")}
    async with (
        Relay() as relay,
        clients("plain", relay=relay, checkpointer=store) as first,
        clients("other", relay=relay, checkpointer=store) as second,
        clients("plain", relay=relay, checkpointer=store, name="shared") as third,
        clients("other", relay=relay, checkpointer=store, name="shared") as fourth,
    ):
        begun = (await first.post("/start", json={"prompt": "secret", "session_id": "s"})).json()
        last = (await first.get(f"/{begun['stream']}")).text
        for client in (second, third):
            assert (await client.get("/state/s")).status_code == 404
            assert (await client.get(f"/{begun['stream']}")).status_code == 404
            assert (await client.post("/stop/s")).status_code == 404
            text = (await client.get("/stream", headers={"Last-Event-ID": f"{begun['run']}.0"})).text
            assert "Yes" in last
            assert "Yes" not in text
        await third.get("/stream/s?prompt=x")
        assert (await fourth.get("/state/s")).json()["turns"][0]["user"] == "x"


def test_a_name_has_a_grammar() -> None:
    with pytest.raises(ConfigError, match="name="):
        create_app("plain", prompts_dir=".", provider="demo", name="a/b")


@pytest.mark.parametrize("full", ["drop", "refuse"])
async def test_a_conversation_is_bounded(full: Any) -> None:
    provider = answers()
    async with clients(provider=provider, history=HistoryLimit(2, full=full)) as client:
        statuses = [(await client.get(f"/stream/s?prompt={number}")).status_code for number in range(4)]
        turns = [turn["user"] for turn in (await client.get("/state/s")).json()["turns"]]
    sent = [len(request.messages) for request in provider.requests]
    if full == "drop":
        assert (statuses, turns, sent) == ([200] * 4, ["2", "3"], [1, 3, 5, 5])
    else:
        assert (statuses, turns, sent) == ([200, 200, 400, 400], ["0", "1"], [1, 3])


async def test_characters_of_a_conversation_are_bounded() -> None:
    provider = answers("y" * 100)
    async with clients(provider=provider, history=HistoryLimit(characters=150)) as client:
        for _ in range(3):
            await client.get("/stream/s?prompt=x")
    assert [len(request.messages) for request in provider.requests] == [1, 3, 3]


async def test_a_run_has_a_time_limit() -> None:
    async with clients(provider=answers("w", NEVER), max_seconds=0.2) as client:
        text = (await client.get("/stream?prompt=x&format=json")).text
        assert "stream-error" in text
        assert "StreamTimeout" in text


async def test_every_response_has_safe_headers() -> None:
    async with clients() as client:
        asked = ["/", "/assets/app.js", "/assets/no", "/health", "/about", "/stream?prompt=x", "/stream", "/state/no"]
        for path in [*asked, "/no", "/openapi.json", "/stream/a.b?prompt=x", "/about/"]:
            response = await client.get(path)
            assert response.headers["cache-control"] == "no-store", path
            assert response.headers["x-content-type-options"] == "nosniff", path
            assert not response.is_redirect
        assert (await client.get("/start")).headers["cache-control"] == "no-store"
    async with clients(allowed_hosts=["example.org"]) as client:
        response = await client.get("/", headers={"Host": "www.example.org"})
        assert (response.status_code, response.headers["x-content-type-options"]) == (400, "nosniff")


async def test_every_route_but_health_needs_the_key() -> None:
    async with clients(api_keys=["key-of-the-operator"]) as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        found = {
            (method, path): (await client.request(method, path.replace("{", "").replace("}", ""))).status_code
            for path, methods in paths.items()
            for method in methods
        }
    assert found.pop(("get", "/health")) == 200
    assert len(found) > 25
    assert set(found.values()) == {401}


async def test_half_of_a_surrogate_pair_is_no_response_that_fails() -> None:
    async with clients(provider=answers("cut \ud83d")) as client:
        await client.get("/stream/s?prompt=x")
        state = await client.get("/state/s")
        assert state.json()["turns"][0]["assistant"] == "cut \ufffd"
        assert (await client.get("/stream/s?prompt=y")).status_code == 200
    assert refuse_value({"a": ["\ud83d"]}) is not None


LOOP = """
name: loop
state: {message: str, items: list}
nodes:
  one: {type: passthrough, output: {n: "{state.message}"}}
  two: {type: passthrough, output: {n: "{state.message}"}}
edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: one}]
"""


async def test_a_loop_without_limit_ends(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").write_text(LOOP, "utf-8")
    async with clients("loop.yaml", limits=RunLimits(max_nodes=20)) as client:
        text = (await client.get("/stream?prompt=x&format=json")).text
        assert "RunLimitReached" in text
        assert text.count("node_complete") == 20


CALLS = """
name: calls
state: {message: str}
nodes:
  ask:
    type: map
    over: "{[1, 2, 3]}"
    as: item
    node: {type: llm, prompt: plain, variables: {message: "x"}, on_error: skip}
edges: [{from: START, to: ask}, {from: ask, to: END}]
"""


@pytest.mark.parametrize("limits", [RunLimits(max_items=2), RunLimits(max_model_calls=2)])
async def test_items_and_model_calls_are_limited(tmp_path: Path, limits: RunLimits) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "plain.yaml").write_text('user: "{message}"\n', "utf-8")
    (tmp_path / "calls.yaml").write_text(CALLS, "utf-8")
    provider = answers()
    async with clients("calls.yaml", limits=limits, provider=provider) as client:
        text = (await client.get("/stream?prompt=x&format=json")).text
        assert "RunLimitReached" in text
        assert len(provider.requests) <= 2


async def test_the_tokens_of_a_prompts_run_are_limited() -> None:
    provider = answers(*["word" * 10] * 9, NEVER)
    async with clients(limits=RunLimits(max_tokens=50), provider=provider) as client:
        text = (await client.get("/stream?prompt=x&format=json")).text
        assert "RunLimitReached" in text
        assert provider.open == 0


async def test_a_service_limits_tokens_by_default() -> None:
    provider = answers("x", Chunk("usage", usage=Usage(output_tokens=1_000_001)), NEVER)
    async with clients(provider=provider) as client:
        assert "RunLimitReached" in (await client.get("/stream?prompt=x&format=json")).text


async def test_a_page_proves_with_its_token_that_it_is_of_this_service() -> None:
    async with clients(peers=(REMOTE, REMOTE), cors=["https://friend.example"]) as (page, other):
        token = (await page.get("/token")).json()["token"]
        for path in ("/stream?prompt=x", "/stream/s?prompt=x"):
            assert (await page.get(f"{path}&token={token}", headers=BROWSER)).status_code == 200
            assert (await page.get(path, headers=BROWSER)).status_code == 403
            assert (await page.get(f"{path}&token={token[:-1]}x", headers=BROWSER)).status_code == 403
            assert (await page.get(f"{path}&token=%ff", headers=BROWSER)).status_code == 403
            assert (await other.get(f"{path}&token={token}", headers=BROWSER)).status_code == 403  # no cookie
        assert (await page.get("/token")).json()["token"] == token  # another tab


@pytest.mark.parametrize("forged", ["", "short", "x" * 44, "a b"])
async def test_a_cookie_that_the_service_did_not_set_is_no_proof(forged: str) -> None:
    async with clients(peers=(REMOTE,)) as client:
        headers = {"Cookie": f"streamcore-page={forged}"}
        assert (
            await client.get("/stream", params={"prompt": "x", "token": forged}, headers=headers)
        ).status_code == 403


async def test_the_cookie_of_the_token_is_for_this_site_only() -> None:
    async with clients(peers=(REMOTE,)) as client:
        plain = (await client.get("/token")).headers["set-cookie"]
        secure = (await client.get("https://127.0.0.1/token")).headers["set-cookie"]
        refused = await client.get("/token", headers={"Sec-Fetch-Site": "cross-site"})
    assert plain.startswith("streamcore-page=")
    assert secure.startswith("__Host-streamcore-page=")
    assert "SameSite=strict" in plain
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Secure"} <= set(secure.split("; "))
    assert refused.status_code == 403


async def test_a_token_does_not_override_the_operator() -> None:
    async with clients(peers=(REMOTE,), allow_get=False) as client:
        token = (await client.get("/token")).json()["token"]
        assert (await client.get(f"/stream?prompt=x&token={token}")).status_code == 403


async def test_the_bytes_of_conversations_in_memory_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.web.sessions.MAX_SESSION_BYTES", 10_000)
    async with clients(provider=answers("x" * 3_000)) as client:
        for name in "abcdef":
            await client.get(f"/stream/{name}?prompt=x")
        kept = [(await client.get(f"/state/{name}")).json().get("turns") for name in "abcdef"]
    assert [bool(turns) for turns in kept] == [False, False, True, True, True, True]  # checked when a run begins
