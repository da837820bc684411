"""Test that open streams get a proper end when their server stops, in every way that servers stop."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from streamcore import Message, Request, stream_request
from streamcore.sse import end_streams, sse_response
from streamcore.testing import Answer, Simulator
from tests.sse_support import ask, parse, process, receive_rest, receive_until, service
from tests.support import DEADLINE, eventually, provider_at, wait_until

Messages = list[MutableMapping[str, Any]]

SERVICE = """
import argparse

import uvicorn
from fastapi import FastAPI

from streamcore import Message, Request, stream_request
from streamcore.sse import sse_response

app = FastAPI()


@app.get("/")
async def stream(grace: float = 2.0, wait: bool = False):
    answer = stream_request(Request([Message("user", "Hi")]), provider="openai", max_retries=0)
    return sse_response(answer, grace=grace, wait=wait)


arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int)
uvicorn.run(app, host="127.0.0.1", port=arguments.parse_args().port, log_level="warning")
"""
STOPPED = (
    b"event: stream-error\nid: %b\ndata: the server is being stopped; the answer ends here\n\nid: end\ndata: [DONE]\n\n"
)


async def endless(closed: list[str]) -> AsyncIterator[str]:
    try:
        yield "Hi"
        await anyio.sleep_forever()
    finally:
        closed.append("closed")


def body_of(sent: Messages) -> bytes:
    return b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_stops_with_streams_that_wait_for_a_token(tmp_path: Path, sent: signal.Signals) -> None:
    """No graceful timeout is given: uvicorn would wait for these streams without end."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE, "utf-8")
    with Simulator(Answer(["Hi", " there"]), rate=1 / 60) as simulator:
        with process(str(script), simulator) as (running, port), ExitStack() as clients:
            opened = [clients.enter_context(ask(port, "/")) for _ in range(5)]
            late = clients.enter_context(ask(port, "/?wait=true"))
            wait_until(lambda: simulator.open == 6, "all are answered")
            running.send_signal(sent)
            bodies = [receive_rest(client) for client in opened]
            refused = receive_rest(late)
            running.wait(DEADLINE)
        wait_until(lambda: simulator.abandoned == 6, "every upstream was closed")
    for body in bodies:
        assert b"data: the server is being stopped" in body
        assert body.endswith(b"0\r\n\r\n"), "the response is whole"
    assert refused.startswith(b"HTTP/1.1 502")


def test_a_client_that_does_not_read_the_end_is_disconnected(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(SERVICE, "utf-8")
    with Simulator(Answer(["x" * 32768] * 2000)) as simulator:
        with process(str(script), simulator) as (running, port):
            with ask(port, "/?grace=0.1", receive_buffer=4096) as client:
                receive_until(client, b"data: ")
                time.sleep(0.3)  # the buffers of both sockets fill
                running.send_signal(signal.SIGTERM)
                wait_until(lambda: simulator.abandoned, "the upstream is closed")
            running.wait(DEADLINE)


def test_a_server_that_only_cancels_its_requests() -> None:
    """uvicorn in a thread has no signal handler: after `timeout_graceful_shutdown` it cancels what is open."""
    with Simulator(Answer(["Hi", " there"]), rate=1 / 60) as simulator:
        app = FastAPI()

        @app.get("/")
        async def stream() -> Response:
            request = Request([Message("user", "Hi")])
            return sse_response(stream_request(request, provider=provider_at(simulator, "openai"), max_retries=0))

        with ExitStack() as clients:
            with service(app) as port:
                client = clients.enter_context(ask(port, "/"))
                wait_until(lambda: simulator.open, "the upstream is asked")
            body = receive_rest(client)
        wait_until(lambda: simulator.abandoned == 1, "the upstream was closed")
    assert b"event: stream-error" in body
    assert b"data: the server cancelled this request; the answer ends here" in body
    assert b"id: end\ndata: [DONE]\n\n" in body
    assert body.endswith(b"0\r\n\r\n"), "the response is whole"


async def serve(response: Response, sent: Messages, *, takes_nothing_after: int = 10**9) -> None:
    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        if len(sent) >= takes_nothing_after:
            await anyio.sleep_forever()
        sent.append(message)

    await response({"type": "http", "method": "GET", "headers": []}, receive, send)


async def test_end_streams_ends_all(anyio_backend: str) -> None:
    closed: list[str] = []
    all_sent: list[Messages] = [[] for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for sent in all_sent:
            tasks.start_soon(serve, sse_response(endless(closed)), sent)
        await eventually(lambda: all(b"Hi" in body_of(sent) for sent in all_sent), "all are read")
        end_streams()
        end_streams()
    for sent in all_sent:
        assert body_of(sent).endswith(STOPPED % b"1")
        assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert len(closed) == 3
    end_streams()  # none is open


async def test_a_stuck_client_is_cut_after_the_grace(anyio_backend: str) -> None:
    closed: list[str] = []
    sent: Messages = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: serve(sse_response(endless(closed), grace=0.01), sent, takes_nothing_after=3))
        await eventually(lambda: b"Hi" in body_of(sent), "it is read")
        end_streams()
    assert closed == ["closed"]
    assert b"[DONE]" not in body_of(sent)


@pytest.mark.parametrize("takes_nothing_after", [10**9, 3])
async def test_a_cancelled_request_sends_its_end(anyio_backend: str, takes_nothing_after: int) -> None:
    closed: list[str] = []
    sent: Messages = []
    async with anyio.create_task_group() as tasks:
        response = sse_response(endless(closed), grace=0.01)
        tasks.start_soon(lambda: serve(response, sent, takes_nothing_after=takes_nothing_after))
        await eventually(lambda: b"Hi" in body_of(sent), "it is read")
        tasks.cancel_scope.cancel()
    assert closed == ["closed"]
    assert (b"the server cancelled this request" in body_of(sent)) == (takes_nothing_after > 3)


async def test_a_cancelled_request_whose_client_can_resume_gets_no_end(anyio_backend: str) -> None:
    class Resumable:
        resumable = True

        def __aiter__(self) -> Resumable:
            return self

        async def __anext__(self) -> str:
            await anyio.sleep_forever()
            raise AssertionError

    sent: Messages = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, sse_response(Resumable()), sent)
        await eventually(lambda: sent, "it has begun")
        tasks.cancel_scope.cancel()
    assert parse(body_of(sent)) == []
    assert sent[-1]["more_body"] is False


async def test_a_client_that_the_server_knows_to_be_disconnected(anyio_backend: str) -> None:
    """ASGI 2.4: `send` raises OSError then."""
    closed: list[str] = []

    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        raise OSError("gone")

    await sse_response(endless(closed))({"type": "http", "method": "GET", "headers": []}, receive, send)


async def test_an_error_of_the_server_is_raised_unchanged(anyio_backend: str) -> None:
    async def receive() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await sse_response(endless([]))({"type": "http", "method": "GET", "headers": []}, receive, send)
