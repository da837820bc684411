"""Take Redis away, restart it empty, expire its keys, and look for its password: clear errors, nothing leaked."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import redis.asyncio
from anyio.abc import SocketAttribute, SocketStream

from streamcore import CheckpointError, ConfigError, ThreadConflict, aclose_providers
from streamcore.checkpoints.redis import RedisCheckpointer
from tests.checkpoints.loops import check_loops_and_a_fork
from tests.servers import RedisServer
from tests.support import DEADLINE, patient

pytestmark = [pytest.mark.anyio, pytest.mark.real]

PASSWORD = "correct-horse-battery"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that redis-py knows."""
    return "asyncio"


async def ttl_of(url: str, key: str) -> int:
    async with redis.asyncio.from_url(url) as client:
        left: int = await client.pttl(key)
        return left


async def test_a_save_begins_the_ttl_again(redis_url: str) -> None:
    store = RedisCheckpointer(redis_url, ttl=2, prefix="p:")
    await store.save("ttl", {}, 0)
    assert 110_000 < await ttl_of(redis_url, "p:ttl") <= 120_000
    async with redis.asyncio.from_url(redis_url) as client:
        await client.pexpire("p:ttl", 5_000)
    await store.save("ttl", {}, 1)
    assert 110_000 < await ttl_of(redis_url, "p:ttl") <= 120_000
    await RedisCheckpointer(redis_url, prefix="p:").save("ttl", {}, 2)
    assert await ttl_of(redis_url, "p:ttl") == -1


async def test_an_expired_thread_raises(redis_url: str) -> None:
    store = RedisCheckpointer(redis_url, ttl=0.001)
    await store.save("short", {}, 0)
    deadline = anyio.current_time() + DEADLINE
    while await store.load("short") is not None:
        assert anyio.current_time() < deadline
    with pytest.raises(ThreadConflict, match=r"thread 'short' is no longer in Redis at .*expired"):
        await store.save("short", {}, 1)


async def test_prefixes_keep_threads_apart(redis_url: str) -> None:
    one, two = (RedisCheckpointer(redis_url, prefix=prefix) for prefix in ("one:", "two:"))
    await one.save("t", {"n": 1}, 0)
    assert await two.load("t") is None


async def test_a_damaged_value_raises_and_is_not_changed(redis_url: str) -> None:
    store = RedisCheckpointer(redis_url)
    await store.save("bad", {"n": 1}, 0)
    async with redis.asyncio.from_url(redis_url) as client:
        key = "streamcore:thread:bad"
        saved: Any = await client.get(key)
        for spoilt in (b"nothing of ours", saved.replace(b'"n":1', b'"n":2')):
            await client.set(key, spoilt)
            with pytest.raises(CheckpointError, match=r"thread 'bad' in Redis at .* is damaged"):
                await store.load("bad")
        await client.set(key, b"nothing of ours")
        with pytest.raises(CheckpointError, match="is damaged"):
            await store.save("bad", {}, 1)
        assert await client.get(key) == b"nothing of ours"
        await client.delete(key)
        await client.rpush(key, "a list")
        with pytest.raises(CheckpointError, match=r"WRONGTYPE.*nothing was changed"):
            await store.save("bad", {}, 1)


async def test_a_save_whose_answer_is_lost_is_sent_again_and_is_no_conflict(redis_url: str) -> None:
    """The connection breaks after Redis has stored the data; redis-py sends it again, and the bytes are the same."""
    lost: list[bytes] = []

    async def pump(source: SocketStream, sink: SocketStream, cut: anyio.Event) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for piece in source:
                if cut.is_set() and not lost and piece.startswith(b":1"):
                    lost.append(piece)
                    break
                if b"EVAL" in piece:
                    cut.set()
                await sink.send(piece)
        await sink.aclose()
        await source.aclose()

    async def serve(client: SocketStream) -> None:
        upstream = await anyio.connect_tcp("127.0.0.1", int(redis_url.rpartition(":")[2].partition("/")[0]))
        cut = anyio.Event()
        async with client, upstream, anyio.create_task_group() as both:
            both.start_soon(pump, client, upstream, cut)
            both.start_soon(pump, upstream, client, cut)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(SocketAttribute.local_port)  # noqa: S610
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        store = RedisCheckpointer(f"redis://127.0.0.1:{port}/0")
        assert await store.save("lost answer", {"n": 1}, 0) == 1
        assert lost == [b":1\r\n"]
        assert await store.save("lost answer", {"n": 2}, 1) == 2
        with pytest.raises(ThreadConflict):
            await store.save("lost answer", {"n": 2}, 1)
        await aclose_providers()
        group.cancel_scope.cancel()
    await listener.aclose()


async def test_a_redis_that_was_restarted_with_its_data(tmp_path: Path) -> None:
    """Killed right after a save: what was acknowledged is there again, and a lost idle connection is no error."""
    with RedisServer(tmp_path, keep=True) as server:
        store = RedisCheckpointer(server.url)
        for version in range(20):
            await store.save("t", {"n": version + 1}, version)
        server.kill()
        server.start()
        assert await store.save("t", {"n": 21}, 20) == 21
        saved = await store.load("t")
        assert saved is not None
        assert saved.data["n"] == 21
        await aclose_providers()


async def test_a_redis_that_stops_or_comes_back_empty(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        store = RedisCheckpointer(server.url)
        await store.save("t", {}, 0)
        server.kill()
        calls: list[Awaitable[object]] = [store.load("t"), store.save("t", {}, 1), store.delete("t")]
        for call in calls:
            with pytest.raises(CheckpointError, match=rf"'t' in Redis at 127.0.0.1:{server.port}, database 0: "):
                await call
        server.start()
        with pytest.raises(ThreadConflict, match="the store lost its data") as caught:
            await store.save("t", {}, 1)
        assert (caught.value.expected, caught.value.found) == (1, 0)
        assert await store.load("t") is None
        await aclose_providers()


@patient
async def test_a_redis_that_hangs_raises_in_time_and_replies_are_not_mixed_up(tmp_path: Path, pace: float) -> None:
    with RedisServer(tmp_path) as server:
        store = RedisCheckpointer(f"{server.url}?socket_timeout={0.3 * pace}")
        await store.save("t", {"n": 1}, 0)
        await store.save("other", {"n": "other"}, 0)
        server.send(signal.SIGSTOP)
        for call in (store.save("t", {"n": 2}, 1), store.load("other")):
            with pytest.raises(CheckpointError, match=r"Timeout reading.*The operation may or may not"):
                await call
        server.send(signal.SIGCONT)
        for _ in range(3):
            other = await store.load("other")
            assert other is not None
            assert other.data["n"] == "other"
        saved = await store.load("t")
        assert saved is not None
        assert saved.version == saved.data["n"]
        assert await store.save("t", {"n": saved.version + 1}, saved.version) == saved.version + 1
        await aclose_providers()


async def test_no_password_in_errors_or_logs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(tmp_path, password=PASSWORD) as server:
        store = RedisCheckpointer(server.url)
        await store.save("t", {}, 0)
        wrong = RedisCheckpointer(server.url.replace(PASSWORD, f"{PASSWORD}-not"))
        with pytest.raises(CheckpointError, match=r"(?i)password") as refused:
            await wrong.load("t")
        server.kill()
        with pytest.raises(CheckpointError) as gone:
            await store.load("t")
        with pytest.raises(ThreadConflict) as conflict:
            server.start()
            await store.save("t", {}, 1)
        await aclose_providers()
    texts = [*("".join(traceback.format_exception(one.value)) for one in (refused, gone, conflict)), caplog.text]
    assert not [text for text in (*texts, repr(store)) if PASSWORD in text]


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{PASSWORD}@localhost",
        f"redis://:{PASSWORD}@localhost:port",
        f"redis://:{PASSWORD}@localhost?frobnicate={PASSWORD}",
        f"redis://:{PASSWORD}@localhost?socket_timeout={PASSWORD}",
        f"redis://user:{PASSWORD}#more@localhost:6379",
        PASSWORD,
    ],
)
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="not shown") as caught:
        RedisCheckpointer(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_trio_raises_with_an_alternative(redis_url: str) -> None:
    with pytest.raises(ConfigError, match=r"need asyncio.*under trio, use type: sqlite"):
        anyio.run(RedisCheckpointer(redis_url).load, "t", backend="trio")


def test_two_loops_and_a_fork_get_their_own_connections(redis_url: str) -> None:
    check_loops_and_a_fork({"type": "redis-simple", "url": redis_url, "prefix": f"loops-{os.getpid()}:"})


async def test_connections_are_shared_and_closed_with_the_loop(redis_url: str) -> None:
    async with redis.asyncio.from_url(redis_url) as client:

        async def connections() -> int:
            listed: list[Any] = await cast("Any", client).client_list()
            return len(listed)

        before = await connections()
        for number in range(5):
            await RedisCheckpointer(redis_url).save(f"shared {number}", {}, 0)
        assert await connections() == before + 1
        await aclose_providers()
        gc.collect()
        left: list[int] = []

        async def look() -> None:
            left[:] = [await connections()]

        for _ in range(200):
            await look()
            if left == [before]:
                break
            await anyio.sleep(0.01)
        assert left == [before]


def test_without_redis_py_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['redis'] = sys.modules['redis.asyncio'] = None\n"
        "from streamcore.checkpoints import open_checkpointer\n"
        "open_checkpointer({'type': 'redis', 'url': 'redis://localhost'})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    assert "ConfigError: Redis needs the package 'redis', which is not installed; run: pip install -e \".[redis]\"" in (
        result.stderr
    )
