"""Save threads in PostgreSQL, for workers on many machines.

A thread is one row of `<schema>.thread`. Compare-and-set is one statement, which is atomic; a statement that is sent
again after a lost response finds its own bytes stored. What survives a crash of PostgreSQL itself depends on its
setting `synchronous_commit`, whose default loses nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from streamcore.checkpoints.codec import conflict, decode, encode
from streamcore.checkpoints.protocol import Saved
from streamcore.errors import CheckpointError
from streamcore.net.postgres_client import FAILURES, Connection, PostgresDatabase

T = TypeVar("T")

DEFAULT_SCHEMA = "streamcore"
# The key is a digest, since PostgreSQL's text has neither NUL nor half a surrogate pair, and an index no long names.
_LAYOUT = (
    "CREATE TABLE {schema}.thread (id bytea PRIMARY KEY, name text NOT NULL, version bigint NOT NULL, "
    "stored bytea NOT NULL, saved_at timestamptz NOT NULL DEFAULT now())"
)
MIGRATIONS = (_LAYOUT,)
_FIND = "SELECT stored FROM {table} WHERE id = %s"
_INSERT = (
    "INSERT INTO {table} (id, name, version, stored) VALUES (%(id)s, %(name)s, 1, %(stored)s) "
    "ON CONFLICT (id) DO NOTHING"
)
_UPDATE = (
    "UPDATE {table} SET version = version + 1, stored = %(stored)s, saved_at = now() "
    "WHERE id = %(id)s AND version = %(version)s"
)
_FORGET = "DELETE FROM {table} WHERE id = %s"


class PostgresCheckpointer:
    """Save threads in PostgreSQL. Connections belong to the event loop and the process that use them.

    Args:
        url: `postgresql://user:password@host:5432/database`.
        schema: the schema of its tables, which are made at the first use.
        seconds: how long a call may take.
    """

    def __init__(self, url: str, *, schema: str = DEFAULT_SCHEMA, seconds: float = 15.0) -> None:
        self._database = PostgresDatabase(
            url, "threads", "type: sqlite or type: memory", schema=schema, migrations=MIGRATIONS, seconds=seconds
        )
        self._where = self._database.location
        self._find, self._insert, self._update, self._forget = (
            one.replace("{table}", f"{schema}.thread").encode() for one in (_FIND, _INSERT, _UPDATE, _FORGET)
        )

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""
        stored = await self._run(thread, lambda connection: self._stored(connection, thread))
        return None if stored is None else decode(thread, stored, self._where)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the stored version is `version`."""
        stored = encode(thread, data, version + 1)
        values = {"id": _key(thread), "name": _shown(thread), "stored": stored, "version": version}

        async def write(connection: Connection) -> bytes | None:
            done = await connection.execute(self._update if version else self._insert, values)
            return stored if done.rowcount else await self._stored(connection, thread)

        found = await self._run(thread, write)
        if found != stored:  # otherwise it was stored now, or by the same call before its connection broke
            raise conflict(thread, self._where, version, decode(thread, found, self._where).version if found else 0)
        return version + 1

    async def delete(self, thread: str) -> None:
        """Delete the thread, also if its checkpoint is damaged."""

        async def forget(connection: Connection) -> None:
            await connection.execute(self._forget, (_key(thread),))

        await self._run(thread, forget)

    async def aclose(self) -> None:
        """Do nothing: connections are shared on the event loop and end with it, or with `aclose_providers()`."""

    async def _stored(self, connection: Connection, thread: str) -> bytes | None:
        row = await (await connection.execute(self._find, (_key(thread),))).fetchone()
        return None if row is None else bytes(row[0])

    async def _run(self, thread: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a function with a connection, and raise psycopg's errors as ours, without the password."""
        try:
            return await self._database.run(work)
        except FAILURES as error:
            todo = (
                "The operation may or may not have been done; when PostgreSQL is available, run the thread again, "
                "which continues from the last whole checkpoint"
                if self._database.outcome_unknown(error)
                else "PostgreSQL refused the operation, and nothing was changed"
            )
            raise CheckpointError(
                f"thread {thread!r} in {self._where}: {self._database.describe(error)}. {todo}"
            ) from error


def _key(thread: str) -> bytes:
    return hashlib.blake2b(thread.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _shown(thread: str) -> str:
    """Return the name for the table's readers."""
    return thread.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
