"""Test what the service keeps for the chat page: conversations of users, forks, ratings."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI, Header

from streamcore import ConfigError
from streamcore.checkpoints import MemoryCheckpointer
from streamcore.testing import ScriptedProvider
from streamcore.web import Feedback, PageOptions, conversations, create_app

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]


def user(authorization: Annotated[str, Header()] = "") -> str | None:
    return authorization or None


def as_user(name: str) -> dict[str, str]:
    return {"Authorization": name}


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncGenerator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client


@asynccontextmanager
async def service(**options: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    provider = options.pop("provider", None) or ScriptedProvider("Yes.")
    settings: dict[str, Any] = {"prompts_dir": ROOT / "prompts", "auth": user, "anonymous": True, **options}
    async with client_of(create_app("chat", provider=provider, **settings)) as client:
        yield client


async def save(client: httpx2.AsyncClient, who: str, name: str, record: Mapping[str, Any]) -> int:
    body = {"record": {"title": name.upper(), **record}}
    return (await client.put(f"/conversations/{name}", json=body, headers=as_user(who))).status_code


async def listed(client: httpx2.AsyncClient, who: str) -> list[str]:
    found = (await client.get("/conversations", headers=as_user(who))).json()["conversations"]
    return [f"{one['id']} {one['title']}" for one in found]


async def test_users_have_their_own_conversations() -> None:
    async with service() as client:
        assert await save(client, "ada", "a", {"turns": ["é"]}) == 200
        await anyio.sleep(0.002)  # so that the times of the changes differ
        assert await save(client, "ada", "b", {}) == 200
        await anyio.sleep(0.002)
        assert await save(client, "ada/a", "a", {"of": "another"}) == 200
        assert await listed(client, "ada") == ["b B", "a A"]
        assert (await client.get("/conversations/a", headers=as_user("ada"))).json() == {"title": "A", "turns": ["é"]}
        assert await listed(client, "bob") == []
        assert (await client.get("/conversations/a", headers=as_user("bob"))).status_code == 404
        assert (await client.delete("/conversations/a", headers=as_user("bob"))).status_code == 204
        assert (await client.get("/conversations/a", headers=as_user("ada"))).status_code == 200
        assert await save(client, "ada", "a", {"turns": []}) == 200
        assert await listed(client, "ada") == ["a A", "b B"]
        assert (await client.delete("/conversations/a", headers=as_user("ada"))).status_code == 204
        assert await listed(client, "ada") == ["b B"]
        assert (await client.get("/conversations/a", headers=as_user("ada"))).status_code == 404


async def test_without_a_user_the_service_keeps_none() -> None:
    async with service() as client:
        assert (await client.get("/about")).json()["keeps"] is False
        assert (await client.get("/about", headers=as_user("ada"))).json()["keeps"] is True
        for method, path in (("GET", ""), ("GET", "/a"), ("DELETE", "/a")):
            assert (await client.request(method, f"/conversations{path}")).status_code == 404
        assert (await client.put("/conversations/a", json={"record": {}})).status_code == 404


async def test_what_is_no_conversation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MAX_BYTES", 1000)
    monkeypatch.setattr(conversations, "MAX_CONVERSATIONS", 2)
    deep: list[Any] = []
    for _ in range(60):
        deep = [deep]
    async with service() as client:
        assert await save(client, "ada", "a", {"x": "y" * 1000}) == 413
        assert await save(client, "ada", "a", {"x": deep}) == 400
        assert await save(client, "ada", "a" * 65, {}) == 422
        assert [await save(client, "ada", name, {}) for name in "abcb"] == [200, 200, 413, 200]
        half = json.dumps({"record": {"title": "\ud83d"}})
        headers = as_user("ada") | {"Content-Type": "application/json"}
        assert (await client.put("/conversations/a", content=half, headers=headers)).status_code == 400


async def test_writers_at_once_lose_no_entry() -> None:
    async with service() as client:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(save, client, "ada", f"c{number}", {"number": number})
        assert len(await listed(client, "ada")) == 8


async def test_a_fork_has_the_turns_of_the_runs_that_are_kept() -> None:
    provider = ScriptedProvider("Yes.")
    async with service(provider=provider) as client:
        runs: list[str] = []
        for number in range(3):
            begun = await client.post("/start", json={"prompt": f"q{number}", "session_id": "s"})
            runs.append(begun.json()["run"])
            await client.get(f"/{begun.json()['stream']}")
        new = (await client.post("/fork/s", json={"keep": runs[:2]})).json()["session_id"]
        turns = (await client.get(f"/state/{new}")).json()["turns"]
        assert [turn["user"] for turn in turns] == ["q0", "q1"]
        await client.get(f"/stream/{new}?prompt=other")
        assert [message.text for message in provider.requests[-1].messages if message.role == "user"] == [
            *("q0", "q1", "other")
        ]
        assert len((await client.get("/state/s")).json()["turns"]) == 3
        mine = (await client.post("/fork/s", json={"keep": runs}, headers=as_user("ada"))).json()["session_id"]
        assert (await client.get(f"/state/{mine}", headers=as_user("ada"))).status_code == 404  # nothing of another's


async def test_deleting_a_conversation_deletes_what_the_service_keeps() -> None:
    store = MemoryCheckpointer()
    async with service(checkpointer=store) as client:
        await client.get("/stream/s?prompt=x")
        assert store.size > 0
        assert (await client.delete("/state/s", headers=as_user("ada"))).status_code == 204
        assert store.size > 0
        assert (await client.delete("/state/s")).status_code == 204
        assert store.size == 0


async def test_ratings_reach_the_application() -> None:
    found: list[Feedback] = []

    async def hook(feedback: Feedback) -> None:
        found.append(feedback)

    async with service(page=PageOptions(on_feedback=hook)) as client:
        body = {"run": "r", "rating": "bad"}
        assert (await client.post("/feedback/s", json=body, headers=as_user("ada"))).status_code == 204
        assert (await client.post("/feedback/s", json=body | {"rating": "so-so"})).status_code == 422
    assert found == [Feedback("ada", "s", "r", "bad")]
    async with service() as client:
        assert (await client.post("/feedback/s", json=body)).status_code == 404


async def test_the_page_has_the_operators_look(tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"
    logo.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", "utf-8")
    options = PageOptions(title="Ask us", logo=logo, color="#aa3300", frame_ancestors=["https://app.example.org"])
    async with service(page=options, api_keys=["k"], auth=None, anonymous=False) as client:
        settings = (await client.get("/assets/settings.json")).json()
        assert (settings["title"], settings["logo"], settings["asks_key"]) == ("Ask us", True, True)
        page = await client.get("/")
        assert page.headers["content-security-policy"].endswith("frame-ancestors https://app.example.org")
        assert (await client.get("/assets/logo")).headers["content-type"] == "image/svg+xml"
    async with service() as client:
        assert (await client.get("/")).headers["content-security-policy"].endswith("frame-ancestors 'none'")


@pytest.mark.parametrize(
    "options",
    [
        {"color": "red"},
        {"logo": "nowhere.svg"},
        {"logo": "logo.exe"},
        {"login_url": "javascript:alert(1)"},
        {"login_url": "//outside.example"},
        {"frame_ancestors": ["https://a.example; script-src *"]},
    ],
)
def test_a_page_that_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PageOptions(**options)
