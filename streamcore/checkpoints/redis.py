"""Save threads in Redis, without modules, for workers on many machines.

A thread is one string key, `<prefix><thread>`. Compare-and-set is one small script, which is atomic; a script that is
sent again after a lost response finds its own bytes stored. What survives a crash of Redis itself depends on its
settings `appendonly` and `appendfsync`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from streamcore.checkpoints.codec import FORMAT, conflict, decode, encode
from streamcore.checkpoints.protocol import Saved
from streamcore.errors import CheckpointError
from streamcore.net.redis_client import FAILURES, RedisDatabase

DEFAULT_PREFIX = "streamcore:thread:"
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
    """Save threads in Redis. Connections belong to the event loop and the process that use them, and end with the loop.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        ttl: minutes after its last save when a thread expires; None: never.
        prefix: what the keys begin with.
    """

    def __init__(self, url: str, *, ttl: float | None = None, prefix: str = DEFAULT_PREFIX) -> None:
        self._prefix = prefix
        self._milliseconds = "" if ttl is None else str(max(1, round(ttl * 60_000)))
        self._database = RedisDatabase(url, "checkpoints", "type: sqlite or type: memory")
        self._where = self._database.location

    async def load(self, thread: str) -> Saved | None:
        """Return the last checkpoint, None if the thread has none."""
        with self._explained(thread):
            stored = cast("bytes | None", await (await self._database.client()).get(self._key(thread)))
        return None if stored is None else decode(thread, stored, self._where)

    async def save(self, thread: str, data: Mapping[str, Any], version: int) -> int:
        """Store the data as version + 1 if the stored version is `version`, and restart its ttl."""
        stored = encode(thread, data, version + 1)
        with self._explained(thread):
            script = cast("Callable[..., Awaitable[int | bytes]]", (await self._database.client()).eval)
            answer = await script(_STORE, 1, self._key(thread), stored, str(version), self._milliseconds)
        if isinstance(answer, bytes):
            found = decode(thread, answer, self._where).version if answer else 0
            raise conflict(thread, self._where, version, found)
        return version + 1

    async def delete(self, thread: str) -> None:
        """Delete the thread."""
        with self._explained(thread):
            await (await self._database.client()).delete(self._key(thread))

    async def aclose(self) -> None:
        """Do nothing: connections are shared on the event loop and end with it, or with `aclose_providers()`."""

    def _key(self, thread: str) -> bytes:
        return (self._prefix + thread).encode("utf-8", "surrogatepass")

    @contextmanager
    def _explained(self, thread: str) -> Generator[None]:
        """Raise redis-py's errors as ours, without the password."""
        try:
            yield
        except FAILURES as error:
            todo = (
                "The operation may or may not have been done; when Redis is available, run the thread again, which "
                "continues from the last whole checkpoint"
                if self._database.outcome_unknown(error)
                else "Redis refused the operation, and nothing was changed"
            )
            raise CheckpointError(
                f"thread {thread!r} in {self._where}: {self._database.describe(error)}. {todo}"
            ) from error
