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
from streamcore.relay.entries import decode_items
from streamcore.sse import Item

RECENT_BYTES = 32 * 2**10
"""How many bytes of a run's newest items are kept, for readers between two reads."""
UNUSED_SECONDS = 5.0
"""After how many seconds without a reader the subscription of a run ends."""
MISSED = 3
"""After how many items that came by no message, one after the other, the connection is opened anew."""

_OF_PROTOCOL_3 = ("maint", "orig_", "oss_")
"""How the settings of a connection begin that exist with protocol 3 only."""


class Feed:
    """The newest items of one run, as they were published since its subscription."""

    __slots__ = (
        "_ended",
        "_missed",
        "_recent",
        "_size",
        "_waiting",
        "confirmed",
        "error",
        "first",
        "link",
        "live",
        "seq",
        "used",
    )

    def __init__(self, link: _Link) -> None:
        self.link = link
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.live = False
        """Whether Redis has confirmed the subscription, which has not ended since."""
        self.error: Exception | None = None
        self.first: int | None = None
        """The number before the oldest item that is kept; None before anything is known."""
        self.seq = 0
        """The number of the newest item."""
        self.used = asyncio.get_running_loop().time()
        self._ended = False  # then readers ask Redis, which has the end
        self._missed = 0
        self._recent: deque[tuple[int, list[Item], int]] = deque()  # number before, items, size
        self._size = 0
        self._waiting: list[asyncio.Future[None]] = []

    def covers(self, after: int) -> bool:
        """Return whether this feed has, or will get, all items after a number."""
        return self.live and not self._ended and self.first is not None and self.first <= after

    def begin(self, after: int) -> None:
        """Take note that Redis has nothing after this number, or that a message with it is about to come."""
        if self.first is None or after > self.seq:
            self._restart(after)

    def missed(self, seq: int, *, ended: bool) -> None:
        """Take note of the number of the run's last item; if that came by no message, readers ask Redis for it."""
        self._ended = self._ended or ended
        if not self.live or self.first is None or seq <= self.seq:
            self._missed = 0
            return
        self._restart(seq)
        self._missed += 1
        if self._missed >= MISSED:
            self.link.close()

    def take(self, message: bytes) -> None:
        """Take a message: the number before its items, that of the last one, and the items (none if they are large)."""
        before_, seq_, data = message.split(b" ", 2)
        before, seq = int(before_), int(seq_)
        if data == b"end":
            self._ended = True
            self.wake()
            return
        if self.first is None:
            self._restart(before)
        if seq <= self.seq:
            return
        self._missed = 0
        if not data:
            self._restart(seq)
        else:
            if before != self.seq:
                self._restart(before)
            self._recent.append((before, decode_items(data), len(data)))
            self.seq = seq
            self._size += len(data)
            while self._size > RECENT_BYTES and len(self._recent) > 1:
                self._size -= self._recent.popleft()[2]
                self.first = self._recent[0][0]
        self.wake()

    def after(self, number: int) -> list[Item]:
        """Return the items after a number."""
        last = self._recent[-1] if self._recent else None
        if last is not None and last[0] == number:
            return [*last[1]]
        return [item for before, items, _ in self._recent for item in items[max(0, number - before) :]]

    async def wait(self, after: int, seconds: float) -> list[Item]:
        """Return the items after a number; [] if none came in time, or Redis must be asked."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while self.covers(after):
            if self.seq > after:
                return self.after(after)
            if loop.time() >= ends:
                break
            future: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(ends, _wake, future)
            self._waiting.append(future)
            try:
                await future
            finally:
                timer.cancel()
                if future in self._waiting:
                    self._waiting.remove(future)
                self.used = loop.time()
        return []

    def wake(self) -> None:
        """Wake the readers that wait."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            _wake(future)

    def lose(self, error: Exception | None) -> None:
        """End the subscription; readers ask Redis."""
        self.live, self.error = False, error
        _wake(self.confirmed)
        self.wake()

    @property
    def is_unused(self) -> bool:
        """Whether it has had no reader for some time."""
        return not self._waiting and asyncio.get_running_loop().time() - self.used > UNUSED_SECONDS

    def _restart(self, number: int) -> None:
        self._recent.clear()
        self._size = 0
        self.first = self.seq = number


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Link:
    """The connection to one node, and the subscriptions on it."""

    def __init__(self, client: Redis, ended: Callable[[_Link, Exception | None], None]) -> None:
        pool: Any = client.connection_pool
        settings = {
            name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OF_PROTOCOL_3)
        }
        settings |= {"protocol": 2, "socket_timeout": None, "health_check_interval": 0}
        self.client = client
        self._connection: Any = pool.connection_class(**settings)
        self._ended = ended
        self._commands: list[tuple[str, bytes]] = []
        self._asked: deque[bytes] = deque()
        self._news = asyncio.Event()
        self.feeds: dict[bytes, Feed] = {}
        self.task = asyncio.create_task(self._run())

    def subscribe(self, channel: bytes) -> Feed:
        """Subscribe to a channel soon."""
        feed = self.feeds[channel] = Feed(self)
        self._commands.append(("SSUBSCRIBE", channel))
        self._news.set()
        return feed

    def unsubscribe(self, channel: bytes) -> None:
        """End a subscription soon."""
        self.feeds.pop(channel).lose(None)
        self._commands.append(("SUNSUBSCRIBE", channel))
        self._news.set()

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
            await self._news.wait()
            self._news.clear()
            commands, self._commands = self._commands, []
            self._asked += [channel for name, channel in commands if name == "SSUBSCRIBE"]
            await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    async def _read(self) -> None:
        while True:
            try:
                kind, channel, data = await self._connection.read_response(disconnect_on_error=False)
            except ResponseError as error:  # the oldest subscription was refused
                if not self._asked:
                    raise
                feed = self.feeds.pop(self._asked.popleft(), None)
                if feed is not None:
                    feed.lose(error)
                continue
            feed = self.feeds.get(channel)
            if kind == b"ssubscribe":
                self._asked.popleft()
                if feed is not None and channel not in self._asked:
                    feed.live = True
                    _wake(feed.confirmed)
            elif feed is None:
                continue
            elif kind == b"smessage":
                feed.take(data)
            elif kind == b"sunsubscribe" and feed.live:  # its slot is on another node now
                del self.feeds[channel]
                feed.lose(None)


class RunNews:
    """The subscriptions of one event loop.

    Args:
        node: returns a client of the node that has a key.
    """

    def __init__(self, node: Callable[[bytes], Awaitable[Redis]]) -> None:
        self._node = node
        self._links: dict[int, _Link] = {}
        self._feeds: dict[bytes, Feed] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()

    def get(self, channel: bytes) -> Feed | None:
        """Return the feed of a run, if it has one."""
        return self._feeds.get(channel)

    async def follow(self, channel: bytes) -> Feed:
        """Return the feed of a run, subscribed.

        Raises:
            RedisError, OSError: Redis cannot be reached, or refuses the subscription.
        """
        feed = self._feeds.get(channel)
        if feed is None or (feed.confirmed.done() and not feed.live):
            client = await self._node(channel)
            feed = self._feeds.get(channel)
            if feed is None or (feed.confirmed.done() and not feed.live):
                link = self._links.get(id(client))
                if link is None:
                    link = self._links[id(client)] = _Link(client, self._forget)
                feed = self._feeds[channel] = link.subscribe(channel)
                if self._sweep is None:
                    self._sweep = asyncio.get_running_loop().call_later(UNUSED_SECONDS, self._drop_unused)
        await asyncio.shield(feed.confirmed)
        if feed.error is not None:
            raise feed.error
        feed.used = asyncio.get_running_loop().time()
        return feed

    async def aclose(self) -> None:
        """Close the connections."""
        self.loop = None
        if self._sweep is not None:
            self._sweep.cancel()
        tasks = [link.task for link in self._links.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _forget(self, link: _Link, error: Exception | None) -> None:
        for key, known in [*self._links.items()]:
            if known is link:
                del self._links[key]

    def _drop_unused(self) -> None:
        for channel, feed in [*self._feeds.items()]:
            if not feed.live and feed.confirmed.done():
                del self._feeds[channel]
            elif feed.live and feed.is_unused:
                del self._feeds[channel]
                feed.link.unsubscribe(channel)
        self._sweep = None
        if self._feeds:
            self._sweep = asyncio.get_running_loop().call_later(UNUSED_SECONDS, self._drop_unused)
