"""End a stream whose answer is finished, although the server keeps the connection open."""

from __future__ import annotations

import gc
import gzip
import json
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore2
import httpx2
import pytest
from anyio.lowlevel import checkpoint

from streamcore import Completion, Stream, StreamInterrupted, get_provider, stream_request
from tests.support import BACKENDS, KEY, ask, patient

Fields = dict[str, Any]
TEXT: Fields = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]}
STOP: Fields = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE: Fields = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
PING = b": ping\n\n"


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


class OpenBody(httpx2.AsyncByteStream):
    """A body that never ends: after its pieces it sends pings or nothing."""

    def __init__(self, *pieces: bytes, pings: bool) -> None:
        self._pieces = pieces
        self._pings = pings

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        while self._pings:
            await anyio.sleep(0.05)
            yield PING
        await anyio.sleep_forever()


@asynccontextmanager
async def served(body: OpenBody, encoding: str = "", **options: float) -> AsyncGenerator[Stream]:
    """Yield the stream of an answer that has this body."""
    headers = {"content-type": "text/event-stream", **({"content-encoding": encoding} if encoding else {})}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=body))
    async with httpx2.AsyncClient(transport=transport) as http:
        provider = get_provider("openai", model="m", api_key=KEY, http_client=http)
        async with stream_request(ask(), provider=provider, max_retries=0, timeouts=options) as stream:
            yield stream


async def answer(body: OpenBody, encoding: str = "", **options: float) -> Completion:
    async with served(body, encoding, **options) as stream:
        return await stream.collect()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the garbage collector, whose time depends on all objects of the process."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.parametrize("pings", [False, True])
@pytest.mark.anyio
async def test_a_finished_answer_ends_although_the_connection_stays_open(pings: bool) -> None:
    found = await answer(OpenBody(sse(TEXT, STOP), sse(USAGE), pings=pings), silence=600, stall=600)
    assert (found.text, found.complete, found.finish_reason) == ("Hello", True, "stop")
    assert found.usage is not None


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
@patient
async def test_a_clock_that_runs_out_after_the_finish_is_no_error(anyio_backend: str, pace: float) -> None:
    seconds = min(0.2 * pace, 1.9)  # after 2 s the stream ends without a clock
    found = await answer(OpenBody(sse(TEXT, STOP), pings=False), stall=seconds, silence=seconds)
    assert (found.text, found.complete) == ("Hello", True)


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
async def test_done_ends_the_stream_at_once(anyio_backend: str) -> None:
    with anyio.fail_after(60):
        found = await answer(OpenBody(sse(TEXT, STOP) + b"data: [DONE]\n\n", pings=True), silence=600, stall=600)
    assert (found.text, found.complete) == ("Hello", True)


class Turns(OpenBody):
    """A body that measures the longest time between two turns of the event loop after its begin.

    Times are seconds of this thread's processor time, which other processes do not change.
    """

    begun = before = longest = 0.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = self.before = time.thread_time()
        self.longest = 0.0
        async for data in super().__aiter__():
            yield data

    async def watch(self) -> None:
        while True:
            await checkpoint()
            now = time.thread_time()
            self.longest, self.before = max(self.longest, now - self.before), now


EVENT, EVENTS = sse(TEXT), (8 << 20) // len(sse(TEXT))
LARGE = EVENT * EVENTS + sse(STOP, USAGE) + b"data: [DONE]\n\n"


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.parametrize(
    ("encoding", "reads"),
    [
        ("", [LARGE]),
        ("", [EVENT, LARGE[len(EVENT) :]]),
        ("gzip", [gzip.compress(LARGE)]),
        (
            "gzip",
            [gzip.compress(EVENT * 600) * (EVENTS // 600), gzip.compress(LARGE[EVENTS // 600 * 600 * len(EVENT) :])],
        ),
    ],
    ids=["first", "later", "gzip", "gzip of many members"],
)
@pytest.mark.usefixtures("no_collector")
@pytest.mark.anyio
async def test_a_large_read_does_not_hold_the_event_loop(encoding: str, reads: list[bytes]) -> None:
    shares: list[float] = []
    for _ in range(5):  # a busy machine can make a gap longer, never shorter
        body, whole = Turns(*reads, pings=False), 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(body.watch)
            found = await answer(body, encoding, silence=600, stall=600)
            whole = time.thread_time() - body.begun
            assert (len(found.text), found.complete) == (len("Hello") * EVENTS, True)
            assert found.usage is not None
            group.cancel_scope.cancel()
        shares.append(body.longest / whole)
        if shares[-1] < 1 / 10:
            break
    assert min(shares) < 1 / 10


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
async def test_another_task_can_stop_a_stream_within_a_large_read(anyio_backend: str) -> None:
    began, texts = anyio.Event(), 0
    async with served(OpenBody(LARGE, pings=False)) as stream, anyio.create_task_group() as group:

        async def stop() -> None:
            await began.wait()
            stream.stop()

        group.start_soon(stop)
        async for _ in stream:
            began.set()
            texts += 1
    assert not stream.partial.complete
    assert texts < EVENTS / 10


class BreaksAtClose(httpx2.AsyncByteStream):
    """A body that is reset, and whose closing fails with an error that httpx2 does not map."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield sse(TEXT)
        raise httpx2.ReadError("reset")

    async def aclose(self) -> None:
        raise httpcore2.ReadError("reset while closing")


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
async def test_an_error_of_closing_is_an_interruption(anyio_backend: str) -> None:
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=BreaksAtClose()))
    http = httpx2.AsyncClient(transport=transport)  # left open: closing it closes the body once more
    provider = get_provider("openai", model="m", api_key=KEY, http_client=http)
    with pytest.raises(StreamInterrupted) as caught:
        await stream_request(ask(), provider=provider, max_retries=0).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"


@pytest.mark.parametrize("kept", [True, False], ids=["kept by a hook", "kept by nobody"])
@pytest.mark.parametrize("anyio_backend", BACKENDS)
async def test_an_open_stream_keeps_neither_the_response_nor_its_request(kept: bool, anyio_backend: object) -> None:
    seen: list[httpx2.Response | None] = []
    known: list[weakref.ref[httpx2.Response]] = []

    async def hook(response: httpx2.Response) -> None:
        known.append(weakref.ref(response))
        seen.append(response if kept else None)

    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers=headers, stream=OpenBody(sse(TEXT), pings=False))
    )
    async with httpx2.AsyncClient(transport=transport, event_hooks={"response": [hook]}) as http:
        provider = get_provider("openai", model="m", api_key=KEY, http_client=http)
        async with stream_request(ask(), provider=provider) as stream:
            while (await anext(stream)).kind != "text":
                pass
            await checkpoint()
            gc.collect()
            assert (known[0]() is not None) is kept
        assert seen[0] is None or seen[0].is_closed
