"""Test the files of messages, and the choice of a model: what is accepted, what the model gets, and what is kept."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Header

from streamcore import ConfigError, Document, Image, Text
from streamcore.provider import Provider
from streamcore.testing import Answer, PlannedCall, ScriptedProvider
from streamcore.testing.simulator.answers import tokens
from streamcore.web import FileOptions, HistoryLimit, PageOptions, create_app
from streamcore.web.files import FILE_TYPES, IMAGE_TYPES, is_of_type
from streamcore.web.offers import takes_file
from tests.serving import messages_in
from tests.support import Vendor

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
CONTENTS: Mapping[str, bytes] = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0JFIF",
    "image/gif": b"GIF89a\1\0",
    "image/webp": b"RIFF\1\2\3\nWEBPVP8 ",
    "application/pdf": b"%PDF-1.7\n",
    "text/plain": "Grüße\r\n\tan alle\f".encode(),
    "text/markdown": b"# Title\n",
    "text/csv": b"a,b\n1,2\n",
}

DELETING = """from streamcore.tools import tool


@tool(needs_approval=True)
def delete(path: str) -> str:
    'Delete it.'
    return path
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.yaml").write_text('system: Be kind.\nuser: "{message}"\n', "utf-8")
    (tmp_path / "agent.yaml").write_text('user: "{message}"\ntools:\n  - {python: "deleting.py:delete"}\n', "utf-8")
    (tmp_path / "deleting.py").write_text(DELETING, "utf-8")


def answers(turns: int = 9) -> ScriptedProvider:
    return ScriptedProvider(*["Yes."] * turns)


def sent(data: bytes = PNG, media_type: str = "image/png", name: str = "a.png") -> dict[str, str]:
    return {"name": name, "media_type": media_type, "data": base64.b64encode(data).decode()}


@asynccontextmanager
async def client_of(target: str = "plain", **options: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    options = {"provider": answers(), "files": True, **options}
    app = create_app(target, prompts_dir=".", **options)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield client


async def run(client: httpx2.AsyncClient, body: Mapping[str, Any], path: str = "/start") -> str:
    """Start a run, read it to its end, and return its name."""
    started = await client.post(path, json=body)
    assert started.status_code in (201, 202), started.text
    await client.get(f"/{started.json()['stream']}")
    return str(started.json()["run"])


async def test_files_reach_the_model_now_and_in_later_turns() -> None:
    provider = answers()
    async with client_of(provider=provider) as client:
        files = [sent(), sent(b"%PDF-1.7", "application/pdf", "a b.pdf")]
        await run(client, {"prompt": "What is it?", "session_id": "s", "files": files})
        await run(client, {"prompt": "And now?", "session_id": "s"})
        turns = (await client.get("/state/s")).json()["turns"]
    image, document = Image(data=PNG, media_type="image/png"), Document(data=b"%PDF-1.7", media_type="application/pdf")
    parts = [image, Document(data=document.data, media_type=document.media_type, name="a b.pdf"), Text("What is it?")]
    first, second = provider.requests
    assert [list(message.parts) for message in first.messages] == [[Text("Be kind.")], parts]
    assert [list(message.parts) for message in second.messages][1:] == [parts, [Text("Yes.")], [Text("And now?")]]
    names = [{"name": "a.png", "media_type": "image/png"}, {"name": "a b.pdf", "media_type": "application/pdf"}]
    assert turns[0] == {"user": "What is it?", "assistant": "Yes.", "files": names}
    assert "files" not in turns[1]


async def test_a_message_may_have_files_and_no_text() -> None:
    provider = answers()
    async with client_of(provider=provider) as client:
        await run(client, {"session_id": "s", "files": [sent()]})
        await run(client, {"prompt": "x", "session_id": "s"})
    assert provider.requests[0].messages[-1].parts == (Image(data=PNG, media_type="image/png"),)
    assert provider.requests[1].messages[1].parts == (Image(data=PNG, media_type="image/png"),)


async def test_the_files_of_an_earlier_message_are_sent_again_only_to_their_user() -> None:
    provider = answers()

    def who(x_user: Annotated[str, Header()]) -> str:
        return x_user

    async with client_of(provider=provider, auth=who) as client:
        client.headers["X-User"] = "ada"
        name = await run(client, {"prompt": "x", "session_id": "s", "files": [sent()]})
        again = {"prompt": "y", "session_id": "t", "files_of": {"session_id": "s", "run": name}}
        await run(client, again)
        assert provider.requests[-1].messages[-1].parts == (Image(data=PNG, media_type="image/png"), Text("y"))
        unknown = await client.post("/start", json={**again, "files_of": {"session_id": "s", "run": "other"}})
        client.headers["X-User"] = "eve"
        foreign = await client.post("/start", json={**again, "session_id": "e"})
    for refused in (unknown, foreign):
        assert refused.status_code == 400
        assert "not kept any more" in refused.json()["detail"]


REFUSED: list[tuple[dict[str, str], int, str]] = [
    (sent(b"<svg onload=alert(1)>"), 400, "is not 'image/png'"),
    (sent(PNG, "image/jpeg"), 400, "is not 'image/jpeg'"),
    (sent(b"<svg/>", "image/svg+xml", "a.svg"), 400, "types that are accepted: image/png"),
    (sent(b"<b>", "text/html", "a.html"), 400, "types that are accepted"),
    (sent(b"a\0b", "text/plain", "a.txt"), 400, "is not 'text/plain'"),
    (sent(b"", "text/plain", "a.txt"), 400, "is not 'text/plain'"),
    (sent(b"\xff", "text/csv", "a.csv"), 400, "is not 'text/csv'"),
    ({**sent(), "data": "****"}, 400, "not base64"),
    (sent(name="../a.png"), 400, "not a file's name"),
    (sent(name=""), 400, "not a file's name"),
    (sent(name="a\ud800"), 400, "not a file's name"),
    (sent(PNG + b"\0" * 1000), 413, "more than 100 bytes"),
    (sent(PNG + b"\0" * 53), 413, "more than 100 bytes"),
]


async def test_what_is_not_accepted_starts_no_run() -> None:
    provider = answers()
    options = FileOptions(max_bytes=100, max_files=2, max_total=150)
    async with client_of(provider=provider, files=options) as client:
        for file, status, why in REFUSED:
            body = json.dumps({"prompt": "x", "session_id": "s", "files": [file]})  # which escapes half of a pair
            refused = await client.post("/start", content=body, headers={"Content-Type": "application/json"})
            assert (refused.status_code, why in refused.json()["detail"]) == (status, True), refused.text
    assert provider.requests == []


async def test_all_files_of_a_message_are_limited_together() -> None:
    options = FileOptions(max_bytes=100, max_files=2, max_total=150)
    async with client_of(files=options) as client:
        large = sent(PNG + b"\0" * 50)
        too_large = await client.post("/start", json={"prompt": "x", "files": [large, large]})
        too_many = await client.post("/start", json={"prompt": "x", "files": [sent(), sent(), sent()]})
        body = await client.post("/start", json={"prompt": "x" * 300_000})
        name = await run(client, {"prompt": "x", "session_id": "s", "files": [large]})
        again = {"prompt": "y", "files": [large], "files_of": {"session_id": "s", "run": name}}
        both = await client.post("/start", json=again)
    assert [too_large.status_code, too_many.status_code, body.status_code, both.status_code] == [413, 400, 413, 413]
    assert "150 bytes together" in too_large.json()["detail"]
    assert "at most 2 files" in too_many.json()["detail"]


async def test_files_are_off_unless_the_operator_turns_them_on() -> None:
    async with client_of(files=False) as client:
        about = (await client.get("/about")).json()
        refused = await client.post("/start", json={"prompt": "x", "files": [sent()]})
        body = await client.post("/start", json={"prompt": "x" * 140_000})
    assert (about["accepts"], about["max_file_bytes"], about["models"]) == ([], 0, [])
    assert refused.status_code == 400
    assert "takes no files" in refused.json()["detail"]
    assert body.status_code == 413


async def test_old_files_leave_the_history() -> None:
    provider = answers()
    async with client_of(provider=provider, history=HistoryLimit(file_bytes=60)) as client:
        for _ in range(3):
            await run(client, {"prompt": "x", "session_id": "s", "files": [sent()]})
    assert [len(request.messages) for request in provider.requests] == [2, 4, 4]


async def test_a_fork_has_the_files_of_its_turns() -> None:
    provider = answers()
    async with client_of(provider=provider) as client:
        name = await run(client, {"prompt": "x", "session_id": "s", "files": [sent()]})
        new = (await client.post("/fork/s", json={"keep": [name]})).json()["session_id"]
        await run(client, {"prompt": "y", "session_id": new})
    assert provider.requests[-1].messages[1].parts == (Image(data=PNG, media_type="image/png"), Text("x"))


async def test_files_are_kept_while_a_call_waits_for_approval() -> None:
    provider = ScriptedProvider(Answer.of("Wait. ", calls=[PlannedCall("delete", {"path": "a"}, "c")]), "Done.", "Yes.")
    async with client_of("agent", provider=provider) as client:
        await run(client, {"prompt": "x", "session_id": "s", "files": [sent()]})
        assert (await client.get("/state/s")).json()["status"] == "waiting"
        await run(client, {"answer": True}, "/resume/s")
        await run(client, {"prompt": "y", "session_id": "s"})
        assert [turn["files"] for turn in (await client.get("/state/s")).json()["turns"][:1]] == [
            [{"name": "a.png", "media_type": "image/png"}]
        ]
    for request in provider.requests:
        assert request.messages[0].parts == (Image(data=PNG, media_type="image/png"), Text("x"))


# What is offered

IMAGES, PDF, TEXTS = [*IMAGE_TYPES], "application/pdf", ["text/plain", "text/markdown", "text/csv"]
TAKEN: list[tuple[str, list[str]]] = [
    ("anthropic", [*IMAGES, PDF, *TEXTS]),
    ("openai", [*IMAGES, PDF]),
    ("openai-responses", [*IMAGES, PDF, *TEXTS]),
    ("mistral", [*IMAGES, PDF, *TEXTS]),
    ("ollama", IMAGES),
]


@pytest.mark.parametrize(("name", "types"), TAKEN)
async def test_types_that_the_api_takes_are_offered(name: str, types: list[str]) -> None:
    vendor = Vendor()
    async with client_of(provider=vendor.provider(name)) as client:
        about = (await client.get("/about")).json()
    assert about["accepts"] == types
    assert (about["max_file_bytes"], about["max_files"], about["max_files_bytes"]) == (5_000_000, 5, 10_000_000)
    assert vendor.requests == []


@pytest.mark.parametrize(("name", "types"), [("google", [*IMAGES, PDF, *TEXTS]), ("bedrock", [*IMAGES, PDF, *TEXTS])])
async def test_types_of_the_other_providers(name: str, types: list[str]) -> None:
    provider: Provider = Vendor().provider(name)
    assert [one for one in FILE_TYPES if await takes_file(provider, one)] == types


def test_each_type_is_known_by_its_content() -> None:
    for kind, content in CONTENTS.items():
        fitting = [one for one in FILE_TYPES if is_of_type(content, one)]
        texts = [one for one in FILE_TYPES if one.startswith("text/")]
        assert fitting == (texts if kind in texts else [*([kind]), *(texts if kind == PDF else ())]), kind


WRONG: list[dict[str, Any]] = [{"types": ["text/html"]}, {"types": []}, {"max_bytes": 0}, {"max_files": 0}]


@pytest.mark.parametrize("options", WRONG)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="FileOptions"):
        FileOptions(**options)


def test_a_graph_takes_no_files(tmp_path: Path) -> None:
    edges = "edges: [{from: START, to: a}, {from: a, to: END}]\n"
    graph = f"name: g\nnodes:\n  a: {{type: llm, prompt: plain, variables: {{message: hi}}}}\n{edges}"
    (tmp_path / "g.yaml").write_text(graph, "utf-8")
    with pytest.raises(ConfigError, match="takes no files"):
        create_app(tmp_path / "g.yaml", provider="demo", prompts_dir=".", files=True)


# The choice of a model


async def test_only_models_by_name_that_the_operator_allows_can_be_chosen() -> None:
    provider = answers()
    allowed = ["demo/small", "demo/large", "openai/*"]
    async with client_of(provider=provider, allow_models=allowed, files=False) as client:
        assert (await client.get("/about")).json()["models"] == ["demo/small", "demo/large"]
        for model in ("openai/gpt-x", "openai/*", "small", "demo/other"):
            refused = await client.post("/start", json={"prompt": "x", "model": model})
            assert refused.status_code == 400
            assert "available are: demo/small, demo/large" in refused.json()["detail"]
        started = await client.post("/start", json={"prompt": "x", "session_id": "s", "model": "demo/large"})
        events = (await client.get(f"/{started.json()['stream']}&format=json")).text
        assert provider.requests == []
        assert '"model":"large"' in events
        await run(client, {"prompt": "y", "session_id": "s"})
    assert [message.text for message in provider.requests[0].messages][1] == "x"


async def test_the_end_of_a_graphs_run_has_its_sums_where_usage_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", str(tmp_path))
    edges = "edges: [{from: START, to: a}, {from: a, to: b}, {from: b, to: END}]\n"
    node = 'type: llm, prompt: plain, variables: {message: "{state.message}"}'
    nodes = f"nodes:\n  a: {{{node}, state_key: x}}\n  b: {{{node}, state_key: y}}\n"
    (tmp_path / "g.yaml").write_text(f"name: g\nstate: {{message: str}}\n{nodes}{edges}", "utf-8")
    for shown in (True, False):
        page = PageOptions(show_usage=shown)
        async with client_of(str(tmp_path / "g.yaml"), provider=answers(), page=page, files=False) as client:
            started = (await client.post("/start", json={"prompt": "Hi"})).json()
            body = await client.get(f"/{started['stream']}&format=json")
        done = messages_in(body.content)[-1]
        assert (done.name, done.json["complete"]) == ("done", True)
        assert ("usage" in done.json) == shown
        if shown:
            assert done.json["usage"]["output_tokens"] == 2 * len(tokens("Yes."))
