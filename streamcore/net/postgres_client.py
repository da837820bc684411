"""Connect to a PostgreSQL: read its URL, share connections on an event loop, describe errors without the password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from streamcore.base.redact import redact
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, install_command
from streamcore.net.clients import shared_client

try:
    from psycopg import AsyncConnection, Error, OperationalError
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
except ImportError as error:  # also if psycopg has no libpq
    raise ConfigError(
        f"PostgreSQL needs the package 'psycopg', which is not installed; run: {install_command('postgres')}"
    ) from error

T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]

CONNECTIONS = 20
"""The maximum number of connections of one event loop; calls above that wait for one."""
CONNECT_SECONDS = 5
"""How long connecting may take, in seconds."""
IDLE = 5
"""The maximum number of connections that are kept open without a call."""
FAILURES = (Error, OSError, TimeoutError)
"""The errors that a call may raise."""
_LOCK = 0x73_74_72_65_61_6D  # "stream": one migration at a time


class PostgresDatabase:
    """One schema of a PostgreSQL, for one part of streamcore.

    Connections belong to the event loop and the process that use them, and are closed with the loop.

    Args:
        url: `postgresql://user:password@host:5432/database`.
        part: what the URL is for, in error messages and in the table of migrations.
        instead: what to use under trio, in error messages.
        schema: the schema of the tables, which is created if the role may do so.
        migrations: the statements that make the tables, in order; version n is the first n. `{schema}` is the schema.
        seconds: how long a call may take, connecting included.

    Raises:
        ConfigError: the URL or the name of the schema is not valid.
    """

    def __init__(
        self, url: str, part: str, instead: str, *, schema: str, migrations: Sequence[str], seconds: float = 15.0
    ) -> None:
        try:
            settings: Mapping[str, Any] = conninfo_to_dict(url)
        except Error:
            settings = {}
        if not settings or "://" not in url:
            # Neither the URL nor an error that quotes parts of it is shown: it may have a password.
            raise ConfigError(
                f"{part}: the PostgreSQL `url` is not valid (not shown, since it may have a password); it must be "
                "postgresql://user:password@host:5432/database; in a password, write @ / : ? # % as %40 %2F %3A %3F "
                "%23 %25"
            ) from None
        if not (schema.isascii() and schema.isidentifier() and schema == schema.lower()):
            raise ConfigError(f"{part}: a schema's name has a-z 0-9 _ and begins with a letter, not {schema!r}")
        self._url = url
        self._part = part
        self._instead = instead
        self._schema = schema
        self._migrations = migrations
        self._seconds = seconds
        self._password = str(settings.get("password") or "")
        host, port = settings.get("host") or "localhost", settings.get("port") or 5432
        self.location = f"PostgreSQL at {host}:{port}, database {settings.get('dbname') or settings.get('user') or ''}"

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Call a function with a connection, whose every statement is a transaction, and return its result.

        If the connection was broken, the function is called once more with another one. A caller that anyio cancels
        waits for the end of the call.

        Raises:
            ConfigError: the loop is trio's, or the tables were made by a newer streamcore.
            Error, OSError, TimeoutError: see `FAILURES`.
        """
        if running_on_trio():
            raise ConfigError(
                f"{self._part} in PostgreSQL need asyncio, the only event loop that psycopg supports; under trio, use "
                f"{self._instead}"
            )
        with anyio.CancelScope(shield=True):
            async with asyncio.timeout(self._seconds):  # cancels once, which psycopg handles; anyio cancels repeatedly
                return await self._try(work)
        raise TimeoutError  # not reached: the scope is not cancelled

    async def _try(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        pool = await shared_client(("postgres", self._url, self._schema), self._make)
        broken = False
        while True:
            async with pool.connection() as connection:
                try:
                    if self._part not in pool.migrated:
                        await self._migrate(connection)
                        pool.migrated.add(self._part)
                    return await work(connection)
                except OperationalError:
                    if broken or not connection.closed:
                        raise
            broken = True
            await pool.close_idle()  # the server may have closed the others, too

    def describe(self, error: BaseException) -> str:
        """Return the message of an error in one line, without the password."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self._seconds:g} s"
        return redact(" ".join(str(error).split()).rstrip(".") or type(error).__name__, [self._password])

    @staticmethod
    def outcome_unknown(error: BaseException) -> bool:
        """Return whether the call may have been done or not."""
        return not isinstance(error, Error) or error.sqlstate is None or error.sqlstate[:2] in ("08", "57")

    def _make(self) -> tuple[_Pool, Callable[[], Awaitable[object]]]:
        pool = _Pool(self._url)
        return pool, pool.close_idle

    async def _migrate(self, connection: Connection) -> None:
        """Bring the tables of this part to the newest version, in one transaction."""
        if await self._version(connection) == len(self._migrations):
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            found = await connection.execute("SELECT to_regnamespace(%s)::text", (self._schema,))
            if await found.fetchone() == (None,):  # also IF NOT EXISTS needs the right to create schemas
                await connection.execute(f"CREATE SCHEMA {self._schema}".encode())
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._schema}.migration (part text PRIMARY KEY, version int)".encode()
            )
            done = await self._version(connection)
            for statement in self._migrations[done:]:
                await connection.execute(statement.replace("{schema}", self._schema).encode())
            await connection.execute(
                (
                    f"INSERT INTO {self._schema}.migration VALUES (%s, %s) "  # noqa: S608  a checked name
                    "ON CONFLICT (part) DO UPDATE SET version = excluded.version"
                ).encode(),
                (self._part, len(self._migrations)),
            )

    async def _version(self, connection: Connection) -> int:
        """Return the version of the part's tables, 0 if there are none.

        Raises:
            ConfigError: it is a newer one than this streamcore knows.
        """
        found = await connection.execute("SELECT to_regclass(%s)::text", (f"{self._schema}.migration",))
        if await found.fetchone() == (None,):
            return 0
        statement = f"SELECT version FROM {self._schema}.migration WHERE part = %s"  # noqa: S608  a checked name
        row = await (await connection.execute(statement.encode(), (self._part,))).fetchone()
        version = 0 if row is None else int(row[0])
        if version > len(self._migrations):
            raise ConfigError(
                f"{self._part}: the tables in schema {self._schema!r} of {self.location} have version {version}, and "
                f"this streamcore knows {len(self._migrations)}; use the newer version, or give another `schema`"
            )
        return version


class _Pool:
    """The connections of one event loop.

    Not psycopg's own pool: it connects in background tasks, which hang at the end of the loop if they are cancelled
    while they connect, and which hide why a connection failed.
    """

    def __init__(self, url: str) -> None:
        self.migrated: set[str] = set()
        """The parts whose tables are known to be there."""
        self._url = url
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(CONNECTIONS)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Open a connection or take an idle one; keep it for others if it is in order."""
        async with self._free:
            connection = self._idle.pop() if self._idle else await self._open()
            try:
                yield connection
            finally:
                if connection.info.transaction_status is TransactionStatus.IDLE and len(self._idle) < IDLE:
                    self._idle.append(connection)
                else:
                    await connection.close()

    async def _open(self) -> Connection:
        # No prepared statements: a proxy such as PgBouncer may give every statement another connection.
        return await AsyncConnection.connect(
            self._url, autocommit=True, prepare_threshold=None, connect_timeout=CONNECT_SECONDS
        )

    async def close_idle(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()
