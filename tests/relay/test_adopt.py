"""Continue runs whose worker was lost or stopped, while readers stay connected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from streamcore import Chunk, ConfigError, StreamInterrupted
from streamcore.errors import RunExists
from streamcore.relay import MemoryLog, Reader, Relay
from streamcore.relay.unfinished import restarts
from streamcore.sse import Item
from tests.support import DEADLINE

pytestmark = pytest.mark.anyio

HOLD = 600.0


def node(name: str, *texts: str) -> list[Item]:
    return [
        {"type": "node_start", "node": name},
        *({"type": "token", "node": name, "content": text} for text in texts),
        {"type": "node_complete", "node": name, "output": {name: "".join(texts)}},
    ]


def tokens(items: Sequence[Any]) -> dict[str, str]:
    """Return the text of each node after its last restart."""
    found: dict[str, str] = {}
    for item in items:
        if item["type"] == "restart":
            found[item["node"]] = ""
        elif item["type"] == "token":
            found[item["node"]] = found.get(item["node"], "") + item["content"]
    return found


async def rest(items: Sequence[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


async def read_into(reader: Reader, got: list[Any]) -> None:
    async for item in reader:
        got.append(item)


async def wait_for(condition: Any) -> None:
    with anyio.fail_after(DEADLINE):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("items", "void"),
    [
        ([], []),
        (node("a", "x"), []),
        ([*node("a", "x"), *node("b", "y")[:2]], [{"type": "restart", "node": "b"}]),
        ([*node("a")[:1], *node("b")[:1]], [{"type": "restart", "node": "a"}, {"type": "restart", "node": "b"}]),
        ([*node("a", "x")[:2], {"type": "restart", "node": "a"}], [{"type": "restart", "node": "a"}]),
        ([Chunk("start"), Chunk("ping")], []),
        ([Chunk("text", "x"), Chunk("usage")], [Chunk("restart")]),
        ([Chunk("text", "x"), Chunk("restart")], []),
    ],
)
def test_what_is_unfinished_is_voided(items: list[Item], void: list[Item]) -> None:
    assert restarts(items) == void


async def test_a_reserved_run_is_produced_by_another_worker() -> None:
    log = MemoryLog()
    got: list[Any] = []
    async with Relay(log) as one, Relay(log) as other, anyio.create_task_group() as group:
        await one.reserve("run", owner="ada", thread="t", hold=HOLD)
        with pytest.raises(RunExists):
            await other.reserve("run 2".replace(" ", "-"), thread="t", hold=HOLD)
        group.start_soon(read_into, one.read("run", who="ada"), got)
        await anyio.wait_all_tasks_blocked()
        await wait_until_lost(log, "run")
        producer = await other.adopt("run", lambda items: rest(node("a", *map(str, items), "x")))
        assert producer is not None
    assert got == node("a", "x")


async def wait_until_lost(log: MemoryLog, run: str) -> None:
    with anyio.fail_after(DEADLINE):
        while (status := await log.status(run)) is None or status.state != "lost":  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_a_lost_run_continues_with_the_unfinished_node() -> None:
    """A reader that is connected gets every item once, and a late one the same."""
    log = MemoryLog()
    got: list[Any] = []
    late: list[Any] = []
    seen: list[list[Item]] = []
    before = [*node("a", "1", "2"), *node("b", "half")[:2]]
    async with Relay(log) as relay, anyio.create_task_group() as group:
        epoch = await log.start("run", "", lease=0.05, hold=HOLD)
        await log.append("run", epoch, 0, before, None, lease=0.05)
        group.start_soon(read_into, relay.read("run"), got)
        await wait_for(lambda: len(got) == len(before))
        await wait_until_lost(log, "run")

        async def source(items: list[Item]) -> AsyncIterator[Item]:
            seen.append(items)
            return rest(node("b", "whole"))

        assert await relay.adopt("run", source) is not None
        assert await relay.adopt("run", source) is None, "its worker is alive"
        await read_into(relay.read("run"), late)
    assert seen == [before]
    assert got == [*before, {"type": "restart", "node": "b"}, *node("b", "whole")] == late
    assert tokens(got) == {"a": "12", "b": "whole"}


async def test_a_worker_that_stops_hands_its_runs_over() -> None:
    log = MemoryLog()
    got: list[Any] = []
    closed: list[str] = []

    async def endless(items: Sequence[Item]) -> AsyncIterator[Item]:
        try:
            yield node("a")[0]
            yield {"type": "token", "node": "a", "content": "half"}
            await anyio.sleep_forever()
        finally:
            closed.append("a")

    async with Relay(log) as reading, anyio.create_task_group() as group:
        async with Relay(log) as stopping:
            await stopping.reserve("run", hold=HOLD)
            await wait_until_lost(log, "run")
            assert await stopping.adopt("run", endless) is not None
            group.start_soon(read_into, reading.read("run"), got)
            await wait_for(lambda: len(got) == 2)
        assert closed == ["a"]
        await wait_until_lost(log, "run")
        producer = await reading.adopt("run", endless)
        assert producer is not None
        await wait_for(lambda: len(got) == 5)
        producer.hand_over()
        await producer.over.wait()
        await wait_until_lost(log, "run")
        assert await reading.adopt("run", lambda items: rest(node("a", "whole"))) is not None
    assert tokens(got) == {"a": "whole"}
    assert got[-1] == node("a", "whole")[-1]


async def test_commands_reach_a_run_that_was_adopted() -> None:
    log = MemoryLog()

    async def endless(_items: Sequence[Item]) -> AsyncIterator[Item]:
        yield node("a")[0]
        await anyio.sleep_forever()

    async with Relay(log) as one, Relay(log) as other:
        await one.reserve("run", hold=HOLD)
        await wait_until_lost(log, "run")
        assert await one.adopt("run", endless) is not None
        assert await other.cancel("run")
        with pytest.raises(StreamInterrupted, match="was cancelled"):
            await read_into(other.read("run"), [])


async def test_a_run_that_nobody_continues_ends() -> None:
    log = MemoryLog()
    async with Relay(log) as relay:
        await relay.reserve("run", hold=0.05)
        with anyio.fail_after(DEADLINE), pytest.raises(StreamInterrupted, match="was lost"):
            await read_into(relay.read("run"), [])
        assert await relay.adopt("run", lambda items: rest(items)) is None


async def test_plain_tokens_cannot_be_continued() -> None:
    log = MemoryLog()
    async with Relay(log) as relay:
        epoch = await log.start("run", "", lease=0.01, hold=HOLD)
        await log.append("run", epoch, 0, ["token"], None, lease=0.01)
        await wait_until_lost(log, "run")
        with pytest.raises(ConfigError, match="plain tokens cannot be continued"):
            await relay.adopt("run", lambda items: rest(items))
