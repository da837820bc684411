"""Keep threads in Redis, plain and without modules, for workers on many machines.

A thread is one string key, `<prefix><thread>`. Compare-and-set is one small script, so that no other worker comes
between, and a script that is sent again after a lost answer finds its own bytes stored. How much survives a crash of
Redis itself is for its own `appendonly` and `appendfsync` to say.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from streamcore.checkpoints.codec import FORMAT, conflict, decode, encode
from streamcore.checkpoints.protocol import Saved
from streamcore.clients import shared_client
from streamcore.errors import CheckpointError, ConfigError, scrub

try:
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as error:
    raise ConfigError("checkpoints in Redis need redis-py, which is not installed; run: pip install redis") from error

DEFAULT_PREFIX = "streamcore:thread:"
RETRIES = 3
"""How often a command is sent again after a broken connection, within about a second; after a timeout it is not."""

_STORE = f"""
local old = redis.call('GET', KEYS[1])
if old ~= ARGV[1] then
  local found = '0'
  if old then found = string.match(old, '^{FORMAT} (%d+) ') end
  if found ~= ARGV[2] then return old or '' end
end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) end
return 1
"""


class RedisCheckpointer:
    """Keep threads in Redis. Connections belong to the event loop and the process that use them, and end with the loop.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        ttl: minutes after its last save at which a thread expires; None: never.
        prefix: what the keys begin with.
    """

    def __init__(self, url: str, *, ttl: float | None = None, prefix: str = DEFAULT_PREFIX) -> None:
        self._url = url
        self._prefix = prefix
        self._milliseconds = "" if ttl is None else str(max(1, round(ttl * 60_000)))
        pool = self._open().connection_pool
        settings: Mapping[str, Any] = pool.connection_kwargs
        self._password: str | None = settings.get("password")
        place = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
        self._where = f"Redis at {place}, database {settings.get('db', 0)}"

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""
        with self._explained(thread):
            stored = cast("bytes | None", await (await self._client()).get(self._key(thread)))
        return None if stored is None else decode(thread, stored, self._where)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the thread stands at `version`, and begin its ttl anew."""
        stored = encode(thread, data, version + 1)
        with self._explained(thread):
            script = cast("Callable[..., Awaitable[int | bytes]]", (await self._client()).eval)
            answer = await script(_STORE, 1, self._key(thread), stored, str(version), self._milliseconds)
        if isinstance(answer, bytes):
            found = decode(thread, answer, self._where).version if answer else 0
            raise conflict(thread, self._where, version, found)
        return version + 1

    async def delete(self, thread: str) -> None:
        """Forget the thread."""
        with self._explained(thread):
            await (await self._client()).delete(self._key(thread))

    async def aclose(self) -> None:
        """Do nothing: connections are shared on the event loop and end with it, or with `aclose_providers()`."""

    def _key(self, thread: str) -> bytes:
        return (self._prefix + thread).encode("utf-8", "surrogatepass")

    async def _client(self) -> Redis:
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_task():
            raise ConfigError(
                "checkpoints in Redis need asyncio, since redis-py knows no other event loop; under trio take "
                "type: sqlite or type: memory"
            )

        def make() -> tuple[Redis, Callable[[], Awaitable[object]]]:
            client = self._open()
            return client, client.aclose

        return await shared_client(("redis", self._url), make)

    def _open(self) -> Redis:
        """Return a client, not yet connected."""
        retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES, (RedisConnectionError,))
        try:
            pool: ConnectionPool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                self._url, retry=retry, decode_responses=False
            )
            pool.connection_class(**pool.connection_kwargs)  # checks what the URL's query says
        except (ValueError, TypeError):
            # Neither the URL nor an error that quotes parts of it is shown: there may be a password in it.
            raise ConfigError(
                "checkpointer: the Redis `url` cannot be read (it is not shown, as it may hold a password); it is "
                "redis://user:password@host:6379/0, rediss://... for TLS, or unix:///path; in a password "
                "@ / : ? # % are written %40 %2F %3A %3F %23 %25"
            ) from None
        return Redis.from_pool(pool)

    @contextmanager
    def _explained(self, thread: str) -> Generator[None]:
        """Raise redis-py's errors as ours, without the password."""
        try:
            yield
        except (RedisError, OSError) as error:
            told = scrub(str(error).rstrip(".") or type(error).__name__, [self._password])
            gone = isinstance(error, RedisConnectionError | RedisTimeoutError | OSError)
            todo = (
                "It may or may not have done what was asked; once it is back, run the thread again, which goes on from "
                "the last whole checkpoint"
                if gone
                else "It refused, and changed nothing"
            )
            raise CheckpointError(f"thread {thread!r} in {self._where}: {told}. {todo}") from error
