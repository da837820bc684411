"""Connect to a Redis: read its URL, share connections on an event loop, describe errors without the password."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from streamcore.base.redact import redact
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, install_command
from streamcore.net.clients import shared_client

try:
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as error:
    raise ConfigError(
        f"Redis needs the package 'redis', which is not installed; run: {install_command('redis')}"
    ) from error

RETRIES = 3
"""How often a command is repeated after a broken connection, within about a second; not after a timeout."""

FAILURES = (RedisError, OSError)
"""The errors that redis-py raises."""


class RedisDatabase:
    """One database of a Redis, for one part of streamcore.

    Connections belong to the event loop and the process that use them, and are closed with the loop.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        part: what the URL is for, in error messages.
        instead: what to use under trio, in error messages.
        connections: the most connections; None: no limit.

    Raises:
        ConfigError: the URL cannot be read.
    """

    def __init__(self, url: str, part: str, instead: str, connections: int | None = None) -> None:
        self._url = url
        self._part = part
        self._instead = instead
        self._more = {} if connections is None else {"max_connections": connections}
        pool = self._open().connection_pool
        settings: Mapping[str, Any] = pool.connection_kwargs
        self._password: str | None = settings.get("password")
        address = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
        self.location = f"Redis at {address}, database {settings.get('db', 0)}"

    async def client(self) -> Redis:
        """Return the client of the running loop.

        Raises:
            ConfigError: the loop is trio's.
        """
        self.check_loop()

        def make() -> tuple[Redis, Callable[[], Awaitable[object]]]:
            client = self._open()
            return client, client.aclose

        return await shared_client(("redis", self._part, self._url), make)

    def check_loop(self) -> None:
        """Raise `ConfigError` if the running loop is trio's."""
        if running_on_trio():
            raise ConfigError(
                f"{self._part} in Redis need asyncio, the only event loop that redis-py supports; under trio, use "
                f"{self._instead}"
            )

    def describe(self, error: BaseException) -> str:
        """Return the message of an error, without the password."""
        return redact(str(error).rstrip(".") or type(error).__name__, [self._password])

    @staticmethod
    def outcome_unknown(error: BaseException) -> bool:
        """Return whether the command may have been done or not."""
        return isinstance(error, RedisConnectionError | RedisTimeoutError | OSError)

    def _open(self) -> Redis:
        """Return a client, not yet connected."""
        retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES, (RedisConnectionError,))
        try:
            pool: ConnectionPool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                self._url, retry=retry, decode_responses=False, **self._more
            )
            pool.connection_class(**pool.connection_kwargs)  # checks the URL's query
        except (ValueError, TypeError):
            # Neither the URL nor an error that quotes parts of it is shown: it may have a password.
            raise ConfigError(
                f"{self._part}: the Redis `url` is not valid (not shown, since it may have a password); it must be "
                "redis://user:password@host:6379/0, rediss://... for TLS, or unix:///path; in a password, "
                "write @ / : ? # % as %40 %2F %3A %3F %23 %25"
            ) from None
        return Redis.from_pool(pool)
