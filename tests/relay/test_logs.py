"""Run the suite of relay logs in memory and in Redis, and test what only Redis has."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from streamcore.errors import AnswerTooLarge, ConfigError, RelayError
from streamcore.relay import MemoryLog, Relay, RunLog, open_log
from streamcore.relay.redis import READ_BYTES, RedisLog
from streamcore.sse import Item
from streamcore.testing.suites.run_log import END, RunLogSuite
from tests.servers import RedisServer, redis_url

__all__ = ["redis_url"]


class TestMemory(RunLogSuite):
    """Runs in memory."""

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryLog()

    def log(self) -> RunLog:
        return self.store


@pytest.mark.real
class TestRedis(RunLogSuite):
    """Runs in Redis; redis-py knows asyncio only."""

    backends = ("asyncio",)
    query = ""

    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url + self.query

    def log(self) -> RunLog:
        return open_log(self.url)


@pytest.mark.real
class TestRedisProtocol3(TestRedis):
    """The same with Redis' newer protocol, whose answers look different."""

    query = "?protocol=3"


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_services_with_different_names_never_meet(redis_url: str) -> None:
    shop, staff = open_log(redis_url, name="shop"), open_log(redis_url, name="staff")
    await shop.start("r", "ada", lease=60, thread="t")
    assert (await staff.status("r"), await staff.latest("t")) == (None, None)
    await staff.start("r", "ada", lease=60, limit=1, thread="t")
    assert await open_log(redis_url, name="shop").latest("t") == "r"


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("stored", ["memory", "redis"])
async def test_a_run_that_has_ended_expires(redis_url: str, stored: str) -> None:
    log = open_log(redis_url if stored == "redis" else None, keep=0.2)
    epoch = await log.start("old", "", lease=60, limit=None)
    await log.append("old", epoch, 0, ["a"], END, lease=60)
    for _ in range(500):
        if await log.status("old") is None:
            break
        await anyio.sleep(0.02)
    assert not await log.take_over("old", END)
    again = await log.start("old", "", lease=60, limit=None)
    assert not await log.append("old", epoch, 0, ["of the old run"], None, lease=60)
    assert await log.append("old", again, 0, ["b"], END, lease=60)


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_read_from_redis_is_bounded_by_bytes(redis_url: str) -> None:
    writer, reader = RedisLog(redis_url), RedisLog(redis_url)
    epoch = await writer.start("bytes", "", lease=60)
    wanted: list[Item] = [letter * size for letter in "abcdefgh" for size in (300_000, 1, 400_000, 2_000_000)]
    await writer.append("bytes", epoch, 0, wanted[:16], None, lease=60)  # one append, many entries
    assert await writer.append("bytes", epoch, 0, wanted[:16], None, lease=60)  # repeated: stored once
    for number in range(16, 32):
        await writer.append("bytes", epoch, number, [wanted[number]], None, lease=60)
    await writer.append("bytes", epoch, 32, [], END, lease=60)
    found: list[Item] = []
    end = None
    while end is None:
        result = await reader.read("bytes", len(found), 1)
        assert result is not None
        assert result.seq == len(found) + len(result.items)
        assert sum(len(str(item)) for item in result.items) < 2_000_000 + 2 * READ_BYTES
        found += result.items
        end = result.end
    assert (found, end) == (wanted, END)


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_run_in_redis_has_a_limit(redis_url: str) -> None:
    log = open_log(redis_url, max_bytes=100_000)
    epoch = await log.start("limit", "", lease=60)
    for number in range(9):
        assert await log.append("limit", epoch, number, ["x" * 10_000], None, lease=60)
    for _ in range(2):
        with pytest.raises(AnswerTooLarge, match="more than 100,000 bytes"):
            await log.append("limit", epoch, 9, ["y" * 20_000], None, lease=60)
    await log.trim("limit", epoch, 5, ["a snapshot"])  # frees space
    assert await log.append("limit", epoch, 9, ["z" * 20_000], None, lease=60)
    assert await log.append("limit", epoch, 10, ["end"], END, lease=60)
    result = await open_log(redis_url).read("limit", 5, 0)
    assert result is not None
    assert [str(item)[0] for item in result.items] == [*"xxxx", "z", "e"]


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_run_above_its_limit_ends_with_what_is_stored(redis_url: str) -> None:
    async def endless() -> AsyncGenerator[str]:
        while True:
            yield "x" * 10_000

    async with Relay(open_log(redis_url, max_bytes=100_000)) as relay:
        await relay.start("endless", endless)
        found: list[Item] = []
        with pytest.raises(AnswerTooLarge):
            async for item in relay.read("endless"):
                found.append(item)
        assert found == ["x" * 10_000] * 9


@pytest.mark.parametrize("url", [None, "redis://127.0.0.1:1/0"])
def test_max_bytes_is_checked(url: str | None) -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        open_log(url, max_bytes=0)


@pytest.mark.anyio
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_redis_that_is_stopped_or_restarts_empty(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        log = RedisLog(server.url)
        epoch = await log.start("r", "", lease=60, limit=None)
        assert await log.append("r", epoch, 0, ["a"], None, lease=60)
        server.kill()
        for call in (
            log.start("s", "", lease=60, limit=None),
            log.append("r", epoch, 1, ["b"], None, lease=60),
            log.renew("r", epoch, lease=60),
            log.read("r", 0, 1),
            log.status("r"),
        ):
            with pytest.raises(RelayError, match=rf"Redis at 127.0.0.1:{server.port}, database 0 failed"):
                await call
        server.start()  # empty, and without the script
        assert not await log.append("r", epoch, 1, ["b"], None, lease=60)
        assert await log.renew("r", epoch, lease=60) is None
        assert await log.status("r") is None


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_trio_is_refused_with_an_alternative() -> None:
    with pytest.raises(ConfigError, match=r"runs in Redis need asyncio.*under trio, use the log in memory"):
        await open_log("redis://127.0.0.1:1").status("r")


def test_a_url_of_nothing_known() -> None:
    with pytest.raises(ConfigError, match="memory:, redis://"):
        open_log("postgres://secret@host")
    assert isinstance(open_log("memory:"), MemoryLog)
