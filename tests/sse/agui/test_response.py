"""Test the format `agui` of `sse_response` in an application's own service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import Body, FastAPI, Response

from streamcore import Chunk, ConfigError, StreamInterrupted
from streamcore.sse import sse_response
from tests.agui_support import checked, run_input, text_of
from tests.serving import serving
from tests.support import DEADLINE


async def answer(text: str) -> AsyncIterator[Chunk]:
    if text == "fail":
        raise StreamInterrupted("cut")
    yield Chunk("text", "Hel")
    if text == "cut":
        raise StreamInterrupted("cut")
    yield Chunk("text", "lo")
    yield Chunk("finish", finish_reason="stop")


def service() -> FastAPI:
    app = FastAPI()

    @app.post("/agent")
    async def agent(body: dict[str, Any] = Body(), wait: bool = False) -> Response:  # pyright: ignore[reportUnusedFunction]  # noqa: B008
        return sse_response(answer(body["messages"][-1]["content"]), "agui", run_input=body, wait=wait, describe=str)

    return app


def test_the_events_have_the_ids_of_the_request() -> None:
    with serving(service()) as url:
        response = httpx2.post(f"{url}/agent", json=run_input("Hi"), timeout=DEADLINE)
        found = checked(response.content)
        assert (found[0]["threadId"], found[0]["runId"], text_of(found)) == ("t1", "r1", "Hello")


def test_after_an_error_the_connection_breaks() -> None:
    with serving(service()) as url:
        data = b""
        with httpx2.stream("POST", f"{url}/agent", json=run_input("cut"), timeout=DEADLINE) as response:
            with pytest.raises(httpx2.RemoteProtocolError):
                for piece in response.iter_bytes():
                    data += piece
        last = checked(data)[-1]
        assert (last["type"], last["message"], last["code"]) == ("RUN_ERROR", "cut", "StreamInterrupted")


def test_with_wait_an_error_before_the_first_content_is_a_status() -> None:
    with serving(service()) as url:
        response = httpx2.post(f"{url}/agent?wait=1", json=run_input("fail"), timeout=DEADLINE)
        assert response.status_code == 502
        assert response.json()["error"]["code"] == "StreamInterrupted"


def test_an_input_that_is_not_valid_is_refused() -> None:
    for body in ({"threadId": 1}, {"runId": ""}, {"messages": "x"}, {"state": [1]}):
        with pytest.raises(ConfigError, match="RunAgentInput"):
            sse_response(answer(""), "agui", run_input=body)
