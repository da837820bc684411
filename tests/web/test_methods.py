"""Test the methods of HTTP that `serve` answers: HEAD like GET, and others with 405 and what is possible."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from streamcore import Chunk
from streamcore.testing import ScriptedProvider
from streamcore.web import create_app, router
from tests.serving import serving
from tests.support import DEADLINE

CHANGING = {"date", "set-cookie", "x-request-id", "x-session-id"}
ROUTES = ["/", "/assets/app.js", "/health", "/metrics", "/openapi.json", "/about", "/token", "/v1/models"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("prompts")
    (found / "plain.yaml").write_text('user: "{message}"\n', "utf-8")
    return found


def answers() -> ScriptedProvider:
    items: list[Any] = ["Yes.", Chunk("finish", finish_reason="stop")]
    return ScriptedProvider(*[items for _ in range(9)])


@pytest.fixture(scope="module")
def url(prompts: Path) -> Iterator[str]:
    app = create_app("plain", prompts_dir=prompts, provider="demo", metrics=True, api_keys=())
    with serving(app) as found:
        yield found


@pytest.fixture
async def client(prompts: Path) -> AsyncGenerator[tuple[httpx2.AsyncClient, ScriptedProvider]]:
    provider = answers()
    app = create_app("plain", prompts_dir=prompts, provider=provider)
    transport = httpx2.ASGITransport(app=app, client=("127.0.0.1", 1))
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as made:
        yield made, provider


def headers_of(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in CHANGING}


@pytest.mark.parametrize("path", ROUTES)
def test_head_has_the_headers_of_get_and_no_content(url: str, path: str) -> None:
    got = httpx2.get(url + path, timeout=DEADLINE)
    head = httpx2.head(url + path, timeout=DEADLINE)
    assert (head.status_code, head.content) == (200, b"")
    if path == "/metrics":  # they count requests, so that the length may differ
        assert head.headers["content-type"] == got.headers["content-type"]
    else:
        assert headers_of(head) == headers_of(got)
    assert int(got.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/models/nothing", 404), ("/assets/nothing", 404), ("/state/nothing", 404), ("/nope", 404)]
)
def test_head_has_the_status_of_an_error(url: str, path: str, status: int) -> None:
    response = httpx2.head(url + path, timeout=DEADLINE)
    assert (response.status_code, response.content) == (status, b"")


def test_head_of_a_file_that_the_client_has(url: str) -> None:
    tag = httpx2.head(f"{url}/assets/app.js", timeout=DEADLINE).headers["etag"]
    response = httpx2.head(f"{url}/assets/app.js", headers={"If-None-Match": tag}, timeout=DEADLINE)
    assert response.status_code == 304


@pytest.mark.anyio
async def test_head_starts_no_run(client: tuple[httpx2.AsyncClient, ScriptedProvider]) -> None:
    http, provider = client
    for path in ("/stream?prompt=x", "/stream/s?prompt=x"):
        response = await http.head(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in response.headers
    assert not provider.requests
    assert (await http.get("/state/s")).status_code == 404


@pytest.mark.anyio
async def test_head_of_a_run_is_answered_at_once(client: tuple[httpx2.AsyncClient, ScriptedProvider]) -> None:
    http, _ = client
    begun = (await http.post("/start", json={"prompt": "x", "session_id": "s"})).json()
    read = await http.get(f"/{begun['stream']}")
    again = await http.get(f"/{begun['stream']}")
    head = await http.head(f"/{begun['stream']}")
    assert "Yes." in read.text
    assert head.content == b""
    assert head.headers["etag"] == again.headers["etag"]
    known = await http.head(f"/{begun['stream']}", headers={"If-None-Match": head.headers["etag"]})
    assert known.status_code == 304


@pytest.mark.anyio
async def test_head_starts_no_run_where_get_may_not(prompts: Path) -> None:
    app = create_app("plain", prompts_dir=prompts, provider="demo")
    transport = httpx2.ASGITransport(app=app, client=("203.0.113.9", 1))
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        assert (await http.head("/stream?prompt=x")).status_code == 403
        assert (await http.head("/about", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


@pytest.mark.anyio
async def test_head_needs_a_key_where_get_does(prompts: Path) -> None:
    app = create_app("plain", prompts_dir=prompts, provider="demo", api_keys=["right"])
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        for path in ("/v1/models", "/about", "/stream?prompt=x", "/conversations"):
            assert (await http.head(path)).status_code == 401
        right = {"Authorization": "Bearer right"}
        assert (await http.head("/v1/models", headers=right)).status_code == 200


ALLOWED = {
    "/": "GET, HEAD",
    "/assets/app.js": "GET, HEAD",
    "/health": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/start": "POST",
    "/stop/s": "POST",
    "/state/s": "DELETE, GET, HEAD",
    "/conversations": "GET, HEAD",
    "/conversations/c": "DELETE, GET, HEAD, PUT",
    "/v1/models": "GET, HEAD",
    "/v1/models/a/b": "GET, HEAD",
    "/v1/chat/completions": "POST",
    "/v1/responses/r": "DELETE, GET, HEAD",
    "/v1/responses/r/cancel": "POST",
    "/v1/messages": "POST",
    "/api/chat": "POST",
    "/api/chat/c/stream": "GET, HEAD",
    "/api/chat/c/stop": "POST",
    "/agui": "POST",
    "/agui/stop": "POST",
}


@pytest.mark.parametrize("path", ALLOWED)
def test_other_methods_get_all_that_are_possible(url: str, path: str) -> None:
    for method in ("PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        response = httpx2.request(method, url + path, timeout=DEADLINE)
        assert response.status_code == 405
        assert response.headers["allow"] == ALLOWED[path]
        expected = f"{method} is not possible here; use {ALLOWED[path].replace(', ', ' or ')}"
        assert error_text(path, response) == expected


def error_text(path: str, response: httpx2.Response) -> str:
    """Return the text of an error, which has the form of its endpoint's protocol."""
    if path.startswith("/api/chat"):
        return response.text
    body: dict[str, Any] = response.json()
    return str(body["error"]["message"] if path.startswith(("/v1/", "/agui")) else body["detail"])


def test_head_is_no_operation_of_openapi(url: str) -> None:
    paths = httpx2.get(f"{url}/openapi.json", timeout=DEADLINE).json()["paths"]
    assert {"get", "post"} <= {method for described in paths.values() for method in described}
    assert "head" not in {method for described in paths.values() for method in described}


@pytest.mark.anyio
async def test_a_mounted_router_answers_the_same(prompts: Path) -> None:
    app = FastAPI()
    app.include_router(router("plain", prompts_dir=prompts, provider="demo"), prefix="/ai")
    transport = httpx2.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as http:
        head = await http.head("/ai/health")
        assert (head.status_code, head.content) == (200, b"")
        assert (await http.patch("/ai/conversations/c")).headers["allow"] == "DELETE, GET, HEAD, PUT"
