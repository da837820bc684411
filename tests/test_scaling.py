"""Limit how the work of ordinary requests grows, by counting calls: no clock, so a busy machine changes nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from types import FrameType

import httpx2
import pytest

from benchmarks import scaling
from streamcore import Message, Request, get_provider, stream_request
from streamcore.testing import Answer
from streamcore.testing.simulator.frames import frames
from tests.support import wire_of

MOST_CALLS = 60
"""How many calls of functions, Python's and C's, a further message of a conversation may take."""


def counted(run: Callable[[], Awaitable[None]]) -> int:
    """Return how many functions are called in a run, without those of other threads."""
    count = 0

    def note(frame: FrameType, event: str, value: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    async def measured() -> None:
        sys.setprofile(note)
        try:
            await run()
        finally:
            sys.setprofile(None)

    asyncio.run(measured())
    return count


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "mistral"])
def test_a_further_message_costs_little(name: str) -> None:
    body = b"".join(data for data, _ in frames(wire_of(name), Answer()))

    async def ask(turns: int) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
            provider = get_provider(name, api_key="k", model="m", http_client=client)
            before = [Message("user" if number % 2 == 0 else "assistant", "text") for number in range(turns)]
            await stream_request(Request([*before, Message("user", "hi")]), provider=provider).collect()

    few, many = 20, 120
    counted(lambda: ask(few))  # imports, caches
    calls = (counted(lambda: ask(many)) - counted(lambda: ask(few))) / (many - few)
    print(name, calls)
    assert calls <= MOST_CALLS


@pytest.mark.long
@pytest.mark.parametrize("case", scaling.CASES, ids=lambda case: case.title)
def test_twice_the_work_takes_twice_the_calls(case: scaling.Case) -> None:
    counted(lambda: case.run(case.size))
    once, twice = counted(lambda: case.run(2 * case.size)), counted(lambda: case.run(4 * case.size))
    assert twice <= 2.3 * once
