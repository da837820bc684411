"""Test the trace of a run that is reserved inside a request, and produced by another process, as durable runs are."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest

from streamcore.relay import MemoryLog, Relay
from streamcore.sse import Item
from tests.support import DEADLINE
from tests.telemetry.support import Collected

pytestmark = pytest.mark.anyio


async def items() -> AsyncGenerator[Item]:
    yield {"type": "token", "node": "a", "content": "Hi"}


async def produce(relay: Relay) -> None:
    """Produce the run once it can be adopted, which is when its first lease has ended."""
    with anyio.fail_after(DEADLINE):
        while (producer := await relay.adopt("run", lambda _before: items())) is None:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        await producer.over.wait()


async def test_a_reserved_run_and_its_readers_continue_the_trace_of_the_request() -> None:
    web, worker = Collected(), Collected()

    async with Relay(MemoryLog()) as relay:
        with web.observing(), web.tracers.get_tracer("web").start_as_current_span("POST /start") as request:
            await relay.reserve("run", hold=60)
        with worker.observing():
            await produce(relay)
        with web.observing(), anyio.fail_after(DEADLINE):
            async for _ in relay.read("run"):
                pass
    here = request.get_span_context()
    for span in (worker.span("relay run"), web.span("relay read")):
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (here.trace_id, here.span_id)


async def test_without_a_current_span_a_reserved_run_has_a_trace_of_its_own() -> None:
    worker = Collected()
    async with Relay(MemoryLog()) as relay:
        with worker.observing():
            await relay.reserve("run", hold=60)
            await produce(relay)
    assert worker.span("relay run").parent is None
