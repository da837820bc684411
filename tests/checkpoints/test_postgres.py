"""Take PostgreSQL away, break its connections, lock its tables, and look for its password: clear errors, no leak."""

from __future__ import annotations

import logging
import subprocess
import sys
import traceback
import uuid
from collections.abc import Awaitable
from pathlib import Path

import anyio
import psycopg
import pytest

from streamcore import CheckpointError, ConfigError, aclose_providers, load_graph
from streamcore.checkpoints.postgres import PostgresCheckpointer
from tests.checkpoints.loops import check_loops_and_a_fork
from tests.graphs import write_graph
from tests.servers import PASSWORD, PostgresServer
from tests.support import patient

DATA: dict[str, str] = {}

pytestmark = [pytest.mark.anyio, pytest.mark.real, pytest.mark.long]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, the only event loop that psycopg knows."""
    return "asyncio"


@pytest.fixture
def schema() -> str:
    """Name a schema that no other test uses."""
    return f"s{uuid.uuid4().hex}"


async def ask(url: str, statement: str) -> str:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        found = await connection.execute(statement.encode())
        row = await found.fetchone() if found.description else None
        return str(row[0]) if row else ""


async def test_many_workers_make_the_tables_at_the_same_time(postgres_url: str, schema: str) -> None:
    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(PostgresCheckpointer(postgres_url, schema=schema).save, f"t{number}", DATA, 0)
    assert await ask(postgres_url, f"SELECT count(*) FROM {schema}.thread") == "8"  # noqa: S608
    assert await ask(postgres_url, f"SELECT version FROM {schema}.migration WHERE part = 'threads'") == "1"  # noqa: S608


async def test_tables_of_a_newer_version_are_refused(postgres_url: str, schema: str) -> None:
    await PostgresCheckpointer(postgres_url, schema=schema).save("t", {}, 0)
    await ask(postgres_url, f"UPDATE {schema}.migration SET version = 9")  # noqa: S608
    await aclose_providers()
    with pytest.raises(ConfigError, match=r"have version 9, and this streamcore knows 1; use the newer version"):
        await PostgresCheckpointer(postgres_url, schema=schema).load("t")


async def test_names_and_times_can_be_read_in_the_table(postgres_url: str, schema: str) -> None:
    store = PostgresCheckpointer(postgres_url, schema=schema)
    await store.save("five/ada\0\ud83d", {}, 0)
    name = await ask(postgres_url, f"SELECT name FROM {schema}.thread WHERE saved_at > now() - interval '1 day'")  # noqa: S608
    assert name == "five/ada\\0\\ud83d"


async def test_a_damaged_row_raises_and_is_not_changed(postgres_url: str, schema: str) -> None:
    store = PostgresCheckpointer(postgres_url, schema=schema)
    await store.save("bad", {"n": 1}, 0)
    await ask(postgres_url, f"UPDATE {schema}.thread SET stored = 'nothing of ours'")  # noqa: S608
    for call in (store.load("bad"), store.save("bad", {}, 0)):
        with pytest.raises(CheckpointError, match=r"thread 'bad' in PostgreSQL at .* is damaged"):
            await call
    assert await ask(postgres_url, f"SELECT convert_from(stored, 'UTF8') FROM {schema}.thread") == "nothing of ours"  # noqa: S608
    await store.delete("bad")
    assert await store.load("bad") is None


async def test_broken_connections_are_replaced(postgres_url: str, schema: str) -> None:
    store = PostgresCheckpointer(postgres_url, schema=schema)
    await store.save("t", {}, 0)
    async with anyio.create_task_group() as group:  # several connections
        for _ in range(5):
            group.start_soon(store.load, "t")
    await ask(postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert await store.save("t", {}, 1) == 2
    assert await store.save("t", {}, 2) == 3


@patient
async def test_a_locked_table_raises_in_time(postgres_url: str, schema: str, pace: float) -> None:
    seconds, schema = 0.5 * pace, f"{schema}_{pace:g}"
    store = PostgresCheckpointer(postgres_url, schema=schema, seconds=seconds)
    await PostgresCheckpointer(postgres_url, schema=schema).save("t", {"n": 1}, 0)
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await connection.execute(f"LOCK TABLE {schema}.thread".encode())
        with pytest.raises(CheckpointError, match=rf"no answer within {seconds:g} s\. The operation may or may not"):
            await store.save("t", {"n": 2}, 1)
    saved = await PostgresCheckpointer(postgres_url, schema=schema).load("t")
    assert saved is not None
    assert saved.version == saved.data["n"]


async def test_a_postgres_that_stops_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """What was acknowledged is there again, an idle connection that was lost is no error, and no password is shown."""
    caplog.set_level(logging.DEBUG)
    with PostgresServer() as server:
        store = PostgresCheckpointer(server.url)
        for version in range(20):
            await store.save("t", {"n": version + 1}, version)
        server.kill()
        calls: list[Awaitable[object]] = [store.load("t"), store.save("t", {}, 20)]
        texts: list[str] = []
        for call in calls:
            with pytest.raises(CheckpointError, match=rf"'t' in PostgreSQL at 127.0.0.1:{server.port}, .*") as caught:
                await call
            texts += traceback.format_exception(caught.value)
        server.start()
        assert await store.save("t", {"n": 21}, 20) == 21
        wrong = PostgresCheckpointer(server.url.replace(PASSWORD, f"{PASSWORD}-not"))
        with pytest.raises(CheckpointError, match="password authentication failed") as refused:
            await wrong.load("t")
        texts += traceback.format_exception(refused.value)
        await aclose_providers()
    assert not [text for text in (*texts, caplog.text, repr(store)) if PASSWORD in text]


@pytest.mark.parametrize("url", [f"http://:{PASSWORD}@localhost", f"postgresql://h/d?no={PASSWORD}", PASSWORD])
def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="not shown") as caught:
        PostgresCheckpointer(url)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


def test_trio_raises_with_an_alternative(postgres_url: str) -> None:
    with pytest.raises(ConfigError, match=r"need asyncio.*under trio, use type: sqlite"):
        anyio.run(PostgresCheckpointer(postgres_url).load, "t", backend="trio")


def test_a_graph_names_its_store_with_a_url(tmp_path: Path) -> None:
    text = """
    name: g
    checkpointer: postgresql://user:${PASSWORD}@host/threads
    nodes:
      one: {type: passthrough, output: {a: "b"}}
    edges:
      - {from: START, to: one}
      - {from: one, to: END}
    """
    graph = load_graph(write_graph(tmp_path, text))
    assert graph.file.checkpointer == {"type": "postgres", "url": "postgresql://user:${PASSWORD}@host/threads"}


def test_two_loops_and_a_fork_get_their_own_connections(postgres_url: str, schema: str) -> None:
    check_loops_and_a_fork({"type": "postgres", "url": postgres_url, "schema": schema})


def test_without_psycopg_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from streamcore.checkpoints import open_checkpointer\n"
        "open_checkpointer('postgresql://localhost/threads')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    assert "ConfigError: PostgreSQL needs the package 'psycopg', which is not installed; run: " in (result.stderr)
