"""Test the SSE response over real sockets: what it sends, and that it closes its source in every case."""

from __future__ import annotations

import gc
import json
import logging
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import ExitStack
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as HTTPRequest
from starlette.responses import Response

from streamcore import (
    Chunk,
    ConfigError,
    Message,
    OverloadedError,
    RateLimitError,
    Request,
    Stream,
    StreamTimeout,
    execute_prompt_streaming,
    stream_request,
)
from streamcore.sse import Format, encode, sse_response
from streamcore.sse.events import Events
from streamcore.sse.response import BODY_SEND
from streamcore.testing import Answer, Simulator
from tests.sse_support import (
    HOSTILE,
    ROOT,
    ask,
    parse,
    process,
    receive_rest,
    receive_until,
    seconds_until,
    service,
)
from tests.support import DEADLINE, TRIES, eventually, provider_at, wait_until

TOKENS = ["Hi", "\n", " there", "[DONE]", "."]


def answer_of(simulator: Simulator, **options: Any) -> Stream:
    request = Request([Message("user", "Hi")])
    return stream_request(request, provider=provider_at(simulator, "openai"), max_retries=0, **options)


def app_for(simulator: Simulator, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/stream")
    async def stream(format: Format = "text", wait: bool = False) -> Response:  # noqa: A002  the query's name
        return sse_response(answer_of(simulator), format, wait=wait, **options)

    return app


def body_of(received: bytes) -> bytes:
    """Return the body without HTTP's chunked encoding."""
    _, _, left = received.partition(b"\r\n\r\n")
    body = b""
    while left:
        size, _, left = left.partition(b"\r\n")
        length = int(size, 16)
        body, left = body + left[:length], left[length + 2 :]
    return body


def get(port: int, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with ask(port, path, {"Connection": "close", **headers}) as client:
        received = receive_rest(client)
    head = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    pairs = (line.partition(": ") for line in head[1:])
    return int(head[0].split()[1]), {name.lower(): value for name, _, value in pairs}, body_of(received)


@pytest.fixture
def slow() -> Iterator[Simulator]:
    """Serve an answer whose first token takes a minute."""
    with Simulator(Answer(TOKENS), rate=1 / 60) as running:
        yield running


@pytest.mark.parametrize("fmt", ["text", "json", "html"])
def test_a_stream_arrives(fmt: Format) -> None:
    with Simulator(Answer(TOKENS)) as simulator, service(app_for(simulator)) as port:
        status, headers, body = get(port, f"/stream?format={fmt}")
    assert status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] == "no-store"
    assert body.startswith(b"id: 0\n\n")
    events = parse(body)
    assert events[-1].id == "end"
    if fmt == "json":
        chunks = [json.loads(event.data) for event in events]
        assert "".join(chunk["text"] for chunk in chunks if chunk.get("kind") == "text") == "".join(TOKENS)
        assert chunks[-1]["complete"] is True
        assert chunks[-1]["finish_reason"] == "stop"


def test_text_streams_and_custom_generators() -> None:
    closed: list[str] = []

    async def tokens() -> AsyncIterator[str]:
        try:
            for token in TOKENS:
                yield token
        finally:
            closed.append("tokens")

    app = FastAPI()

    @app.get("/text")
    async def text() -> Response:
        return sse_response(
            execute_prompt_streaming("greet", {"name": "Ada"}, provider="demo", prompts_dir=ROOT / "prompts")
        )

    @app.get("/own")
    async def own() -> Response:
        return sse_response(tokens())

    with service(app) as port:
        assert b"Hello" in get(port, "/text")[2]
        assert "".join(event.data for event in parse(get(port, "/own")[2])) == "".join(TOKENS) + "[DONE]"
    assert closed == ["tokens"]


@pytest.mark.anyio
async def test_a_source_that_cannot_be_streamed_is_refused_at_the_call() -> None:
    wrong: list[Any] = [stream_request(Request([Message("user", "Hi")]), provider="demo").collect(), ["a", "b"], "ab"]
    for source in wrong:  # a coroutine that was not awaited would also be a warning, which is an error here
        with pytest.raises(TypeError, match=f"async iterable, not a {type(source).__name__}"):
            sse_response(source)


def test_headers_come_before_the_first_token(slow: Simulator) -> None:
    with service(app_for(slow)) as port, ask(port, "/stream") as client:
        assert b"200 OK" in receive_until(client, b"id: 0\n\n")


def test_heartbeats(slow: Simulator) -> None:
    with service(app_for(slow, heartbeat=0.01)) as port, ask(port, "/stream") as client:
        receive_until(client, b": heartbeat\n\n")


def test_an_error_is_sent_before_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "streamcore")
    with Simulator(Answer(TOKENS, cut=2)) as simulator, service(app_for(simulator)) as port:
        events = parse(get(port, "/stream")[2])
    assert [event.data for event in events[:2]] == TOKENS[:2]
    assert events[2].event == "stream-error"
    assert "the answer was cut off" in events[2].data
    assert [event.data for event in events[3:]] == ["[DONE]"]
    found = re.search(r"\(reference ([0-9a-f]{8})\)", events[2].data)
    assert found is not None
    logged = f"a stream to a browser ended in StreamInterrupted (reference {found[1]}): "
    assert logged in caplog.text
    assert "terminal mark" in caplog.text


def test_a_custom_generator_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> AsyncIterator[str]:
        yield "Hi"
        raise KeyError("secret")

    app = FastAPI()
    app.get("/")(lambda: sse_response(broken(), "json"))
    with service(app) as port:
        events = parse(get(port, "/")[2])
    assert [event.event for event in events] == ["message", "stream-error", "done"]
    assert "secret" not in str(events)
    assert "KeyError: 'secret'" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (RateLimitError("slow down", retry_after=7), 503, "7"),
        (OverloadedError("full"), 503, None),
        (StreamTimeout("late", clock="first_token"), 504, None),
        (ConfigError("secret"), 500, None),
    ],
)
def test_wait_makes_an_early_error_a_status(error: Exception, status: int, after: str | None) -> None:
    async def failing() -> AsyncIterator[Chunk]:
        yield Chunk("start")
        raise error

    app = FastAPI()
    app.get("/")(lambda: sse_response(failing(), wait=True, heartbeat=0.001))
    with service(app) as port:
        found, headers, body = get(port, "/")
    assert found == status
    assert headers.get("retry-after") == after
    assert headers["content-type"] == "application/json"
    reported = json.loads(body)["error"]
    assert reported["type"] == type(error).__name__
    assert "secret" not in reported["message"]


def test_wait_passes_a_stream_on() -> None:
    with Simulator(Answer(TOKENS)) as simulator, service(app_for(simulator)) as port:
        status, headers, body = get(port, "/stream?wait=true")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert "".join(event.data for event in parse(body)) == "Hi\n there[DONE].[DONE]"


def test_wait_sends_nothing_before_the_first_token(slow: Simulator) -> None:
    with service(app_for(slow, heartbeat=0.01)) as port, ask(port, "/stream?wait=true") as client:
        wait_until(lambda: slow.open, "the upstream is asked")
        client.settimeout(0.2)  # twenty heartbeats
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_client_that_reconnects_gets_an_end_and_no_second_answer() -> None:
    with Simulator(Answer(TOKENS)) as simulator, service(app_for(simulator)) as port:
        lost = parse(get(port, "/stream", **{"Last-Event-ID": "3"})[2])
        ended = parse(get(port, "/stream?wait=true", **{"Last-Event-ID": "end"})[2])
        assert not simulator.requests
    assert [event.event for event in lost] == ["stream-error", "message"]
    assert "connection was lost" in lost[0].data
    assert [(event.data, event.id) for event in ended] == [("[DONE]", "end")]


def test_a_source_that_can_resume_is_used() -> None:
    app = FastAPI()

    async def rest() -> AsyncIterator[str]:
        yield "rest"

    app.get("/")(lambda: sse_response(rest(), after=3))
    with service(app) as port:
        events = parse(get(port, "/", **{"Last-Event-ID": "3"})[2])
    assert [(event.data, event.id) for event in events] == [("rest", "4"), ("[DONE]", "end")]


def test_head_sends_no_request(simulator: Simulator) -> None:
    app = FastAPI()
    app.head("/")(lambda: sse_response(answer_of(simulator)))
    with service(app) as port, ask(port, "/", {"Connection": "close"}, method="HEAD") as client:
        head, _, body = receive_rest(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in head
    assert not body
    assert not simulator.requests


def test_a_source_that_may_restart_needs_json(simulator: Simulator) -> None:
    with pytest.raises(ConfigError, match="restart"):
        sse_response(answer_of(simulator, on_interrupt="restart"), "html")
    sse_response(answer_of(simulator, on_interrupt="restart"), "json")


def gone_within(simulator: Simulator, leave: Any) -> float:
    before = simulator.abandoned
    leave()
    return seconds_until(lambda: simulator.abandoned == before + 1 and not simulator.open, "the upstream is closed")


@pytest.mark.parametrize("path", ["/stream", "/stream?wait=true"])
def test_a_client_that_disconnects_before_the_first_token(slow: Simulator, path: str) -> None:
    times: list[float] = []
    with service(app_for(slow)) as port:
        for _ in range(TRIES):
            client = ask(port, path)
            wait_until(lambda: slow.open, "the upstream is asked")
            times.append(gone_within(slow, client.close))
            if times[-1] < 1:
                break
    assert min(times) < 1


def test_a_client_that_disconnects_in_the_middle() -> None:
    times: list[float] = []
    with Simulator(Answer([f"token {n} " for n in range(10_000)]), rate=50) as simulator:
        with service(app_for(simulator)) as port:
            for _ in range(TRIES):
                client = ask(port, "/stream")
                receive_until(client, b"token 3")
                times.append(gone_within(simulator, client.close))
                if times[-1] < 1:
                    break
    assert min(times) < 1


def wait_until_constant(count: Any) -> None:
    """Wait until a count has not changed for a while."""
    last, since = count(), time.monotonic()
    deadline = since + DEADLINE
    while time.monotonic() - since < 0.3:
        time.sleep(0.01)
        if count() != last:
            last, since = count(), time.monotonic()
        assert time.monotonic() < deadline, "the count never stayed the same"


@pytest.mark.parametrize("reset", [True, False])
def test_a_client_that_disconnects_under_backpressure(reset: bool) -> None:
    reads: list[int] = []
    big = "x" * 32768
    answer = Answer([big] * 2000)  # 64 MB, more than the sockets of both sides buffer

    with Simulator(answer) as simulator:

        async def counted() -> AsyncIterator[Chunk]:
            async with answer_of(simulator) as stream:
                async for chunk in stream:
                    reads.append(1)
                    yield chunk

        app = FastAPI()
        app.get("/stream")(lambda: sse_response(counted()))
        app.get("/direct")(lambda: sse_response(answer_of(simulator)))
        with service(app) as port:
            for path in ("/stream", "/direct"):
                times: list[float] = []
                for _ in range(TRIES):
                    reads.clear()
                    client = ask(port, path, receive_buffer=4096)
                    receive_until(client, b"data: ")
                    wait_until_constant(reads.__len__)
                    assert len(reads) < 2000
                    assert simulator.open == 1
                    if reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    times.append(gone_within(simulator, client.close))
                    if times[-1] < 1:
                        break
                assert min(times) < 1


def test_a_client_that_reads_nothing_is_disconnected() -> None:
    with Simulator(Answer(["x" * 32768] * 2000)) as simulator:
        with (
            service(app_for(simulator, send_timeout=0.2, heartbeat=0.1)) as port,
            ask(port, "/stream", receive_buffer=4096) as client,
        ):
            receive_until(client, b"data: ")
            wait_until(lambda: simulator.abandoned, "the upstream is closed")


async def test_a_client_that_reads_all_but_the_end_is_disconnected(anyio_backend: str) -> None:
    sent: list[bytes] = []

    async def texts() -> AsyncIterator[Chunk]:
        yield Chunk("text", text="Hi")

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            await anyio.sleep_forever()
        sent.append(message.get("body", b""))

    async def receive() -> MutableMapping[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(DEADLINE):
        response = sse_response(texts(), send_timeout=0.05, heartbeat=0.01)
        await response({"type": "http", "method": "GET", "headers": []}, receive, send)
    assert b"data: Hi" in b"".join(sent)


async def test_stopping_ends_a_waiting_stream(anyio_backend: str, slow: Simulator) -> None:
    events = Events(answer_of(slow), encode("text"))
    received: list[bytes] = []

    async def read() -> None:
        received.extend([data async for data in events])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await eventually(lambda: slow.open, "the upstream is asked")
        events.stop()
        events.stop()
    await events.aclose()
    assert b"".join(received) == (
        b"event: stream-error\ndata: the server is being stopped; the answer ends here\n\ndata: [DONE]\n\n"
    )
    await eventually(lambda: slow.abandoned == 1, "the upstream is closed")


async def test_a_cancelled_reader_is_not_mistaken_for_a_stop(anyio_backend: str, slow: Simulator) -> None:
    events = Events(answer_of(slow), encode("text"))
    finished = False

    async def read() -> None:
        nonlocal finished
        await anext(events)
        finished = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await eventually(lambda: slow.open, "the upstream is asked")
        tasks.cancel_scope.cancel()
    await events.aclose()
    assert not finished
    await eventually(lambda: slow.abandoned == 1, "the upstream is closed")


async def test_events_are_read_on_both_backends(anyio_backend: str, simulator: Simulator) -> None:
    simulator.decide = lambda asked: Answer([*HOSTILE])
    events = Events(answer_of(simulator), encode("json"))
    received = parse(b"".join([data async for data in events]))
    await events.aclose()
    chunks = [json.loads(event.data) for event in received]
    assert "".join(chunk["text"] for chunk in chunks if chunk.get("kind") == "text") == "".join(HOSTILE)


async def test_a_source_that_fails_to_close(anyio_backend: str, caplog: pytest.LogCaptureFixture) -> None:
    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise OSError("no")

    events = Events(Source(), encode("text"))
    assert [data async for data in events] == [b"data: [DONE]\n\n"]
    await events.aclose()
    assert "closing the source" in caplog.text


def test_sigterm_with_fifty_open_streams() -> None:
    with Simulator(Answer([f"token {n} " for n in range(10_000)]), rate=5) as simulator:
        with process("examples/fastapi_sse.py", simulator) as (running, port), ExitStack() as clients:
            opened = [clients.enter_context(ask(port, "/stream?prompt=Hi&format=json")) for _ in range(50)]
            for client in opened[:25]:
                receive_until(client, b"token 1")
            wait_until(lambda: simulator.open == 50, "all are answered")
            running.send_signal(signal.SIGTERM)
            bodies = [receive_rest(client) for client in opened]
            running.wait(DEADLINE)
            wait_until(lambda: simulator.abandoned == 50, "every upstream was closed")
        for body in bodies:  # a server that is given no more time cuts them without a last event
            assert body.count(b"event: stream-error") == 1
            assert b"the server is being stopped" in body
            assert body.count(b'.end\ndata: {"complete":false') == 1


def test_middleware_passes_the_stream_and_the_disconnect_on(slow: Simulator) -> None:
    """Starlette's own: one that compresses, and one of the kind that passes responses on through a queue."""
    app = app_for(slow)
    app.add_middleware(GZipMiddleware, minimum_size=1)

    @app.middleware("http")
    async def named(request: HTTPRequest, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-named"] = "yes"
        return response

    with service(app) as port:
        client = ask(port, "/stream", {"Accept-Encoding": "gzip"})
        head = receive_until(client, b"id: 0\n\n")
        assert b"x-named: yes" in head
        assert b"content-encoding" not in head
        wait_until(lambda: slow.open, "the upstream is asked")
        gone_within(slow, client.close)


@pytest.mark.parametrize("wait", [True, False])
async def test_a_client_may_disconnect_in_any_turn_of_the_loop(anyio_backend: str, wait: bool) -> None:
    """In each state of the stream, nothing is raised, and what was opened is closed."""
    for turns in range(40):
        opened, closed = 0, 0

        async def tokens() -> AsyncIterator[str]:
            nonlocal opened, closed
            opened += 1
            try:
                for n in range(5):
                    await anyio.lowlevel.checkpoint()
                    yield f"{n}\n"
            finally:
                await anyio.lowlevel.cancel_shielded_checkpoint()
                closed += 1

        async def receive() -> dict[str, Any]:
            for _ in range(turns):  # noqa: B023  awaited inside this turn
                await anyio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            await anyio.lowlevel.checkpoint()

        response = sse_response(tokens(), wait=wait, heartbeat=0)
        await response({"type": "http", "method": "GET", "headers": []}, receive, send)
        assert opened == closed, f"after {turns} turns"


def test_nothing_is_left_to_the_garbage_collector(slow: Simulator) -> None:
    with service(app_for(slow)) as port:
        client = ask(port, "/stream")
        wait_until(lambda: slow.open, "the upstream is asked")
        client.close()
        wait_until(lambda: slow.abandoned, "the upstream is closed")
    gc.collect()  # a generator or socket that was left open would warn here, which is an error


@pytest.mark.anyio
async def test_parts_of_a_body_go_past_middleware_that_changes_the_start() -> None:
    through_middleware: list[MutableMapping[str, Any]] = []
    past_it: list[MutableMapping[str, Any]] = []
    tasks: set[int] = set()

    async def send(message: MutableMapping[str, Any]) -> None:
        await anyio.lowlevel.checkpoint()
        through_middleware.append(message)

    async def body_send(message: MutableMapping[str, Any]) -> None:
        tasks.add(anyio.get_current_task().id)
        past_it.append(message)

    async def source() -> AsyncIterator[str]:
        yield "Hi"
        yield " there"

    async def receive() -> MutableMapping[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    response = sse_response(source(), "text")
    scope: dict[str, Any] = {"type": "http", "method": "GET", "headers": [], BODY_SEND: body_send}
    await response(scope, receive, send)
    assert [message["type"] for message in through_middleware] == ["http.response.start", "http.response.body"]
    assert through_middleware[-1]["more_body"] is False
    body = b"".join(message["body"] for message in past_it)
    assert [event.data for event in parse(body)] == ["Hi", " there", "[DONE]"]
    assert anyio.get_current_task().id not in tasks  # which would be resumed through all middleware


def test_without_starlette(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "starlette.responses", None)
    monkeypatch.delitem(sys.modules, "streamcore.sse.response", raising=False)
    with pytest.raises(ConfigError, match=r"'starlette', which is not installed; run: pip install -e .*server"):
        sse_response(execute_prompt_streaming("greet", provider="demo"))
