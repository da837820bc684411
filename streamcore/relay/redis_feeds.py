"""Receive the items of other workers' runs as they are published, over one connection to each node of Redis.

The script that stores items also publishes them, with their numbers, on the run's channel. A worker subscribes to the
channels of the runs that have readers here and wait; a message wakes them. Messages may be lost, since Redis drops the
connection of a slow subscriber. That does no harm: numbers show a gap, and readers then ask Redis for what they lack.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from streamcore.net.redis_client import FAILURES
from streamcore.relay import feed as feeds
from streamcore.relay.feed import Feed

_OF_PROTOCOL_3 = ("maint", "orig_", "oss_")
"""How the settings of a connection begin that exist with protocol 3 only."""


class _NodeConnection:
    """The connection to one node, and the subscriptions on it."""

    def __init__(self, client: Redis, ended: Callable[[_NodeConnection, Exception | None], None]) -> None:
        pool: Any = client.connection_pool
        settings = {
            name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OF_PROTOCOL_3)
        }
        settings |= {"protocol": 2, "socket_timeout": None, "health_check_interval": 0}
        self.client = client
        self._connection: Any = pool.connection_class(**settings)
        self._ended = ended
        self._commands: list[tuple[str, bytes]] = []
        self._unconfirmed: deque[bytes] = deque()
        self._pending = asyncio.Event()
        self.feeds: dict[bytes, Feed] = {}
        self.task = asyncio.create_task(self._run())

    def subscribe(self, channel: bytes) -> Feed:
        """Subscribe to a channel soon."""
        feed = self.feeds[channel] = Feed(self.close)
        self._commands.append(("SSUBSCRIBE", channel))
        self._pending.set()
        return feed

    def unsubscribe(self, channel: bytes) -> None:
        """End a subscription soon."""
        self.feeds.pop(channel).lose(None)
        self._commands.append(("SUNSUBSCRIBE", channel))
        self._pending.set()

    def close(self) -> None:
        """End the connection."""
        self.task.cancel()

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            await self._connection.connect()
            writing = asyncio.create_task(self._write())
            try:
                await self._read()
            finally:
                writing.cancel()
                await asyncio.wait([writing])
                if not writing.cancelled():
                    writing.exception()  # the reading task failed of the same
        except FAILURES as failure:
            error = failure
        finally:
            self._ended(self, error)
            for feed in self.feeds.values():
                feed.lose(error)
            await self._connection.disconnect(nowait=True)

    async def _write(self) -> None:
        while True:
            await self._pending.wait()
            self._pending.clear()
            commands, self._commands = self._commands, []
            self._unconfirmed += [channel for name, channel in commands if name == "SSUBSCRIBE"]
            await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    async def _read(self) -> None:
        while True:
            try:
                kind, channel, data = await self._connection.read_response(disconnect_on_error=False)
            except ResponseError as error:  # the oldest subscription was refused
                if not self._unconfirmed:
                    raise
                feed = self.feeds.pop(self._unconfirmed.popleft(), None)
                if feed is not None:
                    feed.lose(error)
                continue
            feed = self.feeds.get(channel)
            if kind == b"ssubscribe":
                self._unconfirmed.popleft()
                if feed is not None and channel not in self._unconfirmed:
                    feed.confirm()
            elif feed is None:
                continue
            elif kind == b"smessage":
                before, seq, items = data.split(b" ", 2)
                if items == b"end":
                    feed.end()
                else:
                    feed.take(int(before), int(seq), items)
            elif kind == b"sunsubscribe" and feed.live:  # its slot is on another node now
                del self.feeds[channel]
                feed.lose(None)


class RunFeeds:
    """The feeds of one event loop: the runs of other workers that have readers here.

    Args:
        node: returns a client of the node that has a key.
    """

    def __init__(self, node: Callable[[bytes], Awaitable[Redis]]) -> None:
        self._node = node
        self._connections: dict[int, _NodeConnection] = {}
        self._feeds: dict[bytes, Feed] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()

    def get(self, channel: bytes) -> Feed | None:
        """Return the feed of a run, if it has one."""
        return self._feeds.get(channel)

    async def follow(self, channel: bytes) -> Feed:
        """Return the feed of a run, subscribed.

        Raises:
            RedisError, OSError: Redis cannot be reached, or refuses the subscription.
        """
        feed = await self._subscribed(channel)
        if feed.error is not None and not isinstance(feed.error, ResponseError):
            feed = await self._subscribed(channel)  # the connection was lost just now; on a new one
        if feed.error is not None:
            raise feed.error
        feed.used = asyncio.get_running_loop().time()
        return feed

    async def _subscribed(self, channel: bytes) -> Feed:
        """Return the feed of a run when its subscription has begun, or has failed."""
        feed = self._feeds.get(channel)
        if feed is None or (feed.confirmed.done() and not feed.live):
            client = await self._node(channel)
            feed = self._feeds.get(channel)
            if feed is None or (feed.confirmed.done() and not feed.live):
                connection = self._connections.get(id(client))
                if connection is None:
                    connection = self._connections[id(client)] = _NodeConnection(client, self._forget)
                feed = self._feeds[channel] = connection.subscribe(channel)
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(feeds.UNUSED_SECONDS, self._drop_unused)
        await asyncio.shield(feed.confirmed)
        return feed

    def _unsubscribe(self, channel: bytes) -> None:
        for connection in self._connections.values():
            if channel in connection.feeds:
                connection.unsubscribe(channel)

    async def aclose(self) -> None:
        """Close the connections."""
        self.loop = None
        if self._timer is not None:
            self._timer.cancel()
        tasks = [connection.task for connection in self._connections.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, connection: _NodeConnection, error: Exception | None) -> None:
        for key, known in [*self._connections.items()]:
            if known is connection:
                del self._connections[key]

    def _drop_unused(self) -> None:
        for channel, feed in [*self._feeds.items()]:
            if not feed.live and feed.confirmed.done():
                del self._feeds[channel]
            elif feed.live and feed.is_unused:
                del self._feeds[channel]
                self._unsubscribe(channel)
        self._timer = None
        if self._feeds:
            self._timer = asyncio.get_running_loop().call_later(feeds.UNUSED_SECONDS, self._drop_unused)
