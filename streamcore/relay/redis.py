"""Keep runs in Redis Streams, without Redis modules, so that any worker on any machine can read and end them.

A run is a hash (`<prefix>{<id>}:run`: epoch, lease, owner, last number, end) and a stream (`<prefix>{<id>}:items`) with
one entry per append, whose id is the number of its last item; both are in one slot of a Redis Cluster.
`<prefix>owner:<owner>` has the running runs of an owner, `<prefix>client:<client>` those of a client, and
`<prefix>thread:<thread>` the name of a thread's newest run. Scripts make every change (`redis_scripts.py`) and use
Redis' clock, so the clocks and pauses of workers do not matter. A worker's own readers get the runs that it produces
from its memory, after Redis has them; those of other workers are published to it (`redis_feeds.py`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from streamcore.errors import AnswerTooLarge, ConfigError, RelayError
from streamcore.net.clients import shared_client
from streamcore.net.redis_client import RedisDatabase
from streamcore.relay.entries import decode_items, encode_items
from streamcore.relay.feed import Feed, read_feed
from streamcore.relay.log import Adopted, Command, ReadResult, Renewal, Status
from streamcore.relay.memory import MemoryLog, busy, exists, too_many
from streamcore.relay.redis_calls import ScriptCalls, utf8
from streamcore.relay.redis_feeds import RunFeeds
from streamcore.sse import Item

DEFAULT_PREFIX = "streamcore:relay:"
NEAR = 1000
"""The fewest items of a run that its own worker keeps in memory, for readers that are up to date."""
NEAR_BYTES = 64 * 2**20
"""The maximum number of bytes that a worker keeps of all the runs that it produces."""
RUN_BYTES = 128 * 2**20
"""The default limit of one run."""
ENTRY_BYTES = 2**20
"""Items of one append that are larger than this become several entries of the stream."""
READ_BYTES = 2**20
"""A reader takes entries until they have this many bytes."""


@dataclass(slots=True)
class _Registered:
    """When what counts and names a run that this worker produces is to be renewed, and for which lease that was."""

    lease: float
    renew_at: float


class RedisLog:
    """Keep runs in Redis, until `keep` seconds after their end.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        keep: seconds for which a run that has ended can still be read.
        prefix: the prefix of every key.
        max_bytes: the maximum size of one run in bytes, besides its end; a larger run ends with `AnswerTooLarge`.

    Raises:
        ConfigError: the URL or `max_bytes` is not valid, or redis-py is not installed.
    """

    gathers = True

    def __init__(
        self, url: str, *, keep: float = 3600.0, prefix: str = DEFAULT_PREFIX, max_bytes: int = RUN_BYTES
    ) -> None:
        if max_bytes < 1:
            raise ConfigError(f"max_bytes is the size of one run in bytes, 1 or more, not {max_bytes!r}")
        self._max_bytes = max_bytes
        self._database = RedisDatabase(url, "runs", "the log in memory")
        self._calls = ScriptCalls(self._database)
        self._keep = _milliseconds(keep)
        self._prefix = _tagless(prefix)
        self._near = MemoryLog(keep=1.0, max_bytes=NEAR_BYTES)
        self._registered: dict[str, _Registered] = {}
        self._feeds: RunFeeds | None = None  # of the loop that read last

    async def start(
        self,
        run_id: str,
        owner: str,
        *,
        lease: float,
        limit: int | None = None,
        thread: str | None = None,
        client: str | None = None,
        hold: float = 0.0,
        trace: str = "",
    ) -> int:
        """Open a run and return its epoch."""
        self._near.drop(run_id, ended=True)
        epoch = await self._near.start(run_id, owner, lease=float("inf"), limit=None)
        kind, name = ("owner", owner) if client is None else ("client", client)
        counted = self._key(kind, name) if name or limit is not None else b""
        thread_key = b"" if thread is None else self._key("thread", thread)
        span = _milliseconds(lease)
        facts = (owner, span, self._keep, round(hold * 1000), trace, counted, thread_key)
        done = False
        try:
            answer: Any = await self._run(run_id, "start", epoch, *facts)
            if answer == b"exists":
                raise exists(run_id)
            refused: Exception | None = None
            if counted and not await self._count(run_id, counted, answer[0], limit):
                refused = too_many(limit or 0, kind)
            elif thread_key and not await self._claim(run_id, thread_key, span + round(hold * 1000)):
                refused = busy(thread or "")
            if refused is not None:
                with suppress(RelayError):  # then its lease expires
                    await self._run(run_id, "undo", epoch)
                await self._uncount(run_id, counted)
                raise refused
            done = True
        finally:
            if not done or hold:  # a run that is held has no producer yet
                self._near.drop(run_id)
        if not hold:
            self._registered[run_id] = _Registered(lease, time.monotonic() + lease / 4)
        return epoch

    async def _count(self, run_id: str, counted: bytes, until: int, limit: int | None) -> bool:
        """Count a run, until its lease expires, as one of its owner or client; return False if there are too many."""
        most = "" if limit is None else limit
        answer = await self._calls.index(run_id, counted, "count", run_id, until, self._keep, most)
        return bool(answer == b"ok")

    async def _claim(self, run_id: str, thread_key: bytes, span: int) -> bool:
        """Make a run the newest of its thread; return False if the one that is has not ended."""
        newest = b""
        while True:
            answer: Any = await self._calls.index(run_id, thread_key, "claim", run_id, self._keep + span, newest)
            if answer == b"ok":
                return True
            newest = answer[0]
            if newest:
                status = await self.status(newest.decode("utf-8", "surrogatepass"))
                if status is not None and status.state != "ended":
                    return False

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run."""
        found = (await self._calls.index(thread, self._key("thread", thread), "get", ""))[0]
        name = found.decode("utf-8", "surrogatepass")
        return name if name and await self.status(name) is not None else None

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those after number `seq`."""
        facts = (end or b"", _milliseconds(lease), self._keep, self._max_bytes)
        entries = _encoded(items)
        stored = False
        try:
            answer: Any = await self._run(run_id, "append", epoch, seq, len(items), *facts, *entries)
            stored = answer not in (b"gone", b"large")
        finally:
            if not stored:  # also if it failed: then only Redis knows what is stored
                self._near.drop(run_id)
        if answer == b"large":
            raise AnswerTooLarge(
                f"run {run_id!r} has more than {self._max_bytes:,} bytes, the limit of one run in Redis; ask for a "
                "shorter answer, or give open_log a higher max_bytes",
                limit=self._max_bytes,
            )
        if not stored or end is not None:
            self._registered.pop(run_id, None)
        if not stored:
            return False
        if end is not None:
            await self._uncount(run_id, answer[0])
        try:
            await self._near.append(run_id, epoch, seq, items, end, lease=lease)
        except AnswerTooLarge:  # its readers get it from Redis
            self._near.drop(run_id)
        if seq // NEAR != (seq + len(items)) // NEAR:
            await self._near.trim(run_id, epoch, seq - NEAR, ())
        return True

    async def renew(self, run_id: str, epoch: int, *, lease: float) -> Renewal | None:
        """Renew the lease."""
        answer: Any = b"gone"
        try:
            answer = await self._run(run_id, "renew", epoch, _milliseconds(lease), self._keep)
        finally:
            if answer == b"gone":
                self._near.drop(run_id)
        if answer == b"gone":
            self._registered.pop(run_id, None)
            return None
        await self._register_again(run_id, lease, *answer[2:])
        near = await self._near.renew(run_id, epoch, lease=lease)
        idle = answer[1] / 1000
        return Renewal(cast("Command", answer[0].decode()), idle if near is None else min(near.idle, idle))

    async def _register_again(
        self, run_id: str, lease: float, until: int, counted: bytes, thread: bytes, hold: int
    ) -> None:
        """Renew what counts and names a run, four times in each lease."""
        known = self._registered.get(run_id)
        if known is not None and lease >= known.lease and time.monotonic() < known.renew_at:
            return
        self._registered[run_id] = _Registered(lease, time.monotonic() + lease / 4)
        if counted:
            await self._count(run_id, counted, until, None)
        if thread:
            span = self._keep + _milliseconds(lease) + hold
            await self._calls.index(run_id, thread, "extend", run_id, span)

    async def _uncount(self, run_id: str, counted: bytes) -> None:
        """Count a run no longer, since it has ended; if that fails, its lease expires."""
        if counted:
            with suppress(RelayError):
                await self._calls.index(run_id, counted, "uncount", run_id)

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Drop the items up to number `seq`."""
        await self._run(run_id, "trim", epoch, seq, encode_items(snapshot))

    async def command(self, run_id: str, command: Command) -> None:
        """Send a command to the producer."""
        await self._run(run_id, "command", command)

    async def touch(self, run_id: str) -> None:
        """Record that the run has a reader."""
        await self._near.touch(run_id)
        await self._run(run_id, "touch", "")

    async def read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        """Return what follows number `after`; wait for it for about `seconds`."""
        near = await self._near.status(run_id)
        if near is not None and near.state != "lost" and after >= near.first - 1:  # else another worker may have it
            found = await self._near.read(run_id, after, seconds)
            if found is not None and found.snapshot is None:
                return found
        if not seconds:
            return await self._read(run_id, after)
        channel = self._run_key(run_id, "run")
        feeds = self._feeds
        if feeds is None or feeds.loop is not asyncio.get_running_loop():
            self._database.check_loop()
            feeds = self._feeds = await shared_client(("relay feeds", self), self._open_feeds)
        follow = partial(self._follow, feeds, run_id, channel)
        return await read_feed(feeds.get(channel), follow, partial(self._read, run_id, after), after, seconds)

    async def _follow(self, feeds: RunFeeds, run_id: str, channel: bytes) -> Feed:
        with self._calls.mapped_errors(run_id):
            return await feeds.follow(channel)

    async def _read(self, run_id: str, after: int) -> ReadResult | None:
        """Ask Redis for what follows a number."""
        answer: Any = await self._run(run_id, "read", "", after, READ_BYTES)
        if answer == b"gone":
            return None
        kind, what, *entries = answer
        if kind == b"snapshot":
            return ReadResult(what, [], snapshot=decode_items(entries[0]))
        items: list[Item] = []
        seq = after
        for number, data in zip(entries[::2], entries[1::2], strict=True):
            batch = decode_items(data)
            items += batch[max(0, seq - number + len(batch)) :]
            seq = number
        return ReadResult(seq, items, what if kind == b"end" else None)

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End the run if its lease has expired."""
        answer: Any = await self._run(run_id, "take", "", end, self._keep)
        if answer == b"gone":
            return False
        seq, ended, counted = answer
        await self._uncount(run_id, counted)
        feed = None if self._feeds is None else self._feeds.get(self._run_key(run_id, "run"))
        if feed is not None:
            feed.missed(seq, ended=bool(ended))
        return True

    async def adopt(self, run_id: str, *, lease: float) -> Adopted | None:
        """Give the run a new epoch if its lease has expired."""
        epoch = secrets.randbits(53)
        answer: Any = await self._run(run_id, "adopt", epoch, _milliseconds(lease), self._keep)
        if answer == b"gone":
            return None
        self._near.begin_after(run_id, epoch, answer, lease)
        return Adopted(epoch, answer)

    async def status(self, run_id: str) -> Status | None:
        """Return the state of the run."""
        answer = await self._run(run_id, "status", "")
        if answer == b"gone":
            return None
        owner, state, seq, cut, trace = answer
        return Status(owner.decode("utf-8", "surrogatepass"), state.decode(), seq, cut + 1, trace.decode())

    async def _run(self, run_id: str, *arguments: object) -> Any:
        keys = self._run_key(run_id, "run"), self._run_key(run_id, "items")
        return await self._calls.run(run_id, keys, *arguments)

    def _open_feeds(self) -> tuple[RunFeeds, Callable[[], Awaitable[object]]]:
        feeds = RunFeeds(self._database.node)
        return feeds, feeds.aclose

    def _run_key(self, run_id: str, kind: str) -> bytes:
        return utf8(f"{self._prefix}{{{_tagless(run_id)}}}:{kind}")

    def _key(self, kind: str, name: str) -> bytes:
        return utf8(f"{self._prefix}{kind}:{name}")


def _encoded(items: Sequence[Item]) -> list[int | bytes]:
    """Return the entries for some items, each as the number of its items and their bytes."""
    if not items:
        return []
    data = encode_items(items)
    if len(data) <= ENTRY_BYTES or len(items) == 1:
        return [len(items), data]
    middle = len(items) // 2
    return [*_encoded(items[:middle]), *_encoded(items[middle:])]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _tagless(text: str) -> str:
    """Return a text without the braces that tell a Redis Cluster which part of a key decides about its slot."""
    return text.replace("{", "%7B").replace("}", "%7D")
