"""Test that the log in memory and the producer count bytes: packed items, the limit of all runs, a slow log."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import AnswerTooLarge, Chunk, ConfigError, ToolCall
from streamcore.chunk import Opaque
from streamcore.errors import RunExpired
from streamcore.relay import MemoryLog, Relay
from streamcore.relay import producer as producer_module
from streamcore.relay.packed import pack
from streamcore.storage.sizes import items_size

LEASE = 60.0
KINDS: list[Any] = ["text", "reasoning", "refusal"]
TEXT = st.text(st.characters(codec=None), max_size=300)


def _with_raw(raw: bytes) -> Chunk:
    return Chunk("text", "x", raw=raw)


def _event(text: str) -> dict[str, str]:
    return {"type": "token", "node": "n", "content": text}


ITEMS = st.lists(
    st.one_of(
        TEXT,
        st.builds(Chunk, st.sampled_from(KINDS), TEXT, st.integers(0, 2), st.integers(0, 1)),
        st.builds(_with_raw, st.binary()),
        st.just(Chunk("finish", finish_reason="stop")),
        st.builds(_event, TEXT),
    )
)


@given(ITEMS)
def test_packed_items_come_back_as_they_were(items: list[Any]) -> None:
    block = pack(items)
    assert block.items() == items
    assert [type(one) for one in block.items()] == [type(one) for one in items]


async def read_all(log: MemoryLog, after: int = 0) -> list[Any]:
    found: list[Any] = []
    while (result := await log.read("r", after, 0)) is not None:
        found += result.items
        after = result.seq
        if result.end is not None:
            assert result.end == b"end" * 1000
            return found
        assert result.items
    raise AssertionError


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(1, 700))
def test_every_number_is_found_in_packed_runs(after: int, trimmed: int, step: int) -> None:
    items: list[Any] = [f"{number} " for number in range(3000)]
    after = max(after, trimmed)

    async def run() -> None:
        log = MemoryLog()
        epoch = await log.start("r", "", lease=LEASE)
        for start in range(0, 3000, step):
            assert await log.append("r", epoch, start, items[start : start + step], None, lease=LEASE)
        await log.trim("r", epoch, trimmed, ())
        assert await log.append("r", epoch, 3000, [], b"end" * 1000, lease=LEASE)
        status = await log.status("r")
        assert status is not None
        assert status.seq == 3001
        assert await read_all(log, after) == items[after:]

    anyio.run(run)


@pytest.mark.anyio
async def test_an_ended_answer_takes_about_the_bytes_of_its_text() -> None:
    log = MemoryLog()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(20):
            epoch = await log.start(f"run {number}", "", lease=LEASE)
            for seq in range(2000):
                await log.append(f"run {number}", epoch, seq, [Chunk("text", f"{seq:3} ")], None, lease=LEASE)
            await log.append(f"run {number}", epoch, 2000, [], b"end" * 1000, lease=LEASE)
        assert tracemalloc.get_traced_memory()[0] - before < 20 * 16_000
    finally:
        tracemalloc.stop()


def _items(kind: str) -> Any:
    data = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))  # does not compress
    match kind:
        case "reasoning":
            return Chunk("reasoning", data)
        case "tool_call":
            return Chunk("tool_call", tool_call=ToolCall("1", "f", data))
        case "opaque":
            return Chunk("reasoning", opaque=Opaque("openai-chat", ({"data": data},)))
        case "raw":
            return Chunk("text", "x", raw=data.encode())
        case "event":
            return {"type": "update", "state": {"a": [data]}}
        case _:
            return data


CARRIERS = ["text", "reasoning", "tool_call", "opaque", "raw", "event"]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", CARRIERS)
async def test_the_runs_that_ended_first_are_removed_first(kind: str) -> None:
    log = MemoryLog(max_bytes=100_000)
    running = await log.start("running", "", lease=LEASE)
    await log.append("running", running, 0, ["kept"], None, lease=LEASE)
    for number in range(40):
        epoch = await log.start(f"run {number}", "", lease=LEASE)
        assert await log.append(f"run {number}", epoch, 0, [_items(kind)], b"end", lease=LEASE)
    left = [number for number in range(40) if await log.status(f"run {number}") is not None]
    assert left == list(range(left[0], 40))
    assert 5 <= len(left) <= 20
    assert await log.status("running") is not None


@pytest.mark.anyio
@pytest.mark.parametrize("kind", CARRIERS)
async def test_a_run_that_needs_more_than_all_of_the_memory_ends_in_an_error(kind: str) -> None:
    async def endless() -> AsyncIterator[Any]:
        while True:
            yield _items(kind)
            await anyio.lowlevel.checkpoint()

    async with Relay(MemoryLog(max_bytes=100_000)) as relay:
        await relay.start("r", endless)
        seen = 0
        with pytest.raises(AnswerTooLarge, match="memory of the relay is full"):
            async for _ in relay.read("r"):
                seen += 1
        assert 5 <= seen <= 20
        await relay.start("next", lambda: _one("x"))
        assert [item async for item in relay.read("next")] == ["x"]


async def _one(item: Any) -> AsyncIterator[Any]:
    yield item


@pytest.mark.anyio
async def test_a_removed_run_has_expired_for_its_readers() -> None:
    async with Relay(MemoryLog(max_bytes=20_000)) as relay:
        for name in ("a", "b", "c"):
            await relay.start(name, lambda: _one(_items("text")))
            assert len([item async for item in relay.read(name)]) == 1
        with pytest.raises(RunExpired):
            await anext(relay.read("a", 0))


def test_the_limit_is_above_zero() -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        MemoryLog(max_bytes=0)


class SlowLog(MemoryLog):
    """A log whose appends wait until they are allowed."""

    gathers = True

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def append(self, *arguments: Any, **options: Any) -> bool:
        await self.go.wait()
        return await super().append(*arguments, **options)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", CARRIERS)
async def test_a_slow_log_slows_the_source_down_by_bytes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "MAX_PENDING_BYTES", 100_000)
    made = 0

    async def source() -> AsyncIterator[Any]:
        nonlocal made
        for _ in range(200):
            made += 1
            yield _items(kind)

    log = SlowLog()
    async with Relay(log) as relay:
        await relay.start("r", source)
        await anyio.wait_all_tasks_blocked()
        read = made * items_size([_items(kind)])
        log.go.set()
        assert read < 250_000  # one append, and as much that waits
        assert len([item async for item in relay.read("r")]) == 200
