"""Run the suite of relay logs on NATS JetStream, and test what only NATS has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import anyio
import pytest

from streamcore.checkpoints import MemoryCheckpointer
from streamcore.errors import AnswerTooLarge, ConfigError, RelayError
from streamcore.relay import Relay, RunLog, open_log
from streamcore.relay.entries import encode_end
from streamcore.sse import Item
from streamcore.testing.suites.run_log import END, RunLogSuite
from streamcore.web import create_app
from tests.nats_server import NatsServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Run a NATS server."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.mark.long
@pytest.mark.real
class TestNats(RunLogSuite):
    """Runs in NATS; nats-py knows asyncio only."""

    backends = ("asyncio",)

    @pytest.fixture(autouse=True)
    def _store(self, server: NatsServer) -> None:
        self.url = server.url

    def log(self) -> RunLog:
        return open_log(self.url)


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_services_limits_and_ages(server: NatsServer) -> None:
    shop, staff = open_log(server.url, name="shop", keep=0.2), open_log(server.url, name="{staff} *.>")
    epoch = await shop.start("r", "ada", lease=60, thread="t")
    assert (await staff.status("r"), await staff.latest("t")) == (None, None)
    await staff.start("r", "ada", lease=60, limit=1, thread="t")
    assert await open_log(server.url, name="shop").latest("t") == "r"
    await shop.append("r", epoch, 0, ["a"], END, lease=60)
    with anyio.fail_after(60):
        while await shop.status("r") is not None:  # noqa: ASYNC110  it ends on the server
            await anyio.sleep(0.02)
    assert not await shop.take_over("r", END)
    again = await shop.start("r", "ada", lease=60)
    assert not await shop.append("r", epoch, 0, ["of the old run"], None, lease=60)
    assert await shop.append("r", again, 0, ["b"], END, lease=60)


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_more_than_a_message_can_have(server: NatsServer) -> None:
    """Items of one append become several messages, of which a repeated append stores each once; one item must fit."""
    log, reader = open_log(server.url), open_log(server.url)
    epoch = await log.start("large", "", lease=60)
    wanted: list[Item] = [letter * size for letter in "abcdef" for size in (300_000, 1, 400_000)]
    for _ in range(2):
        assert await log.append("large", epoch, 0, wanted, None, lease=60)
    with pytest.raises(AnswerTooLarge, match="raise max_payload"):
        await log.append("large", epoch, len(wanted), ["x" * 1_100_000], None, lease=60)
    error = RuntimeError("y" * 900_000)
    for _ in range(2):
        assert await log.append("large", epoch, len(wanted), ["z" * 500_000], encode_end(error, None), lease=60)
    found: list[Item] = []
    end = None
    while end is None:
        result = await reader.read("large", len(found), 1)
        assert result is not None
        assert result.seq == len(found) + len(result.items)
        found += result.items
        end = result.end
    assert found == [*wanted, "z" * 500_000]
    small = open_log(server.url, max_bytes=100_000)
    epoch = await small.start("limit", "", lease=60)
    assert await small.append("limit", epoch, 0, ["x" * 90_000], None, lease=60)
    with pytest.raises(AnswerTooLarge, match="more than 100,000 bytes"):
        await small.append("limit", epoch, 1, ["x" * 90_000], None, lease=60)


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_server_that_is_killed_and_restarted(tmp_path: Path) -> None:
    """Calls fail while it is down; then everything that was stored is there, and readers get the rest."""
    with NatsServer(tmp_path) as server:
        log, other = open_log(server.url), open_log(server.url)
        epoch = await log.start("r", "", lease=600)
        assert await log.append("r", epoch, 0, ["a"], None, lease=600)
        found = await other.read("r", 1, 0.01)
        assert found is not None
        server.kill()
        with anyio.fail_after(60):
            while True:
                try:
                    await log.status("r")
                except RelayError as error:
                    if "connection is lost" in str(error):
                        break
        for call in (log.append("r", epoch, 1, ["b"], None, lease=600), log.renew("r", epoch, lease=600)):
            with pytest.raises(RelayError, match=rf"NATS at 127.0.0.1:{server.port} failed"):
                await call
        server.start()
        with anyio.fail_after(60):
            while True:
                try:
                    assert await log.append("r", epoch, 1, ["b"], END, lease=600)
                    break
                except RelayError:
                    await anyio.sleep(0.05)
        found = await other.read("r", 1, 10)
        assert found is not None
        assert (found.items, found.end) == (["b"], END)


@pytest.mark.anyio
@pytest.mark.long
@pytest.mark.real
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_relay_reads_what_another_one_produces(server: NatsServer) -> None:
    gate = anyio.Event()

    async def source() -> AsyncGenerator[str]:
        yield "a"
        await gate.wait()
        yield "b"

    async with Relay(open_log(server.url)) as one, Relay(open_log(server.url)) as other:
        await one.start("relayed", source, owner="ada", thread="t")
        found: list[Item] = []
        async for item in other.read("relayed", who="ada"):
            found.append(item)
            gate.set()
        assert found == ["a", "b"]
        assert await other.latest("t", who="ada") == "relayed"
        assert await other.stop("relayed", who="ada") is False


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_trio_is_refused_with_an_alternative() -> None:
    with pytest.raises(ConfigError, match=r"runs in NATS need asyncio.*under trio, use the log in memory"):
        await open_log("nats://127.0.0.1:1").status("r")


@pytest.mark.parametrize(
    "url", ["nats://:secret@", "nats://a:secret@h:port", "nats://h:1?unknown=secret", "nats://h?replicas=secret"]
)
def test_the_url_is_checked(url: str) -> None:
    with pytest.raises(ConfigError, match="nats://user:password@host1:4222,host2:4222") as caught:
        open_log(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="max_bytes"):
        open_log("nats://h", max_bytes=0)


def test_a_service_names_what_nats_does_not_keep() -> None:
    with pytest.raises(ConfigError, match="NATS keeps answers, but no conversations"):
        create_app(allow_models=["demo"], relay="nats://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"max_cost .* needs a Redis"):
        create_app(allow_models=["demo"], relay="nats://127.0.0.1:1", checkpointer=MemoryCheckpointer(), max_cost=5)
    assert create_app(allow_models=["demo"], relay="nats://127.0.0.1:1", checkpointer=MemoryCheckpointer())
