"""Keep runs in NATS JetStream, so that any worker on any machine can read and end them.

A run is a subject of a stream. Each message has the run's epoch, the numbers before and after its items, the items and
the end. A message is stored only if it follows the one that its writer knows as the last
(`Nats-Expected-Last-Subject-Sequence`): a worker that adopts or ends a run adds a message, and so the worker that was
lost can no longer write. Beside it are subjects of which only the last message is kept: the owner, the sign of life,
the command, the last time of a reader, the snapshot. Times are the server's.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import cast

from streamcore.errors import AnswerTooLarge, ConfigError, RelayError
from streamcore.net.clients import shared_client
from streamcore.relay.entries import decode_items, encode_items
from streamcore.relay.feed import read_feed
from streamcore.relay.log import Adopted, Command, ReadResult, Renewal, RunState, Status
from streamcore.relay.memory import busy, exists, too_many
from streamcore.relay.nats_entries import HEAD, Entry, Facts, decoded, dumps, pieces_of, small_end
from streamcore.relay.nats_feeds import RunFeeds
from streamcore.relay.nats_index import RunIndex
from streamcore.relay.nats_store import NatsStore, Refused, Stored
from streamcore.relay.packed import compress, decompress
from streamcore.sse import Item

RUN_BYTES = 128 * 2**20
"""The default limit of one run."""
MOST_SECONDS = 24 * 3600.0
"""How long a run may take; NATS deletes what is older than that and the time for which runs are kept."""
START_SECONDS = 10.0
"""Seconds after which a start that its worker has not completed is discarded."""
KNOWN_POSITIONS = 10_000
"""How many positions of readers in the stream are remembered; others are searched from the run's first message."""


class NatsLog:
    """Keep runs in NATS JetStream (server 2.11 or newer), until `keep` seconds after their end.

    Args:
        url: `nats://[user:password@]host:port[,host:port...]`, `tls://...`; options `?replicas=3`, `&storage=memory`.
        keep: seconds for which a run that has ended can still be read.
        name: the service.
        max_bytes: the maximum size of one run in bytes, besides its end; a larger run ends with `AnswerTooLarge`.

    Raises:
        ConfigError: the URL or `max_bytes` is not valid, or nats-py is not installed.
    """

    gathers = True

    def __init__(self, url: str, *, keep: float = 3600.0, name: str = "", max_bytes: int = RUN_BYTES) -> None:
        if max_bytes < 1:
            raise ConfigError(f"max_bytes is the size of one run in bytes, 1 or more, not {max_bytes!r}")
        self._store = NatsStore(url, name, keep + MOST_SECONDS)
        self._index = RunIndex(self._store, self._is_running)
        self._keep = keep
        self._max_bytes = max_bytes
        self._last: dict[str, Entry] = {}  # the last message of the runs that this worker writes
        self._bytes: dict[str, int] = {}
        self._counted_until: dict[str, float] = {}
        self._positions: OrderedDict[tuple[str, int], int] = OrderedDict()

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
        with self._store.mapped_errors(run_id):
            if await self._current(run_id) is not None:
                raise exists(run_id)
            kind, name = ("owner", owner) if client is None else ("client", client)
            counted = self._store.key(kind, name) if name or limit is not None else ""
            facts = {"owner": owner, "trace": trace, "hold": hold, "counted": counted}
            try:
                await self._begin(run_id, dumps(facts))  # first: nobody may see a run whose owner is not known
                first = await self._publish(run_id, Entry(secrets.randbits(53) + 1, 0, 0, lease), 0)
            except Refused:
                raise exists(run_id) from None
            refused: Exception | None = None
            if counted and not await self._index.count(counted, run_id, await self._started(run_id) + lease, limit):
                refused = too_many(limit or 0, kind)
            elif thread is not None and not await self._index.claim(thread, run_id):
                refused = busy(thread)
            if refused is not None:
                await self._delete(run_id)
                if counted:
                    await self._index.count(counted, run_id, 0.0, None)
                raise refused
        if not hold:
            self._last[run_id] = first
            self._bytes[run_id] = 0
        return first.epoch

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run."""
        with self._store.mapped_errors(thread):
            name = await self._index.newest(thread)
            return None if name is None or await self._current(name) is None else name

    async def _begin(self, run_id: str, facts: bytes) -> None:
        """Store what is known of a run that starts; what a start that failed has left is replaced."""
        subject = self._store.run_key("facts", run_id)
        found = await self._store.last(self._store.state, subject)
        if found is not None and found.time + START_SECONDS > await self._store.now():
            raise Refused
        await self._store.purge(self._store.state, self._store.run_key("*", run_id))
        await self._store.publish(subject, facts, 0)
        await self._store.publish(self._store.run_key("seen", run_id), b"")

    async def _started(self, run_id: str) -> float:
        """Return when the server stored the last message of a run."""
        last = await self._current(run_id)
        return 0.0 if last is None else last.time

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those after number `seq`."""
        with self._store.mapped_errors(run_id):
            most = await self._store.max_payload() - HEAD.size
            pieces = pieces_of(items, most, run_id) or [(0, b"")]
            ending = b"" if end is None else small_end(end, most)
            if ending and len(pieces[-1][1]) + len(ending) > most:
                pieces.append((0, b""))
            size = self._bytes.get(run_id, 0) + sum(len(data) for _, data in pieces)
            if size > self._max_bytes and end is None:
                raise AnswerTooLarge(
                    f"run {run_id!r} has more than {self._max_bytes:,} bytes, the limit of one run in NATS; ask for a "
                    "shorter answer, or give open_log a higher max_bytes",
                    limit=self._max_bytes,
                )
            for _ in range(3):  # what is known as the last message may be outdated, but not twice
                try:
                    stored = await self._append(run_id, epoch, seq, pieces, ending, lease)
                except Refused:
                    self._last.pop(run_id, None)
                    continue
                if stored:
                    self._bytes[run_id] = size
                if ending:
                    await self._over(run_id)
                return stored
        return False

    async def _append(
        self, run_id: str, epoch: int, seq: int, pieces: Sequence[tuple[int, bytes]], ending: bytes, lease: float
    ) -> bool:
        """Store those pieces that are not stored yet; return False if they cannot follow the last message.

        Raises:
            Refused: another message is the last one of the run.
        """
        last = self._last.get(run_id)
        if last is None or last.epoch != epoch or last.seq != seq:
            last = await self._current(run_id)
        if last is None or last.epoch != epoch:
            return False
        total = seq + sum(count for count, _ in pieces)
        if last.end:
            return bool(ending) and last.seq == total + 1
        before = seq
        stored = False
        for number, (count, data) in enumerate(pieces):
            ends = bool(ending) and number == len(pieces) - 1
            if last.seq == before and (count or ends):
                entry = Entry(epoch, before, before + count + ends, lease, data, ending if ends else b"")
                last = self._last[run_id] = await self._publish(run_id, entry, last.number)
                stored = True
            before += count
            stored = stored or last.seq == before
        return stored

    async def renew(self, run_id: str, epoch: int, *, lease: float) -> Renewal | None:
        """Renew the lease."""
        with self._store.mapped_errors(run_id):
            last, facts = await asyncio.gather(self._current(run_id), self._facts(run_id))
            if last is None or last.epoch != epoch or last.end:
                self._last.pop(run_id, None)
                return None
            await self._store.publish(self._store.run_key("alive", run_id), dumps([epoch, lease]))
            command, seen, alive = await asyncio.gather(
                *(self._value(kind, run_id) for kind in ("command", "seen", "alive"))
            )
            now = last.time if alive is None else alive.time
            until = self._counted_until.get(run_id, math.inf)
            if facts.counted and not now + lease / 2 < until <= now + lease:
                self._counted_until[run_id] = now + lease
                await self._index.count(facts.counted, run_id, now + lease, None)
            idle = 0.0 if seen is None else max(0.0, now - seen.time)
            return Renewal(cast("Command", command.data.decode() if command else ""), idle)

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Drop the items up to number `seq`."""
        with self._store.mapped_errors(run_id):
            last = await self._current(run_id)
            if last is None or last.epoch != epoch or last.end:
                return
            data = compress(encode_items(snapshot))
            if len(data) > await self._store.max_payload():
                raise RelayError(f"run {run_id!r}: its snapshot is larger than a message of NATS may be")
            facts = await self._facts(run_id)
            await self._store.publish(self._store.run_key("snapshot", run_id), seq.to_bytes(8, "big") + data)
            await self._store.publish(self._store.run_key("facts", run_id), dumps({**asdict(facts), "cut": seq}))
            number = 0
            while page := await self._page(run_id, number):
                for entry in page:
                    number = entry.number
                    if entry.seq > seq:
                        await self._store.purge(self._store.runs, self._store.run(run_id), number)
                        self._bytes[run_id] = len(data)
                        return

    async def command(self, run_id: str, command: Command) -> None:
        """Send a command to the producer."""
        with self._store.mapped_errors(run_id):
            last = await self._current(run_id)
            if last is not None and not last.end:
                await self._store.publish(self._store.run_key("command", run_id), command.encode())

    async def touch(self, run_id: str) -> None:
        """Record that the run has a reader."""
        with self._store.mapped_errors(run_id):
            await self._store.publish(self._store.run_key("seen", run_id), b"")

    async def read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        """Return what follows number `after`; wait for it for about `seconds`."""
        with self._store.mapped_errors(run_id):
            if not seconds:
                return await self._read(run_id, after)
            feeds = await shared_client(("nats feeds", self), self._open_feeds)
            follow, ask = partial(feeds.follow, run_id), partial(self._read, run_id, after)
            return await read_feed(feeds.get(run_id), follow, ask, after, seconds)

    async def _read(self, run_id: str, after: int) -> ReadResult | None:
        """Ask NATS for what follows a number."""
        last = await self._current(run_id)
        if last is None:
            return None
        if last.seq <= after and not last.end:
            return ReadResult(after, [])
        items: list[Item] = []
        seq = after
        for entry in await self._page(run_id, self._positions.get((run_id, after), 0), after):
            if entry.before > seq:
                return await self._snapshot(run_id)
            batch = decode_items(entry.items) if entry.items else []
            items += batch[max(0, seq - entry.before) :]
            seq = entry.before + len(batch)
            if entry.end:
                return ReadResult(max(seq, after), items, decompress(entry.end))
            self._remember(run_id, seq, entry.number)
        if not items and last.end:  # the reader has more than the log
            return ReadResult(after, [], decompress(last.end))
        return ReadResult(seq, items)

    async def _snapshot(self, run_id: str) -> ReadResult | None:
        found = await self._value("snapshot", run_id)
        if found is None:
            return None
        cut = int.from_bytes(found.data[:8], "big")
        return ReadResult(cut, [], snapshot=decode_items(decompress(found.data[8:])))

    async def _page(self, run_id: str, number: int, after: int = -1) -> list[Entry]:
        """Return messages after one, those that have something after the number of an item."""
        while stored := await self._store.after(run_id, number):
            entries = [decoded(one) for one in stored]
            found = [one for one in entries if one.seq > after or one.end]
            if found:
                return found
            number = stored[-1].number
        return []

    def _remember(self, run_id: str, seq: int, number: int) -> None:
        self._positions[run_id, seq] = number
        self._positions.move_to_end((run_id, seq))
        while len(self._positions) > KNOWN_POSITIONS:
            self._positions.popitem(last=False)

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End the run if its lease has expired."""
        with self._store.mapped_errors(run_id):
            last, facts = await asyncio.gather(self._current(run_id), self._facts(run_id))
            if last is None:
                return False
            if not last.end and await self._expires(run_id, last) + facts.hold < await self._store.now():
                ending = small_end(end, await self._store.max_payload() - HEAD.size)
                with suppress(Refused):  # another worker did, or the producer is alive
                    await self._publish(run_id, Entry(0, last.seq, last.seq + 1, 0.0, b"", ending), last.number)
                    await self._over(run_id, facts)
            elif last.end:
                feeds = await shared_client(("nats feeds", self), self._open_feeds)
                feed = feeds.get(run_id)
                if feed is not None:
                    feed.missed(last.seq, ended=True)
        return True

    async def adopt(self, run_id: str, *, lease: float) -> Adopted | None:
        """Give the run a new epoch if its lease has expired."""
        with self._store.mapped_errors(run_id):
            last = await self._current(run_id)
            if last is None or last.end or await self._expires(run_id, last) >= await self._store.now():
                return None
            entry = Entry(secrets.randbits(53) + 1, last.seq, last.seq, lease)
            try:
                self._last[run_id] = await self._publish(run_id, entry, last.number)
            except Refused:
                return None
            await self._store.publish(self._store.run_key("seen", run_id), b"")
            return Adopted(entry.epoch, last.seq)

    async def status(self, run_id: str) -> Status | None:
        """Return the state of the run."""
        with self._store.mapped_errors(run_id):
            last, facts = await asyncio.gather(self._current(run_id), self._facts(run_id))
            if last is None:
                return None
            state: RunState = "ended"
            if not last.end:
                state = "lost" if await self._expires(run_id, last) < await self._store.now() else "running"
            return Status(facts.owner, state, last.seq, facts.cut + 1, facts.trace)

    async def _current(self, run_id: str) -> Entry | None:
        """Return the last message of a run; None if there is no such run, or it has ended too long ago."""
        found = await self._store.last(self._store.runs, self._store.run(run_id))
        if found is None:
            return None
        last = decoded(found)
        if last.end and last.time + self._keep < await self._store.now():
            await self._delete(run_id)
            return None
        return last

    async def _expires(self, run_id: str, last: Entry) -> float:
        """Return when the lease of a run expires: its last message, or the sign of life since, began it."""
        alive = await self._value("alive", run_id)
        if alive is not None and alive.time >= last.time:
            epoch, lease = json.loads(alive.data)
            if epoch == last.epoch:
                return float(alive.time + lease)
        return last.time + last.lease

    async def _publish(self, run_id: str, entry: Entry, expected: int) -> Entry:
        number = await self._store.publish(self._store.run(run_id), entry.encoded(), expected)
        return replace(entry, items=b"", number=number)

    async def _value(self, kind: str, name: str) -> Stored | None:
        return await self._store.last(self._store.state, self._store.run_key(kind, name))

    async def _facts(self, run_id: str) -> Facts:
        found = await self._value("facts", run_id)
        return Facts() if found is None else Facts(**json.loads(found.data))

    async def _over(self, run_id: str, facts: Facts | None = None) -> None:
        """Count a run no longer, since it has ended; if that fails, its lease expires."""
        for known in (self._last, self._bytes, self._counted_until):
            known.pop(run_id, None)
        facts = await self._facts(run_id) if facts is None else facts
        if facts.counted:
            await self._index.count(facts.counted, run_id, 0.0, None)

    async def _delete(self, run_id: str) -> None:
        """Delete what is stored of a run."""
        await self._store.purge(self._store.state, self._store.run_key("*", run_id))
        await self._store.purge(self._store.runs, self._store.run(run_id))

    async def _is_running(self, run_id: str) -> bool:
        last = await self._current(run_id)
        return last is not None and not last.end

    def _open_feeds(self) -> tuple[RunFeeds, Callable[[], Awaitable[object]]]:
        feeds = RunFeeds(self._store)
        return feeds, feeds.aclose
