"""End a stream whose answer is finished, although the server keeps the connection open."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import Completion, get_provider, stream_request
from tests.support import BACKENDS, KEY, ask

Fields = dict[str, Any]
TEXT: Fields = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]}
STOP: Fields = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE: Fields = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
PING = b": ping\n\n"


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


class Held(httpx2.AsyncByteStream):
    """A body that goes on with pings for ever, or with nothing."""

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


async def answer(body: Held, **options: float) -> Completion:
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=body)
    )
    async with httpx2.AsyncClient(transport=transport) as http:
        provider = get_provider("openai", model="m", api_key=KEY, http_client=http)
        return await stream_request(ask(), provider=provider, max_retries=0, timeouts=options).collect()


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.parametrize("pings", [False, True])
@pytest.mark.anyio
async def test_a_finished_answer_ends_although_the_connection_stays_open(pings: bool) -> None:
    found = await answer(Held(sse(TEXT, STOP), sse(USAGE), pings=pings), silence=600, stall=600)
    assert (found.text, found.complete, found.finish_reason) == ("Hello", True, "stop")
    assert found.usage is not None


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
async def test_a_clock_that_runs_out_after_the_finish_is_no_error(anyio_backend: str) -> None:
    found = await answer(Held(sse(TEXT, STOP), pings=False), stall=0.2, silence=0.2)
    assert (found.text, found.complete) == ("Hello", True)


@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.anyio
async def test_done_ends_the_stream_at_once(anyio_backend: str) -> None:
    with anyio.fail_after(60):
        found = await answer(Held(sse(TEXT, STOP) + b"data: [DONE]\n\n", pings=True), silence=600, stall=600)
    assert (found.text, found.complete) == ("Hello", True)
