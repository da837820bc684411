"""Send bodies that an attacker would: each gets an error in the form of its API that names the field, and no 500."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from streamcore.web import create_app, guard
from tests.serving import serving
from tests.support import DEADLINE

USER = {"role": "user", "content": "Hi"}
UI_USER = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
UI_CALL: dict[str, Any] = {
    "type": "tool-look",
    "toolCallId": "c1",
    "state": "output-available",
    "input": {},
    "output": "x",
}
UI_FILE = {"type": "file", "url": "data:image/png;base64,UE5H", "mediaType": "image/png"}
UI_STEP: list[Any] = [{"type": "step-start"}, {"type": "text", "text": "x"}, UI_CALL, UI_FILE]
SECRET = "sk-not-for-the-log"
BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "demo/demo", "messages": [USER]},
    "/v1/responses": {"model": "demo/demo", "input": [{"type": "message", **USER}]},
    "/v1/messages": {"model": "demo/demo", "messages": [USER], "max_tokens": 5},
    "/api/chat": {
        "id": "c1",
        "model": "demo/demo",
        "messages": [UI_USER, {"role": "assistant", "parts": UI_STEP}, {"role": "user", "parts": UI_USER["parts"]}],
    },
    "/agui": {
        "threadId": "t1",
        "runId": "r1",
        "messages": [{"id": "u1", **USER}],
        "forwardedProps": {"model": "demo/demo"},
    },
    "/agui/stop": {"threadId": "t1", "runId": "r1"},
}
MORE: Mapping[str, str] = {
    "/v1/chat/completions": "temperature max_tokens max_completion_tokens stop n top_p tools tool_choice seed stream "
    "response_format stream_options logit_bias reasoning_effort metadata modalities prediction",
    "/v1/responses": "instructions max_output_tokens temperature top_p tools tool_choice text reasoning store stream "
    "background previous_response_id include metadata max_tool_calls prompt conversation",
    "/v1/messages": "system temperature top_p top_k stop_sequences tools tool_choice thinking metadata stream "
    "output_config output_format mcp_servers container",
    "/api/chat": "trigger messageId tools toolChoice temperature topP maxOutputTokens stopSequences seed reasoning",
    "/agui": "parentRunId protocolVersion state tools context resume",
    "/agui/stop": "",
}
"""More keys of each body."""
ODD: tuple[Any, ...] = (10**400, {"type": []}, [None], "\ud83d")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    prompts = tmp_path_factory.mktemp("prompts")
    (prompts / "chat.yaml").write_text('user: "{message}"\n', "utf-8")
    app = create_app("chat", provider="demo", prompts_dir=prompts, allow_models=["demo/*"])
    with serving(app) as url, httpx2.Client(base_url=url, timeout=DEADLINE) as made:
        yield made


def message_of(path: str, response: httpx2.Response) -> str:
    """Return the text of an error, which must have the form of the endpoint's protocol."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:500])
    if path == "/api/chat":
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        return response.text
    message: str = response.json()["error"]["message"]
    return message


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of each value inside a value."""
    inner: list[Any] = list(value.items()) if isinstance(value, dict) else []  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, list):
        inner = list(enumerate(value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return [path for key, one in inner for path in [(*at, key), *places(one, (*at, key))]]


def replaced(value: Any, at: tuple[str | int, ...], new: Any) -> Any:
    """Return a copy of a value with another one at a path."""
    if not at:
        return new
    copy: Any = value.copy()
    copy[at[0]] = replaced(value[at[0]], at[1:], new)
    return copy


@pytest.mark.long
@pytest.mark.parametrize("path", BODIES)
def test_values_of_wrong_types_are_refused_at_every_key(
    client: httpx2.Client, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    # No answer is generated for this model, and a request is read before its model is looked for.
    body = json.loads(json.dumps(BODIES[path]).replace("demo/demo", "nobody/none"))
    caplog.set_level(logging.DEBUG, "streamcore")
    headers = {"authorization": f"Bearer {SECRET}"}
    for at in [*places(body), *((key,) for key in MORE[path].split())]:
        for odd in ODD:
            given = {**body, at[0]: None} if len(at) == 1 else body
            sent = json.dumps(replaced(given, at, odd)).encode()
            response = client.post(path, content=sent, headers=headers)
            message = message_of(path, response)
            assert "reference" not in message, (at, odd, message)
            assert "Traceback" not in message
            assert len(message) < 1000
    assert SECRET not in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("path", "key", "words"),
    [
        ("/v1/chat/completions", "max_tokens", "max_tokens must be a whole number"),
        ("/v1/responses", "max_output_tokens", "max_output_tokens must be a whole number"),
        ("/v1/messages", "max_tokens", "max_tokens must be a whole number"),
        ("/api/chat", "seed", "seed must be a whole number"),
        ("/v1/chat/completions", "temperature", "temperature must be a number"),
        ("/api/chat", "temperature", "temperature must be a number"),
    ],
)
@pytest.mark.parametrize("value", ["1" + "0" * 400, "NaN", "Infinity", "9223372036854775808"])
def test_numbers_that_no_parser_reads_are_refused(
    client: httpx2.Client, path: str, key: str, words: str, value: str
) -> None:
    text = json.dumps({**BODIES[path], key: "?"}).replace('"?"', value)
    response = client.post(path, content=text.encode())
    assert words in message_of(path, response)


def test_content_that_is_null_is_named(client: httpx2.Client) -> None:
    for role in ("user", "assistant"):
        messages = [USER, {"role": role, "content": None}]
        response = client.post("/v1/messages", json={**BODIES["/v1/messages"], "messages": messages})
        assert message_of("/v1/messages", response) == "messages[1].content is required"


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/agui/stop"])
def test_bodies_that_are_no_json_or_too_deep(client: httpx2.Client, path: str) -> None:
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    for body in (b"", b"\x00", b"{", b'{"a": "\xff"}', deep, b"9" * 5000):
        message = message_of(path, client.post(path, content=body))
        assert "JSON" in message, body[:20]


@pytest.mark.long
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat", "/agui"])
def test_ten_thousand_messages_are_read(client: httpx2.Client, path: str) -> None:
    key = "input" if path == "/v1/responses" else "messages"
    body = BODIES[path]
    one = body[key][0]
    many = [{**one, "id": f"m{number}"} if "id" in one else one for number in range(10_000)]
    response = client.post(path, json={**body, key: many})
    assert response.status_code == 200, response.text[:500]


def test_the_last_of_two_equal_keys_counts(client: httpx2.Client) -> None:
    body = json.dumps(BODIES["/v1/messages"]).replace('"max_tokens": 5', '"max_tokens": 5, "max_tokens": "many"')
    response = client.post("/v1/messages", content=body.encode())
    assert "max_tokens must be a whole number" in message_of("/v1/messages", response)


@pytest.mark.parametrize("head", [b"content-length: 100", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("path", ["/start", *BODIES])
def test_a_body_that_stops_arriving_is_refused(
    client: httpx2.Client, monkeypatch: pytest.MonkeyPatch, path: str, head: bytes
) -> None:
    monkeypatch.setattr(guard, "SILENT_SECONDS", 0.05)
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), DEADLINE) as connection:
        begun = b'{"model"' if b"length" in head else b'8\r\n{"model"\r\n'
        fields = b"host: localhost\r\ncontent-type: application/json\r\n" + head
        connection.sendall(b"POST " + path.encode() + b" HTTP/1.1\r\n" + fields + b"\r\n\r\n" + begun)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))  # the server closes the connection
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"is too slow" in answer
