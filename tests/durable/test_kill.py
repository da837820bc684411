"""Kill a worker of durable runs with kill -9; the trials in `trials.py` do it many times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durable.trials import trials
from tests.nats_server import NatsServer
from tests.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, on which DBOS is."""
    return "asyncio"


async def test_another_worker_continues_after_kill_9(tmp_path: Path) -> None:
    """On PostgreSQL and Redis: every run ends, no completed node runs again, and each reader gets whole texts."""
    with RedisServer(tmp_path) as redis, PostgresServer() as postgres:
        assert await trials("postgres", 4, 0.0, tmp_path, postgres.url, redis.url, most=1) == 1


@pytest.mark.parametrize("server", [RedisServer, NatsServer])
async def test_the_next_worker_on_sqlite_continues_after_kill_9(
    server: type[RedisServer | NatsServer], tmp_path: Path
) -> None:
    """On SQLite with the events in Redis or in NATS."""
    with server(tmp_path) as relay:
        database = f"sqlite:///{tmp_path / 'runs.db'}"
        assert await trials("sqlite", 4, 0.0, tmp_path, database, relay.url, most=1) == 1
