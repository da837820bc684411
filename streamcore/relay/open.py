"""Open the log that a URL names."""

from __future__ import annotations

from streamcore.errors import ConfigError
from streamcore.relay.log import RunLog
from streamcore.relay.memory import MemoryLog


def open_log(url: str | None = None, *, keep: float = 3600.0) -> RunLog:
    """Return the log for a URL: None or `memory:` keeps runs in this process, `redis://...` in Redis.

    Args:
        url: as `streamcore serve --relay` takes it; `rediss://` and `unix://` mean Redis too.
        keep: seconds for which a run that has ended can still be read.

    Raises:
        ConfigError: there is no such kind of log, the URL cannot be read, or redis-py is missing.
    """
    if url is None or url == "memory:":
        return MemoryLog(keep=keep)
    if url.startswith(("redis://", "rediss://", "unix://")):
        from streamcore.relay.redis import RedisLog

        return RedisLog(url, keep=keep)
    raise ConfigError("a relay's log is memory: or redis://user:password@host:6379/0 (rediss://, unix://)")
