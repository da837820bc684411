"""Run the suite that every checkpointer passes on those that streamcore brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer, open_checkpointer
from streamcore.testing.suites.checkpointer import CheckpointerSuite


class TestMemory(CheckpointerSuite):
    """Threads in memory."""

    @pytest.fixture(autouse=True)
    def _store(self) -> None:
        self.store = MemoryCheckpointer()

    def checkpointer(self) -> Checkpointer:
        return self.store


class TestSQLite(CheckpointerSuite):
    """Threads in SQLite."""

    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.path = tmp_path / "threads.db"

    def checkpointer(self) -> Checkpointer:
        return open_checkpointer({"type": "sqlite", "path": str(self.path)})


@pytest.mark.real
class TestRedis(CheckpointerSuite):
    """Threads in Redis; redis-py knows asyncio only."""

    backends = ("asyncio",)

    @pytest.fixture(autouse=True)
    def _store(self, redis_url: str) -> None:
        self.url = redis_url

    def checkpointer(self) -> Checkpointer:
        return open_checkpointer({"type": "redis", "url": self.url, "ttl": 60, "prefix": "test:"})


@pytest.mark.real
@pytest.mark.long
class TestPostgres(CheckpointerSuite):
    """Threads in PostgreSQL; psycopg knows asyncio only."""

    backends = ("asyncio",)

    @pytest.fixture(autouse=True)
    def _store(self, postgres_url: str) -> None:
        self.url = postgres_url

    def checkpointer(self) -> Checkpointer:
        return open_checkpointer({"type": "postgres", "url": self.url, "schema": "contract"})
