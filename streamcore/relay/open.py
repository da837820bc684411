"""Open the log that a URL names."""

from __future__ import annotations

from streamcore.errors import ConfigError
from streamcore.relay.log import RunLog
from streamcore.relay.memory import MAX_BYTES, MemoryLog

REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://")


def open_log(url: str | None = None, *, keep: float = 3600.0, name: str = "", max_bytes: int | None = None) -> RunLog:
    """Return the log for a URL: None or `memory:` keeps runs in this process, `redis://...` in Redis.

    Args:
        url: see above; `rediss://` and `unix://` are Redis, too. `redis+cluster://host1:6379,host2:6379` (TLS:
            `rediss+cluster://`) is a Redis Cluster, of which some nodes are named.
        keep: seconds for which a run that has ended can still be read.
        name: the service that the runs belong to. Services with different names never meet in one Redis; workers of
            one service, and services that share runs on purpose, use the same name.
        max_bytes: in memory, the most bytes of all runs together (512 MiB); in Redis, of one run (128 MiB). What a run
            has above that ends it with `AnswerTooLarge`.

    Raises:
        ConfigError: the URL names no log, it or `max_bytes` is not valid, or redis-py is not installed.
    """
    if url is None or url == "memory:":
        return MemoryLog(keep=keep, max_bytes=MAX_BYTES if max_bytes is None else max_bytes)
    if url.startswith(REDIS_SCHEMES):
        from streamcore.relay.redis import DEFAULT_PREFIX, RUN_BYTES, RedisLog

        prefix = f"{DEFAULT_PREFIX}{name}:" if name else DEFAULT_PREFIX
        return RedisLog(url, keep=keep, prefix=prefix, max_bytes=RUN_BYTES if max_bytes is None else max_bytes)
    raise ConfigError(
        "the URL of a relay's log must be memory:, redis://user:password@host:6379/0 (or rediss://, unix://), or "
        "redis+cluster://host1:6379,host2:6379"
    )
