"""Receive the items of runs as NATS stores them, over the one connection of a worker."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from streamcore.relay.feed import UNUSED_SECONDS, Feed
from streamcore.relay.nats_entries import decoded
from streamcore.relay.nats_store import FAILURES, NatsStore, Stored


class RunFeeds:
    """The runs of one event loop that have readers, as the server sends what is stored."""

    def __init__(self, store: NatsStore) -> None:
        self._store = store
        self._feeds: dict[str, tuple[Feed, Any]] = {}
        self._lock = asyncio.Lock()
        self._swept = 0.0

    def get(self, run_id: str) -> Feed | None:
        """Return the feed of a run, if it has one."""
        found = self._feeds.get(run_id)
        return None if found is None else found[0]

    async def follow(self, run_id: str) -> Feed:
        """Return the feed of a run, subscribed."""
        async with self._lock:
            await self._drop_unused()
            found = self._feeds.get(run_id)
            if found is not None and found[0].live:
                found[0].used = asyncio.get_running_loop().time()
                return found[0]
            connection = await self._store.connection()
            feed = Feed(lambda: feed.lose(None))

            def take(data: bytes) -> None:
                entry = decoded(Stored(0, 0.0, data))
                if entry.end:
                    feed.end()
                elif entry.items:
                    feed.take(entry.before, entry.seq, entry.items)

            if self._lose not in connection.lost:
                connection.lost.append(self._lose)
            self._feeds[run_id] = feed, await connection.subscribe(self._store.published(run_id), take)
            feed.confirm()
            return feed

    async def _drop_unused(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept < UNUSED_SECONDS:
            return
        self._swept = now
        for run_id, (feed, subscription) in [*self._feeds.items()]:
            if feed.is_unused or not feed.live:
                del self._feeds[run_id]
                feed.lose(None)
                with suppress(*FAILURES):  # then it has ended with the connection
                    await subscription.unsubscribe()

    def _lose(self) -> None:
        for feed, _ in self._feeds.values():
            feed.lose(None)

    async def aclose(self) -> None:
        """Wake the readers; the subscriptions end with the connection."""
        self._lose()
        self._feeds.clear()
