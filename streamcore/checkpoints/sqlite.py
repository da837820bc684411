"""Save threads in an SQLite database, for the workers of one machine.

Each call opens its own connection in a worker thread and closes it. This flushes the disk five times instead of once,
which takes milliseconds, while a node takes seconds. In return, no connection crosses an event loop, a fork (which
SQLite forbids) or a cancellation, and none is left open. The write-ahead log with `synchronous=FULL` makes a checkpoint
durable before `save` returns.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from streamcore.checkpoints.codec import conflict, damaged, decode, encode
from streamcore.checkpoints.protocol import Saved
from streamcore.concurrency.threads import run_in_thread
from streamcore.errors import CheckpointError, ConfigError

T = TypeVar("T")

BUSY_SECONDS = 10.0
"""How long to wait for another worker that is writing, in seconds."""

# A thread is found by the hash of its name and by its name, which are on different pages of the file. So one damaged
# page does not make the thread look as if it never existed.
_LAYOUT = "CREATE TABLE checkpoint (id INTEGER PRIMARY KEY, thread TEXT UNIQUE NOT NULL, stored BLOB NOT NULL)"
_FIND = "SELECT stored FROM checkpoint WHERE id = ?1 OR thread = ?2"
_STORE = "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET stored = excluded.stored"
_FORGET = "DELETE FROM checkpoint WHERE id = ?1 OR thread = ?2"
_LAYOUT_VERSION = 1


class SQLiteCheckpointer:
    """Save threads in one file, which is created at the first use. Event loops, threads and forks may share it."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        if str(path) in ("", ":memory:"):
            raise ConfigError(f"checkpointer: {str(path)!r} is not the path of a file; use type: memory")

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""

        def read(database: sqlite3.Connection) -> Saved | None:
            return self._find(database, thread)

        return await self._run(thread, read)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the stored version is `version`."""
        stored = encode(thread, data, version + 1)

        def write(database: sqlite3.Connection) -> int:
            before = self._find(database, thread)
            found = before.version if before else 0
            if found != version:
                raise conflict(thread, str(self._path), version, found)
            database.execute(_STORE, (*_names(thread), stored))
            return version + 1

        return await self._run(thread, write)

    async def delete(self, thread: str) -> None:
        """Delete the thread, also if its checkpoint is damaged."""

        def forget(database: sqlite3.Connection) -> None:
            database.execute(_FORGET, _names(thread))

        await self._run(thread, forget)

    async def aclose(self) -> None:
        """Do nothing: no connection stays open between calls."""

    def _find(self, database: sqlite3.Connection, thread: str) -> Saved | None:
        row = database.execute(_FIND, _names(thread)).fetchone()
        if row is None:
            return None
        return decode(thread, row[0] if isinstance(row[0], bytes) else b"", str(self._path))

    async def _run(self, thread: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in one transaction in a worker thread.

        A caller that anyio cancels waits for its end; a task that is cancelled otherwise does not, and the transaction
        ends in the background.
        """

        def run() -> T:
            with self._explained(thread), self._transaction() as database:
                return work(database)

        return await run_in_thread("checkpoints", run)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA cell_size_check = ON")
            if database.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                database.execute("PRAGMA journal_mode = WAL")
            database.execute("BEGIN IMMEDIATE")
            self._prepare(database)
            yield database
            database.execute("COMMIT")
        finally:
            database.close()  # rolls back what was not committed

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Create the table in a new file; refuse a file of another program."""
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found == _LAYOUT_VERSION:
            return
        if found or database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise CheckpointError(
                f"{str(self._path)!r} is a database of another program, or of a newer streamcore; give the "
                "checkpointer another file as `path`"
            )
        database.execute(_LAYOUT)
        database.execute(f"PRAGMA user_version = {_LAYOUT_VERSION}")

    @contextmanager
    def _explained(self, thread: str) -> Generator[None]:
        """Raise SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the other bits are details
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(error):
                damaged(thread, str(self._path), error)
            todo = _TODO.get(code, "")
            raise CheckpointError(
                f"thread {thread!r} in {str(self._path)!r}: {error}; the last whole checkpoint is unchanged{todo}"
            ) from error


_TODO: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: ". Free space on the disk, then run the thread again",
    sqlite3.SQLITE_IOERR: ". Check the disk: it may be full or failing",
    sqlite3.SQLITE_BUSY: f". Another process kept the database locked for {BUSY_SECONDS:g} s",
    sqlite3.SQLITE_CANTOPEN: ". Create its folder, and check that you may write there",
    sqlite3.SQLITE_READONLY: ". Check that you may write to it and to its folder",
}


def _names(thread: str) -> tuple[int, str]:
    """Return the two keys of a thread's row."""
    name = thread.encode("utf-8", "backslashreplace")  # SQLite takes no lone surrogates
    digest = hashlib.blake2b(name, digest_size=8).digest()
    return int.from_bytes(digest, signed=True), name.decode()
