"""Share one Redis and one PostgreSQL among the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.checkpoints.redis_server import RedisServer
from tests.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Redis, and return its address."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Run a PostgreSQL, and return its address."""
    with PostgresServer() as server:
        yield server.url
