"""Connect to a Redis or a Redis Cluster: read the URL, share connections, describe errors without the password."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from streamcore.base.redact import redact
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, install_command
from streamcore.net.clients import shared_client

try:
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.cluster import ClusterNode, RedisCluster
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisClusterException, RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as error:
    raise ConfigError(
        f"Redis needs the package 'redis', which is not installed; run: {install_command('redis')}"
    ) from error

RETRIES = 3
"""How often a command is repeated after a broken connection, within about a second; not after a timeout."""

FAILURES = (RedisError, RedisClusterException, OSError)
"""The errors that redis-py raises."""

REFRESH_SECONDS = 0.5
"""How often the nodes of a cluster are asked at most which slots they have."""

_HINT = (
    "it must be redis://user:password@host:6379/0, rediss://... for TLS, unix:///path, or "
    "redis+cluster://user:password@host1:6379,host2:6379 (rediss+cluster:// for TLS) for a Redis Cluster; in a "
    "password, write @ / : ? # % as %40 %2F %3A %3F %23 %25"
)


class RedisDatabase:
    """One database of a Redis, or a Redis Cluster, for one part of streamcore.

    Connections belong to the event loop and the process that use them, and are closed with the loop.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`; for a cluster
            `redis+cluster://[user:password@]host:port[,host:port...]` or `rediss+cluster://...`; it names some nodes.
        part: what the URL is for, in error messages.
        instead: what to use under trio, in error messages.

    Raises:
        ConfigError: the URL cannot be read.
    """

    def __init__(self, url: str, part: str, instead: str) -> None:
        self._url = url
        self._part = part
        self._instead = instead
        self.is_cluster = url.partition("://")[0].endswith("+cluster")
        """Whether the URL is that of a Redis Cluster."""
        self._refreshed = 0.0
        self._lock: tuple[object, asyncio.Lock] | None = None
        all_settings = [self._pool(one).connection_kwargs for one in self._first_urls()]
        settings: Mapping[str, Any] = all_settings[0]
        self._password: str | None = settings.get("password")
        if self.is_cluster:
            if settings.get("db"):
                raise self._not_valid()
            self._nodes = [(one.get("host", "localhost"), one.get("port", 6379)) for one in all_settings]
            self.location = f"Redis Cluster at {', '.join(f'{host}:{port}' for host, port in self._nodes)}"
        else:
            address = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
            self.location = f"Redis at {address}, database {settings.get('db', 0)}"

    async def client(self) -> Redis:
        """Return the client of the running loop; that of a cluster sends each command to the node of its keys.

        Raises:
            ConfigError: the loop is trio's.
        """
        self.check_loop()
        if self.is_cluster:
            return cast("Redis", await self._cluster())  # it has the same commands
        return await shared_client(("redis", self._part, self._url), lambda: self._opened(self._url))

    async def node(self, key: bytes) -> Redis:
        """Return a client of the one node that has a key; without a cluster, of the one Redis.

        Raises:
            ConfigError: the loop is trio's.
            RedisClusterException, RedisError: the cluster cannot be reached, or no node has the key.
        """
        if not self.is_cluster:
            return await self.client()
        self.check_loop()
        cluster = await self._cluster()
        try:  # also while `refresh` asks: a node that is lost must not delay the keys of others
            found = cluster.get_node_from_key(cast("str", key))
        except RedisClusterException:
            await cluster.initialize()
            found = cluster.get_node_from_key(cast("str", key))
        if found is None:  # pragma: no cover  only for replicas
            raise RedisClusterException("no node of the cluster has this key")

        url = self._node_url(found.host, found.port)
        return await shared_client(("redis node", self._part, self._url, url), lambda: self._opened(url))

    async def refresh(self) -> None:
        """Ask a cluster again which node has which keys, unless that was done just now.

        Raises:
            RedisClusterException, RedisError: the cluster cannot be reached.
        """
        if not self.is_cluster:
            return
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = loop, asyncio.Lock()
        async with self._lock[1]:
            if loop.time() - self._refreshed > REFRESH_SECONDS:
                cluster = await self._cluster()
                await cluster.aclose()
                await cluster.initialize()
                self._refreshed = loop.time()

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

    async def _cluster(self) -> RedisCluster:
        def make() -> tuple[RedisCluster, Callable[[], Awaitable[object]]]:
            nodes = [ClusterNode(host, port) for host, port in self._nodes]
            cluster = RedisCluster.from_url(  # a node that is lost must not close the others
                self._node_url(*self._nodes[0]), startup_nodes=nodes, require_full_coverage=False, retry=_retry()
            )
            return cluster, cluster.aclose

        return await shared_client(("redis cluster", self._part, self._url), make)

    def _opened(self, url: str) -> tuple[Redis, Callable[[], Awaitable[object]]]:
        client = Redis.from_pool(self._pool(url))
        return client, client.aclose

    def _first_urls(self) -> list[str]:
        """Return a URL for each node that the URL names."""
        if not self.is_cluster:
            return [self._url]
        try:
            hosts = urlsplit(self._url).netloc.rpartition("@")[2]
        except ValueError:
            raise self._not_valid() from None
        return [self._address_url(host) for host in hosts.split(",")]

    def _node_url(self, host: str, port: str | int) -> str:
        return self._address_url(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _address_url(self, address: str) -> str:
        """Return the URL of one node of a cluster, with the password and the options of the cluster's URL."""
        parts = urlsplit(self._url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit((parts.scheme.removesuffix("+cluster"), f"{user}{at}{address}", parts.path, parts.query, ""))

    def _pool(self, url: str) -> ConnectionPool:
        """Return a pool of connections for a URL, not yet connected."""
        try:
            pool: ConnectionPool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
                url, retry=_retry(), decode_responses=False
            )
            pool.connection_class(**pool.connection_kwargs)  # checks the URL's query
        except (ValueError, TypeError):
            raise self._not_valid() from None
        return pool

    def _not_valid(self) -> ConfigError:
        # Neither the URL nor an error that quotes parts of it is shown: it may have a password.
        return ConfigError(
            f"{self._part}: the Redis `url` is not valid (not shown, since it may have a password); {_HINT}"
        )


def _retry() -> Retry:
    return Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), RETRIES, (RedisConnectionError,))
