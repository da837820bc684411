"""Open the log that a URL names."""

from __future__ import annotations

from streamcore.errors import ConfigError
from streamcore.relay.log import RunLog
from streamcore.relay.memory import MAX_BYTES, MemoryLog

REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "redis+cluster://", "rediss+cluster://")


def is_nats(url: str) -> bool:
    """Return whether the URL is that of a NATS."""
    return url.startswith(("nats://", "tls://"))


def open_log(url: str | None = None, *, keep: float = 3600.0, name: str = "", max_bytes: int | None = None) -> RunLog:
    """Return the log for a URL: None or `memory:` keeps runs in this process, others in Redis or NATS.

    Args:
        url: `redis://host:6379/0`, `rediss://...` (TLS) or `unix://...` is a Redis;
            `redis+cluster://host1:6379,host2:6379` (TLS: `rediss+cluster://`) a Redis Cluster, of which some nodes are
            named; `nats://host:4222` (TLS: `tls://`) NATS JetStream, with the options `?replicas=3` and
            `&storage=memory`.
        keep: seconds for which a run that has ended can still be read.
        name: the service that the runs belong to. Services with different names never meet in one store; workers of
            one service, and services that share runs on purpose, use the same name.
        max_bytes: the maximum size in bytes: in memory of all runs together (512 MiB), in Redis and NATS of one run
            (128 MiB).
            What a run has above that ends it with `AnswerTooLarge`.

    Raises:
        ConfigError: the URL names no log, it or `max_bytes` is not valid, or redis-py or nats-py is not installed.
    """
    if url is None or url == "memory:":
        return MemoryLog(keep=keep, max_bytes=MAX_BYTES if max_bytes is None else max_bytes)
    if url.startswith(REDIS_SCHEMES):
        from streamcore.relay.redis import DEFAULT_PREFIX, RUN_BYTES, RedisLog

        prefix = f"{DEFAULT_PREFIX}{name}:" if name else DEFAULT_PREFIX
        return RedisLog(url, keep=keep, prefix=prefix, max_bytes=RUN_BYTES if max_bytes is None else max_bytes)
    if is_nats(url):
        from streamcore.relay.nats import RUN_BYTES as NATS_RUN_BYTES
        from streamcore.relay.nats import NatsLog

        return NatsLog(url, keep=keep, name=name, max_bytes=NATS_RUN_BYTES if max_bytes is None else max_bytes)
    raise ConfigError(
        "the URL of a relay's log must be memory:, redis://user:password@host:6379/0 (or rediss://, unix://), "
        "redis+cluster://host1:6379,host2:6379, or nats://host:4222"
    )
