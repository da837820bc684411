"""Read the runs of other workers over one connection, which may be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from redis.asyncio import Redis

from streamcore.relay import ReadResult, Relay, RunLog, open_log
from streamcore.relay.entries import encode_end
from streamcore.relay.redis_scripts import PUBLISHED_BYTES
from streamcore.sse import Item
from tests.servers import RedisServer, redis_url
from tests.support import DEADLINE, eventually

__all__ = ["redis_url"]

pytestmark = [pytest.mark.anyio, pytest.mark.real]

END = encode_end(None, None)


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that redis-py knows."""
    return "asyncio"


async def clients_of(url: str, name: str) -> list[dict[str, str]]:
    """Return the connections to Redis of that name."""
    async with cast("Callable[[str], Redis]", Redis.from_url)(url) as redis:  # pyright: ignore[reportUnknownMemberType]
        found = cast("list[dict[str, str]]", await cast("Any", redis).client_list())
    return [one for one in found if one["name"] == name]


async def read_all(log: RunLog, run: str, got: list[Item]) -> None:
    """Read a run to its end as `Reader` does."""
    end = None
    while end is None:
        found = await log.read(run, len(got), 0.5)
        assert found is not None
        got += found.items
        end = found.end
        assert found.seq == len(got)
        if not found.items and end is None:
            await log.take_over(run, END)


async def test_many_readers_share_one_connection(redis_url: str) -> None:
    """Readers of 60 runs of another worker use one connection for commands and one for what is published."""
    writer, reader = open_log(redis_url), open_log(f"{redis_url}?client_name=many")
    runs = {f"many-{number}": await writer.start(f"many-{number}", "", lease=60) for number in range(60)}
    got: dict[str, list[Item]] = {run: [] for run in runs}
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(read_all, reader, run, got[run])
        for number in range(10):
            for run, epoch in runs.items():
                await writer.append(run, epoch, number, [f"{run} {number}"], None, lease=60)
            await eventually(lambda: all(len(items) > number for items in got.values()), "all have it")  # noqa: B023
        with anyio.fail_after(DEADLINE):
            while sorted(one["ssub"] for one in await clients_of(redis_url, "many")) != ["0", "60"]:  # noqa: ASYNC110  it is so on the server
                await anyio.sleep(0.05)
        for run, epoch in runs.items():
            await writer.append(run, epoch, 10, [], END, lease=60)
    assert got == {run: [f"{run} {number}" for number in range(10)] for run in runs}


async def test_the_connection_is_lost_again_and_again(redis_url: str) -> None:
    """Readers get every item once, though Redis drops the connection, and publishes nothing meanwhile."""
    writer, reader = open_log(redis_url), open_log(f"{redis_url}?client_name=lost")
    epoch = await writer.start("lost", "", lease=60)
    got: list[list[Item]] = [[], []]
    async with anyio.create_task_group() as group:
        for items in got:
            group.start_soon(read_all, reader, "lost", items)
        for number in range(30):
            if number % 3 == 0:
                for one in await clients_of(redis_url, "lost"):
                    if one["ssub"] != "0":
                        redis = cast("Any", Redis).from_url(redis_url)
                        await redis.client_kill_filter(_id=one["id"])
                        await redis.aclose()
            await writer.append("lost", epoch, number, [str(number)], None, lease=60)
            await eventually(lambda: all(len(items) > number for items in got), "all have it")  # noqa: B023
        await writer.append("lost", epoch, 30, [], END, lease=60)
    assert got == [[str(number) for number in range(30)]] * 2


async def test_items_that_are_too_large_to_publish(redis_url: str) -> None:
    writer, reader = open_log(redis_url), open_log(redis_url)
    epoch = await writer.start("large", "", lease=60)
    sizes = [1, 2 * PUBLISHED_BYTES, 1, 1, PUBLISHED_BYTES, 3 * PUBLISHED_BYTES, 1]
    got: list[Item] = []
    async with anyio.create_task_group() as group:
        group.start_soon(read_all, reader, "large", got)
        for number, size in enumerate(sizes):
            await writer.append("large", epoch, number, ["x" * size], None, lease=60)
            await eventually(lambda: len(got) > number, "it has it")  # noqa: B023
        await writer.append("large", epoch, len(sizes), ["end"], END, lease=60)
    assert [len(str(item)) for item in got] == [*sizes, 3]


async def test_a_reader_that_is_ahead_of_what_redis_has_gets_the_end(tmp_path: Path) -> None:
    """A crash of Redis may lose the newest items, which a reader has; the reader does not wait for ever."""
    with RedisServer(tmp_path) as server:
        log = open_log(server.url)
        epoch = await log.start("ahead", "", lease=0.1)
        await log.append("ahead", epoch, 0, ["a"], None, lease=0.1)
        reader = open_log(server.url)
        with anyio.fail_after(60):
            end = None
            while end is None:
                found = await reader.read("ahead", 5, 0.2)
                assert found is not None
                end = found.end
                await reader.take_over("ahead", END)
        assert end == END


async def test_a_subscription_ends_when_nobody_reads(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.relay.feed.UNUSED_SECONDS", 0.1)
    writer, reader = open_log(redis_url), open_log(f"{redis_url}?client_name=unused")
    epoch = await writer.start("unused", "", lease=60)
    found = await reader.read("unused", 0, 0.01)
    assert found == ReadResult(0, [])

    async def subscriptions() -> int:
        return sum(int(one["ssub"]) for one in await clients_of(redis_url, "unused"))

    assert await subscriptions() <= 1
    with anyio.fail_after(60):
        while await subscriptions():  # noqa: ASYNC110  it ends on the server
            await anyio.sleep(0.05)
    got: list[Item] = []
    async with anyio.create_task_group() as group:
        group.start_soon(read_all, reader, "unused", got)
        await writer.append("unused", epoch, 0, ["a"], None, lease=60)
        await writer.append("unused", epoch, 1, ["b"], END, lease=60)
    assert got == ["a", "b"]


async def test_a_relay_reads_what_another_one_produces(redis_url: str) -> None:
    gate = anyio.Event()

    async def source() -> Any:
        yield "a"
        await gate.wait()
        yield "b"

    async with Relay(open_log(redis_url)) as one, Relay(open_log(redis_url)) as other:
        await one.start("relayed", source)
        found: list[Item] = []
        async for item in other.read("relayed"):
            found.append(item)
            gate.set()
        assert found == ["a", "b"]
