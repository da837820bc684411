"""Serve the UI message stream on an application's own route."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from streamcore import OverloadedError, StreamInterrupted
from streamcore.sse import sse_response
from tests.serving import serving


async def answer(error: Exception | None = None) -> AsyncIterator[str]:
    yield "Hel"
    yield "lo"
    if error is not None:
        raise error


async def refused() -> AsyncIterator[str]:
    raise OverloadedError("secret words", provider="p", model="m")
    yield ""


def app() -> FastAPI:
    made = FastAPI()

    @made.post("/chat")
    async def chat() -> Response:
        return sse_response(answer(), "ai-sdk")

    @made.post("/cut")
    async def cut() -> Response:
        return sse_response(answer(StreamInterrupted("cut")), "ai-sdk")

    @made.post("/refused")
    async def refuse() -> Response:
        return sse_response(refused(), "ai-sdk", wait=True)

    return made


def test_the_response_has_the_header_of_the_protocol_and_its_end() -> None:
    with serving(app()) as url:
        response = httpx2.post(f"{url}/chat", headers={"last-event-id": "3"})
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.count('"delta":') == 2
    assert response.text.endswith("data: [DONE]\n\n")


def test_after_an_error_the_connection_is_broken() -> None:
    received = b""
    with serving(app()) as url, httpx2.stream("POST", f"{url}/cut") as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            for piece in response.iter_bytes():
                received += piece
    assert b'"type":"error"' in received
    assert b"[DONE]" not in received


def test_an_error_before_the_first_token_is_a_status_with_a_text() -> None:
    with serving(app()) as url:
        response = httpx2.post(f"{url}/refused")
    assert response.status_code == 503
    assert response.headers["content-type"].startswith("text/plain")
    assert "overloaded" in response.text
    assert "secret" not in response.text
