"""Send requests that are not valid: each gets an error in the form of its API, which names the reason."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from streamcore import ConfigError
from streamcore.testing import Simulator
from streamcore.web import create_app
from tests.serving import serving
from tests.support import DEADLINE
from tests.web.endpoints.conftest import ROOT, Serve
from tests.web.endpoints.endings import PATHS
from tests.web.endpoints.seen import body_for

ALLOWED_PAGE, OTHER_PAGE = "https://ok.example", "https://bad.example"
ID_HEADERS = {"chat": "x-request-id", "responses": "x-request-id", "messages": "request-id"}
LIMITS = {"chat": "max_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    app = create_app(
        "chat", provider="demo", prompts_dir=ROOT / "prompts", allow_models=["demo/*"], cors=[ALLOWED_PAGE]
    )
    with serving(app) as found:
        yield found


def send(url: str, endpoint: str, body: Any, **options: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(url + PATHS[endpoint], content=content, timeout=DEADLINE, **options)


def refused(response: httpx2.Response, endpoint: str, status: int) -> str:
    """Return the message of an error in the form of an endpoint."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers[ID_HEADERS[endpoint]].startswith("req_")
    body = response.json()
    if endpoint == "messages":
        assert body["type"] == "error"
        assert body["request_id"] == response.headers["request-id"]
        assert set(body["error"]) == {"type", "message"}
    else:
        assert set(body["error"]) == {"message", "type", "param", "code"}
    found: str = body["error"]["message"]
    return found


@pytest.mark.parametrize("endpoint", PATHS)
def test_bodies_that_are_not_valid(url: str, endpoint: str) -> None:
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000):
        assert refused(send(url, endpoint, body), endpoint, 400) == "the body is not valid JSON"
    others: list[Any] = [[], "text", None, 5]
    for other in others:
        assert refused(send(url, endpoint, other), endpoint, 400) == "the body must be a JSON object"
    assert "model is required" in refused(send(url, endpoint, {}), endpoint, 400)


@pytest.mark.parametrize("endpoint", PATHS)
def test_parameters_of_a_wrong_type_are_named(url: str, endpoint: str) -> None:
    messages = "input" if endpoint == "responses" else "messages"
    wrong: dict[str, Any] = {
        "model": 5,
        messages: 7,
        "temperature": "hot",
        "stream": "yes",
        LIMITS[endpoint]: 0,
        "tools": {"type": "function"},
        "an_unknown_field": 1,
    }
    for name, value in wrong.items():
        body = {**body_for(endpoint, "demo/demo", stream=False), name: value}
        response = send(url, endpoint, body)
        assert name in refused(response, endpoint, 400), name
        if endpoint != "messages":
            assert response.json()["error"]["param"] == name


@pytest.mark.parametrize("endpoint", PATHS)
def test_models_that_are_not_served(url: str, endpoint: str) -> None:
    for name in ("nope", "openai/secret", "demo/", "/", "../chat", "x" * 10_000):
        message = refused(send(url, endpoint, body_for(endpoint, name, stream=True)), endpoint, 404)
        assert message.startswith(("model: there is no model", "there is no model"))
        assert "'chat'" in message
        assert len(message) < 500


@pytest.mark.parametrize("endpoint", PATHS)
def test_bodies_that_are_too_large(url: str, endpoint: str) -> None:
    """The length alone is refused; a body that is not read could break the connection before the answer is."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE)
    connection.putrequest("POST", PATHS[endpoint])
    connection.putheader("Content-Length", str(16 * 2**20 + 1))
    connection.endheaders()
    answer = connection.getresponse()
    response = httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())
    connection.close()
    assert "16777216 bytes" in refused(response, endpoint, 413)


@pytest.mark.parametrize("endpoint", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(url: str, endpoint: str, method: str) -> None:
    response = httpx2.request(method, url + PATHS[endpoint], timeout=DEADLINE)
    assert refused(response, endpoint, 405) == f"{method} is not possible here; use POST"
    assert response.headers["allow"] == "POST"


def test_paths_without_an_endpoint(url: str) -> None:
    for path in ("/v1/embeddings", "/v1/chat/completions/", "/v1/nothing"):
        response = httpx2.post(url + path, json={}, timeout=DEADLINE)
        assert "the endpoints are /v1/chat/completions" in refused(response, "chat", 404)
    assert httpx2.get(f"{url}/nothing", timeout=DEADLINE).json() == {"detail": "Not Found"}
    unknown = httpx2.get(f"{url}/v1/models/nothing", timeout=DEADLINE)
    assert "there is no model 'nothing'" in refused(unknown, "chat", 404)
    assert (unknown.json()["error"]["param"], unknown.json()["error"]["code"]) == ("model", "model_not_found")


@pytest.mark.parametrize("endpoint", PATHS)
def test_pages_of_other_origins(url: str, endpoint: str) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    path = url + PATHS[endpoint]
    preflight = httpx2.options(path, headers={"Origin": ALLOWED_PAGE, **asks}, timeout=DEADLINE)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ALLOWED_PAGE
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    assert httpx2.options(path, headers={"Origin": OTHER_PAGE, **asks}, timeout=DEADLINE).status_code == 400
    body = body_for(endpoint, "demo/demo", stream=False)
    answer = send(url, endpoint, body, headers={"Origin": ALLOWED_PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ALLOWED_PAGE
    exposed = answer.headers["access-control-expose-headers"]
    for name in (ID_HEADERS[endpoint], "retry-after", "x-should-retry"):
        assert name in exposed
    message = refused(send(url, endpoint, body, headers={"Origin": OTHER_PAGE}), endpoint, 403)
    assert message.startswith(f"Pages of {OTHER_PAGE} may not")


@pytest.mark.parametrize("endpoint", PATHS)
def test_requests_without_a_key(serve: Serve, endpoint: str) -> None:
    with Simulator() as simulator, serve(simulator, api_keys=["right"]) as url:
        body = body_for(endpoint, "openai/m", stream=True)
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"x-api-key": "wrong"},
            {"Authorization": "Basic right"},
        ):
            response = send(url, endpoint, body, headers=headers)
            assert "needs an API key" in refused(response, endpoint, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in ({"Authorization": "bearer right"}, {"x-api-key": "right"}):
            assert send(url, endpoint, body, headers=headers).status_code == 200
    assert len(simulator.requests) == 2


def test_openapi_says_what_is_sent(url: str) -> None:
    paths = httpx2.get(f"{url}/openapi.json", timeout=DEADLINE).json()["paths"]
    assert set(PATHS.values()) <= paths.keys()
    assert {"/v1/models", "/v1/models/{name}", "/v1/responses/{response_id}"} <= paths.keys()
    for path, methods in paths.items():
        if path.startswith("/v1/"):
            for described in methods.values():
                assert "422" not in described["responses"], path  # an error of FastAPI's own form
                assert {"200", "401", "403", "default"} <= described["responses"].keys(), path
    for path in PATHS.values():
        described = paths[path]["post"]
        assert {"400", "404", "409", "413", "429", "500", "503", "504"} <= described["responses"].keys()
        assert {"application/json", "text/event-stream"} <= described["responses"]["200"]["content"].keys()
        assert described["requestBody"]["required"]


def test_only_some_of_the_endpoints() -> None:
    def paths(**options: Any) -> set[str]:
        app = create_app("chat", provider="demo", prompts_dir=ROOT / "prompts", **options)
        return {path for path in app.openapi()["paths"] if path.startswith(("/v1", "/agui"))}

    assert paths(endpoints=False) == set()
    models = {"/v1/models", "/v1/models/{name}"}
    assert paths(endpoints=["messages"]) == {"/v1/messages", *models}
    assert paths(endpoints=["chat-completions", "agui"]) >= {"/v1/chat/completions", "/agui", *models}
    assert not paths(endpoints=["chat-completions", "agui"]) & {"/v1/messages", "/v1/responses"}
    assert set(PATHS.values()) <= paths()
    with pytest.raises(ConfigError, match="there is no endpoint 'message'; there are: agui, "):
        create_app(allow_models=["demo/*"], endpoints=["message"])
