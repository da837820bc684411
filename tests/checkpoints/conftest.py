"""Share one Redis among the tests of checkpoints."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.checkpoints.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Redis, and return its address."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server.url
