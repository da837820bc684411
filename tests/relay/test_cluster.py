"""Keep runs, threads, limits and spending in a Redis Cluster, and lose one of its nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from decimal import Decimal
from pathlib import Path

import anyio
import pytest

from streamcore.checkpoints import open_checkpointer
from streamcore.errors import ConfigError, RelayError, StreamcoreError, ThreadConflict
from streamcore.relay import Relay, RunLog, open_log
from streamcore.testing.suites.run_log import RunLogSuite
from streamcore.web.spending_sums import RedisSums
from tests.redis_cluster import RedisCluster
from tests.support import DEADLINE

RUNS = 24
ITEMS = 40


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Run a cluster of three nodes."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.mark.long
@pytest.mark.real
class TestCluster(RunLogSuite):
    """The suite of logs, on three nodes."""

    backends = ("asyncio",)

    @pytest.fixture(autouse=True)
    def _store(self, cluster: RedisCluster) -> None:
        self.url = cluster.url

    def log(self) -> RunLog:
        return open_log(self.url, name="a {name} with {} braces")


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_threads_and_sums_in_a_cluster(cluster: RedisCluster) -> None:
    store = open_checkpointer({"type": "redis", "url": cluster.url})
    sums = RedisSums(cluster.url, "shop", 60)
    for number in range(20):  # in slots of all nodes
        thread = f"thread {number}"
        assert await store.load(thread) is None
        assert await store.save(thread, {"n": number}, 0) == 1
        with pytest.raises(ThreadConflict):
            await store.save(thread, {"n": -1}, 0)
        saved = await store.load(thread)
        assert saved is not None
        assert saved.data == {"n": number}
        await store.delete(thread)
        assert await store.load(thread) is None
        for _ in range(2):
            await sums.add(f"user {number}", 1, Decimal("0.25"))
        assert await sums.sum(f"user {number}", 1) == Decimal("0.5")


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_node_is_killed(tmp_path: Path, replicas: int) -> None:
    """Every run ends or goes on, and no reader hangs; with replicas, those of the node that was lost go on."""
    half = anyio.Event()
    texts: dict[str, list[str]] = {f"run-{number}": [] for number in range(RUNS)}
    errors: dict[str, StreamcoreError] = {}
    reached = 0
    lost: set[str] = set()

    async def source() -> AsyncGenerator[str]:
        nonlocal reached
        for number in range(ITEMS):
            if number == ITEMS // 2:
                reached += 1
                await half.wait()
            yield f"{number} "
            await anyio.sleep(0.01)

    with RedisCluster(tmp_path, replicas=replicas) as cluster:
        lease = 60.0 if replicas else 8.0
        async with (
            Relay(open_log(cluster.url), lease=lease) as producing,
            Relay(open_log(cluster.url), lease=lease) as reading,
        ):

            async def read(run: str) -> None:
                """Read as a browser does, which reconnects after errors of the log."""
                after = 0
                with anyio.fail_after(DEADLINE):
                    while True:
                        reader = reading.read(run, after)
                        try:
                            async for item in reader:
                                texts[run].append(str(item))
                                after = reader.seq
                        except RelayError:
                            if run in lost and not replicas and not producing.running:  # nobody can know about this run
                                return
                            continue
                        except StreamcoreError as error:
                            errors[run] = error
                        return

            async with anyio.create_task_group() as group:
                for run in texts:
                    await producing.start(run, source)
                killed = cluster.port_of("streamcore:relay:{run-0}:run")
                lost |= {run for run in texts if cluster.port_of(f"streamcore:relay:{{{run}}}:run") == killed}
                assert 0 < len(lost) < RUNS
                for run in texts:
                    group.start_soon(read, run)
                with anyio.fail_after(DEADLINE):
                    while reached < RUNS:  # noqa: ASYNC110  all are in the middle
                        await anyio.sleep(0.02)
                if replicas:
                    cluster.wait_until_replicated(killed)
                cluster.kill(killed)
                half.set()
        wanted = [f"{number} " for number in range(ITEMS)]
        for run, got in texts.items():
            assert got == wanted[: len(got)]
            assert got == wanted or run in errors or (run in lost and not replicas)
        complete = {run for run, got in texts.items() if got == wanted}
        assert complete & lost if replicas else complete - lost


@pytest.mark.parametrize(
    "url",
    ["redis+cluster://:secret@host:1,host:2/1", "redis+cluster://:secret@host:x", "rediss+cluster://h:1?a=secret"],
)
def test_the_url_of_a_cluster_is_checked(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis\+cluster://user:password@host1:6379,host2:6379") as caught:
        open_log(url)
    assert "secret" not in str(caught.value)
