"""Test that an error shows no secret of a request, for anything that the vendor echoes, at any place."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import Any

import httpx2
import pytest

from streamcore import Chunk, ProviderError, StreamcoreError, get_provider, stream_request
from streamcore.net.credentials import credentials, scrub_error
from streamcore.testing import FaultServer, ScriptedProvider
from streamcore.testing.faults.steps import Pause, Send
from tests.support import ask

pytestmark = pytest.mark.anyio

API_KEY = "PLANTED-key-0123456789"
HEADER = "PLANTED-header-0123456789"
QUERY = "PLANTED-query-0123456789"
PASSWORD = "PLANTED-password"
SECRETS = (API_KEY, HEADER, QUERY, PASSWORD)


def responses(secret: str) -> dict[str, bytes]:
    """Return responses that repeat a secret, by where they do."""
    event = {"error": {"message": f"no {secret}", "type": f"x{secret}", "code": secret}}
    stream = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    empty = "\r\nContent-Length: 0\r\n\r\n"
    delta = {"id": secret, "model": secret, "choices": [{"index": 0, "delta": {"content": "a"}}]}
    written = {
        "JSON": f"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n{json.dumps(event)}",
        "text": f"HTTP/1.1 500 No\r\nConnection: close\r\n\r\nbad key {secret}",
        "reason": f"HTTP/1.1 500 {secret}{empty}",
        "request id": f"HTTP/1.1 500 No\r\nx-request-id: {secret}{empty}",
        "status line": f"HTTP/1.1 {secret} OK\r\n\r\n",
        "header line": f"HTTP/1.1 200 OK\r\n{secret}\r\n\r\n",
        "redirect": f"HTTP/1.1 307 No\r\nLocation: https://user:{secret}@other.test/{secret}?x={secret}{empty}",
        "chunk size": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{secret}\r\n",
        "page": f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html>{secret}",
        "event": f"{stream}data: {json.dumps(event)}\n\n",
        "broken event": f'{stream}data: {{"x": {secret}\n\n',
        "model": f"{stream}data: {json.dumps(delta)}\n\ndata: {json.dumps({'error': {'message': 'x'}})}\n\n",
    }
    return {name: text.encode() for name, text in written.items()}


async def failure(url: str, name: str, transport: str) -> StreamcoreError:
    provider = get_provider(
        name,
        api_key=API_KEY,
        base_url=url.replace("://", f"://user:{PASSWORD}@") + f"/v1?token={QUERY}",
        model="m",
        headers={"x-any-name": HEADER},
        transport=transport,
    )
    with pytest.raises(StreamcoreError) as caught:
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert not any(secret in repr(provider) for secret in SECRETS)
    return caught.value


def shown(error: BaseException) -> str:
    """Return everything that a log or a page could show of an error."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None:
        fields: Any = {name: value for name, value in vars(link).items() if name not in ("_request", "response")}
        fields.pop("request", None)
        texts += [str(link), repr(link), repr(link.args), repr(fields)]
        link = link.__cause__ or link.__context__
    return "".join([*texts, *traceback.format_exception(error)])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("transport", ["httpx2", "aiohttp"])
@pytest.mark.parametrize("name", ["anthropic", "openai", "mistral"])
@pytest.mark.parametrize("where", sorted(responses("")))
async def test_no_echo_is_shown(where: str, name: str, transport: str) -> None:
    for secret in SECRETS:
        with FaultServer([Send(responses(secret)[where])]) as server:
            error = await failure(server.url, name, transport)
        assert secret not in shown(error), where
        assert secret not in shown(copy.deepcopy(error))
        assert secret.encode() not in pickle.dumps(error)


LATE = (
    b'data: {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"}\n\n'
    b'data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}}\n\n'
)
"""Content before the event that names the answer."""


def started(wire: str, secret: str) -> bytes:
    """Return the first event of an answer, with the secret as its id and its model."""
    names = {"id": secret, "model": secret}
    counts = {"usage": {"input_tokens": 1, "output_tokens": 1}}
    events: dict[str, Any] = {
        "anthropic": {"type": "message_start", "message": {**names, "role": "assistant", "content": [], **counts}},
        "openai-responses": {"type": "response.created", "response": {**names, "status": "in_progress", "output": []}},
    }
    event = events.get(wire, {**names, "choices": [{"index": 0, "delta": {"content": "a"}}]})
    return f"data: {json.dumps(event)}\n\n".encode()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("before", [b"", b": hello\n\n", b'data: {"unknown": 1}\n\n', LATE])
@pytest.mark.parametrize("name", ["anthropic", "openai", "openai-responses", "mistral"])
async def test_ids_and_names_of_an_answer_have_no_secrets(name: str, before: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: %b\r\nConnection: close\r\n\r\n"
    for secret in SECRETS[:2]:
        plays: list[Send | Pause] = [Send(head % secret.encode() + before), Pause(0.01), Send(started(name, secret))]
        with FaultServer(plays) as server:
            settings: dict[str, Any] = {"headers": {"x-pass": HEADER}, "base_url": server.url, "model": "m"}
            stream = stream_request(ask(), provider=get_provider(name, api_key=API_KEY, **settings), max_retries=0)
            seen: list[Chunk] = []
            with pytest.raises(StreamcoreError) as caught:
                async for chunk in stream:
                    seen.append(chunk)
        assert caught.value.partial is not None
        assert "start" in [chunk.kind for chunk in seen]
        assert secret not in repr((seen, caught.value.partial, stream.partial))
        assert secret.encode() not in pickle.dumps(caught.value)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("name", ["anthropic", "openai", "mistral"])
async def test_credentials_of_a_proxy_are_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = f"HTTP/1.1 407 {PASSWORD}\r\nContent-Length: 0\r\n\r\n".encode()
    with FaultServer([Send(echo)]) as proxy:
        address = proxy.url.replace("://", f"://user:{PASSWORD}@")
        own = httpx2.AsyncClient(proxy=address)
        settings: list[dict[str, Any]] = [{"http_client": own}, {}]
        for more in settings:
            if not more:
                monkeypatch.setenv("HTTP_PROXY", address)
                monkeypatch.setenv("http_proxy", address)
            provider = get_provider(name, api_key=API_KEY, base_url="http://vendor.test", model="m", **more)
            with pytest.raises(StreamcoreError) as caught:
                await stream_request(ask(), provider=provider, max_retries=0).collect()
            assert PASSWORD not in shown(caught.value)
        await own.aclose()


async def test_every_header_counts_but_public_ones() -> None:
    headers = {
        "User-Agent": "agent/1.2.3",
        "Content-Type": "application/json",
        "X-Whatever": HEADER,
        "cookie": "a=b1234567",
    }
    request = httpx2.Request("POST", f"https://user:{PASSWORD}@vendor.test/?k={QUERY}", headers=headers)
    found = credentials(request)
    assert {HEADER, QUERY, PASSWORD, "b1234567"} <= set(found)
    assert not {"agent/1.2.3", "application/json"} & set(found)


async def test_causes_contexts_groups_and_notes_are_scrubbed() -> None:
    inner = OSError(5, f"bad {API_KEY}")
    inner.add_note(API_KEY)
    outer = ValueError(f"bad {API_KEY}")
    outer.__context__ = inner
    outer.__cause__ = ExceptionGroup("several", [KeyError(API_KEY)])
    error = ProviderError(f"bad {API_KEY}", body={"a": [API_KEY]}, request_id=API_KEY)
    error.__context__ = outer
    scrub_error(error, [API_KEY])
    assert API_KEY not in shown(error)
    assert str(outer) == "bad [secret]"
    assert error.body == {"a": ["[secret]"]}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_partial_of_any_provider_has_no_secrets() -> None:
    class Provider(ScriptedProvider):
        def secrets(self) -> list[str]:
            return [API_KEY]

    start = Chunk("start", id=API_KEY, model=API_KEY, request_id=f"r-{API_KEY}")
    with pytest.raises(StreamcoreError) as caught:
        await stream_request(ask(), provider=Provider([start, "a"]), max_retries=0).collect()
    assert API_KEY not in repr(caught.value.partial)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "a"
