"""Keep runs in Redis Streams, without Redis modules, so that any worker on any machine can read and end them.

A run is a hash (`<prefix>run:<id>`: epoch, lease, owner, last number, end) and a stream (`<prefix>items:<id>`) with one
entry per append, whose id is the number of its last item. `<prefix>owner:<owner>` has the running runs of an owner,
`<prefix>client:<client>` those of a client, and `<prefix>thread:<thread>` the name of a thread's newest run. One script
makes every change and uses Redis' clock, so the clocks and pauses of workers do not matter. Calls that are made during
a round trip are sent together as the next one. A worker's own readers get the runs that it produces from its memory,
after Redis has them.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from streamcore.errors import AnswerTooLarge, ConfigError, RelayError
from streamcore.net.clients import shared_client
from streamcore.net.redis_client import FAILURES, RedisDatabase
from streamcore.relay.entries import decode_items, encode_items
from streamcore.relay.log import Adopted, Command, ReadResult, Renewal, Status
from streamcore.relay.memory import MemoryLog, busy, exists, too_many
from streamcore.sse import Item

DEFAULT_PREFIX = "streamcore:relay:"
CONNECTIONS = 5000
"""The most readers of other workers' runs in one worker; each waits on its own connection."""
NEAR = 1000
"""The fewest items of a run that its own worker keeps in memory, for readers that are up to date."""
NEAR_BYTES = 64 * 2**20
"""The most bytes that a worker keeps of all the runs that it produces."""
RUN_BYTES = 128 * 2**20
"""The default limit of one run."""
ENTRY_BYTES = 2**20
"""Items of one append that are larger than this become several entries of the stream."""
FIRST_ENTRIES = 4
"""How many entries a reader takes at first. If there are as many, it takes more of them, up to `READ_BYTES`."""
READ_BYTES = 2**20

_SCRIPT = """
local run, items, op, epoch = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local f = redis.call('HMGET', run, 'epoch', 'seq', 'lease', 'end', 'owned', 'thread', 'hold')
local seq, lease, ended, hold = tonumber(f[2]), tonumber(f[3]), f[4], tonumber(f[7] or 0)

local function finish(data, keep)
  seq = seq + 1
  redis.call('XADD', items, '0-' .. seq, 'e', '')
  redis.call('HSET', run, 'end', data, 'seq', seq)
  redis.call('ZREM', f[5], run)
  redis.call('PEXPIRE', run, keep)
  redis.call('PEXPIRE', items, keep)
  if f[6] then redis.call('PEXPIRE', f[6], keep) end
end

local function extend(span, keep)
  redis.call('PEXPIRE', run, keep + span + hold)
  redis.call('PEXPIRE', items, keep + span + hold)
  redis.call('ZADD', f[5], now + span, run)
  redis.call('PEXPIRE', f[5], keep + span)
  if f[6] then redis.call('PEXPIRE', f[6], keep + span + hold) end
end

if op == 'start' then
  local owned, owner, span, keep, limit = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  local thread, id, runs, hold = ARGV[8], ARGV[9], ARGV[10], ARGV[12]
  if f[1] then return f[1] == epoch and 'ok' or 'exists' end
  local newest = thread ~= '' and redis.call('GET', thread)
  if newest then
    local n = redis.call('HMGET', runs .. newest, 'epoch', 'end')
    if n[1] and not n[2] then return 'busy' end
  end
  redis.call('ZREMRANGEBYSCORE', owned, '-inf', now)
  if limit ~= '' and redis.call('ZCARD', owned) >= tonumber(limit) then return 'many' end
  redis.call('DEL', items)
  redis.call('HSET', run, 'epoch', epoch, 'seq', 0, 'lease', now + span, 'owned', owned, 'owner', owner,
    'seen', now, 'cut', 0, 'command', '', 'hold', hold)
  redis.call('PEXPIRE', run, keep + span + hold)
  redis.call('ZADD', owned, now + span, run)
  redis.call('PEXPIRE', owned, keep + span)
  if ARGV[11] ~= '' then redis.call('HSET', run, 'trace', ARGV[11]) end
  if thread ~= '' then
    redis.call('HSET', run, 'thread', thread)
    redis.call('SET', thread, id, 'PX', keep + span + hold)
  end
  return 'ok'
end
if not f[1] then return 'gone' end
if op == 'status' then
  local s = redis.call('HMGET', run, 'owner', 'cut', 'trace')
  return {s[1], ended and 'ended' or lease < now and 'lost' or 'running', seq, tonumber(s[2]), s[3] or ''}
elseif op == 'read' then
  local found, bytes, after, most = {}, 0, tonumber(ARGV[3]), tonumber(ARGV[4])
  repeat
    local page = redis.call('XRANGE', items, '0-' .. (after + 1), '+', 'COUNT', 16)
    for _, entry in ipairs(page) do
      found[#found + 1] = entry
      after = tonumber(string.sub(entry[1], 3))
      bytes = bytes + #entry[2][2]
      if bytes >= most or #found >= 1000 then return found end
    end
  until #page < 16
  return found
elseif op == 'command' or op == 'touch' then
  if not ended then redis.call('HSET', run, op == 'touch' and 'seen' or op, op == 'touch' and now or ARGV[2]) end
  return 'ok'
elseif op == 'take' then
  if not ended and lease + hold < now then
    redis.call('HSET', run, 'epoch', '')
    finish(ARGV[3], ARGV[4])
  end
  return 'ok'
elseif op == 'adopt' and not ended and lease < now then
  redis.call('HSET', run, 'epoch', epoch, 'lease', now + ARGV[3], 'seen', now)
  extend(ARGV[3], ARGV[4])
  return seq
end
if f[1] ~= epoch then return 'gone' end
if op == 'adopt' then return seq end
if op == 'append' then
  local before, count, last, span, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
  if ended then return (last ~= '' and seq == before + count + 1) and 'ok' or 'gone' end
  if seq == before and count > 0 then
    local size = 0
    for piece = 9, #ARGV, 2 do size = size + #ARGV[piece + 1] end
    local bytes = redis.call('HINCRBY', run, 'bytes', size)
    if last == '' and bytes > tonumber(ARGV[8]) then
      redis.call('HINCRBY', run, 'bytes', -size)
      return 'large'
    end
    for piece = 9, #ARGV, 2 do
      seq = seq + tonumber(ARGV[piece])
      redis.call('XADD', items, '0-' .. seq, 'i', ARGV[piece + 1])
    end
    if before == 0 then redis.call('PEXPIRE', items, keep + span + hold) end
  elseif seq ~= before + count then
    return 'gone'
  end
  redis.call('HSET', run, 'seq', seq, 'lease', now + span)
  if last ~= '' then finish(last, keep) end
  return 'ok'
end
if ended then return 'gone' end
if op == 'renew' then
  local span, keep = ARGV[3], ARGV[4]
  redis.call('HSET', run, 'lease', now + span)
  extend(span, keep)
  local s = redis.call('HMGET', run, 'command', 'seen')
  return {s[1], now - s[2]}
elseif op == 'trim' then
  local less, after = redis.call('HSTRLEN', run, 'snapshot'), 0
  repeat
    local page = redis.call('XRANGE', items, '0-' .. (after + 1), '0-' .. ARGV[3], 'COUNT', 16)
    for _, entry in ipairs(page) do
      after = tonumber(string.sub(entry[1], 3))
      less = less + #entry[2][2]
    end
  until #page < 16
  redis.call('HINCRBY', run, 'bytes', #ARGV[4] - less)
  redis.call('HSET', run, 'cut', ARGV[3], 'snapshot', ARGV[4])
  redis.call('XTRIM', items, 'MINID', '0-' .. (ARGV[3] + 1))
  return 'ok'
end
"""
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

CLOSED = "the connections to Redis were closed during the call"

_Call = tuple[Sequence[object], "asyncio.Future[Any]"]


class _ScriptQueue:
    """Send the script calls of one event loop; calls made during a round trip are sent together as the next."""

    def __init__(self, place: RedisDatabase) -> None:
        self._database = place
        self.loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        self._calls: list[_Call] = []
        self._task: asyncio.Task[None] | None = None

    async def call(self, *arguments: object) -> Any:
        """Call the script and return its result."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append((arguments, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())
        return await answer

    async def _send(self) -> None:
        while self._calls:
            calls, self._calls = self._calls, []
            answers: list[Any] = [RelayError(CLOSED)] * len(calls)
            try:
                answers = await self._round_trip(calls)
            except Exception as error:  # noqa: BLE001  raised to the callers
                answers = [error] * len(calls)
            finally:
                self._tell(calls, answers)

    @staticmethod
    def _tell(calls: Sequence[_Call], answers: Sequence[Any]) -> None:
        for (_, answer), found in zip(calls, answers, strict=True):
            if answer.done():  # its caller was cancelled
                continue
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

    async def _round_trip(self, calls: Sequence[_Call]) -> list[Any]:
        client = await self._database.client()
        answers: list[Any] = []
        for _ in range(2):
            pipe = client.pipeline(transaction=False)
            for arguments, _answer in calls:
                pipe.execute_command("EVALSHA", _SHA, 2, *arguments)  # pyright: ignore[reportUnknownMemberType]
            answers = await pipe.execute(raise_on_error=False)
            if not any(type(answer).__name__ == "NoScriptError" for answer in answers):
                break
            # The calls of a run come one at a time, and each may be repeated: so all may.
            await client.script_load(_SCRIPT)  # pyright: ignore[reportUnknownMemberType]
        return answers

    async def aclose(self) -> None:
        """Fail the calls that wait: the loop ends."""
        self.loop = None
        if self._task is not None:
            self._task.cancel()
        self._tell(self._calls, [RelayError(CLOSED)] * len(self._calls))


class RedisLog:
    """Keep runs in Redis, until `keep` seconds after their end.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://...` (TLS) or `unix:///path`.
        keep: seconds for which a run that has ended can still be read.
        prefix: the prefix of every key.
        max_bytes: the most bytes of one run, besides its end; a run that needs more is ended with `AnswerTooLarge`.

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
        self._database = RedisDatabase(url, "runs", "the log in memory", CONNECTIONS)
        self._keep = _milliseconds(keep)
        self._prefix = prefix
        self._near = MemoryLog(keep=1.0, max_bytes=NEAR_BYTES)
        self._queue: _ScriptQueue | None = None  # of the loop that called last; a look-up costs a tenth of a call

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
        answer = b""
        counted = ("owner", owner) if client is None else ("client", client)
        try:
            owned, span = self._key(*counted), _milliseconds(lease)
            most = "" if limit is None else limit
            line = b"" if thread is None else self._key("thread", thread)
            facts = (
                owned,
                owner,
                span,
                self._keep,
                most,
                line,
                run_id,
                self._key("run", ""),
                trace,
                round(hold * 1000),
            )
            answer = await self._call(run_id, "start", epoch, *facts)
        finally:
            if answer != b"ok" or hold:  # a run that is held has no producer yet
                self._near.drop(run_id)
        if answer == b"many":
            raise too_many(limit or 0, counted[0])
        if answer == b"busy":
            raise busy(thread or "")
        if answer != b"ok":
            raise exists(run_id)
        return epoch

    async def latest(self, thread: str) -> str | None:
        """Return the name of the thread's newest run."""
        with self._mapped_errors(thread):
            found: bytes | None = await (await self._reads())("GET", self._key("thread", thread))
        name = None if found is None else found.decode("utf-8", "surrogatepass")
        return None if name is None or await self.status(name) is None else name

    async def append(
        self, run_id: str, epoch: int, seq: int, items: Sequence[Item], end: bytes | None, *, lease: float
    ) -> bool:
        """Store items, and the end, as those after number `seq`."""
        facts = (end or b"", _milliseconds(lease), self._keep, self._max_bytes)
        entries = _encoded(items)
        answer = b""
        try:
            answer = await self._call(run_id, "append", epoch, seq, len(items), *facts, *entries)
        finally:
            if answer != b"ok":  # also if it failed: then only Redis knows what is stored
                self._near.drop(run_id)
        if answer == b"large":
            raise AnswerTooLarge(
                f"run {run_id!r} has more than {self._max_bytes:,} bytes, the limit of one run in Redis; ask for a "
                "shorter answer, or give open_log a higher max_bytes",
                limit=self._max_bytes,
            )
        if answer != b"ok":
            return False
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
            answer = await self._call(run_id, "renew", epoch, _milliseconds(lease), self._keep)
        finally:
            if answer == b"gone":
                self._near.drop(run_id)
        if answer == b"gone":
            return None
        near = await self._near.renew(run_id, epoch, lease=lease)
        idle = answer[1] / 1000
        return Renewal(cast("Command", answer[0].decode()), idle if near is None else min(near.idle, idle))

    async def trim(self, run_id: str, epoch: int, seq: int, snapshot: Sequence[Item]) -> None:
        """Drop the items up to number `seq`."""
        await self._call(run_id, "trim", epoch, seq, encode_items(snapshot))

    async def command(self, run_id: str, command: Command) -> None:
        """Send a command to the producer."""
        await self._call(run_id, "command", command)

    async def touch(self, run_id: str) -> None:
        """Record that the run has a reader."""
        await self._near.touch(run_id)
        await self._call(run_id, "touch", "")

    async def read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        """Return what follows number `after`; wait for it for about `seconds`."""
        near = await self._near.status(run_id)
        if near is not None and near.state != "lost" and after >= near.first - 1:  # else another worker may have it
            found = await self._near.read(run_id, after, seconds)
            if found is not None and found.snapshot is None:
                return found
        with self._mapped_errors(run_id):
            return await self._read(run_id, after, seconds)

    async def _read(self, run_id: str, after: int, seconds: float) -> ReadResult | None:
        read = await self._reads()
        block = ("BLOCK", _milliseconds(seconds)) if seconds else ()
        stream = self._key("items", run_id)
        entries = _entries(await read("XREAD", "COUNT", FIRST_ENTRIES, *block, "STREAMS", stream, f"0-{after}"))
        if len(entries) == FIRST_ENTRIES:
            more = await self._call(run_id, "read", "", entries[-1][0], READ_BYTES)
            entries += [] if more == b"gone" else map(_entry, more)
        items: list[Item] = []
        seq, end = after, None
        for number, entry in entries:
            if b"e" in entry:
                found = await read("HGET", self._key("run", run_id), "end")
                if found is None:
                    return None
                end, first = found, number
            else:
                batch = decode_items(entry[b"i"])
                first = number - len(batch) + 1
                items += batch[max(0, seq + 1 - first) :]
            if first > seq + 1:
                return await self._snapshot(run_id)
            seq = number - (end is not None)
        return ReadResult(seq, items, end)

    async def _reads(self) -> Callable[..., Awaitable[Any]]:
        client = await self._database.client()
        return cast("Callable[..., Awaitable[Any]]", client.execute_command)  # pyright: ignore[reportUnknownMemberType]

    async def _snapshot(self, run_id: str) -> ReadResult | None:
        read = await self._reads()
        cut, snapshot = await read("HMGET", self._key("run", run_id), "cut", "snapshot")
        return None if snapshot is None else ReadResult(int(cut), [], snapshot=decode_items(snapshot))

    async def take_over(self, run_id: str, end: bytes) -> bool:
        """End the run if its lease has expired."""
        answer = await self._call(run_id, "take", "", end, self._keep)
        return bool(answer == b"ok")

    async def adopt(self, run_id: str, *, lease: float) -> Adopted | None:
        """Give the run a new epoch if its lease has expired."""
        epoch = secrets.randbits(53)
        answer: Any = await self._call(run_id, "adopt", epoch, _milliseconds(lease), self._keep)
        if answer == b"gone":
            return None
        self._near.begin_after(run_id, epoch, answer, lease)
        return Adopted(epoch, answer)

    async def status(self, run_id: str) -> Status | None:
        """Return the state of the run."""
        answer = await self._call(run_id, "status", "")
        if answer == b"gone":
            return None
        owner, state, seq, cut, trace = answer
        return Status(owner.decode("utf-8", "surrogatepass"), state.decode(), seq, cut + 1, trace.decode())

    async def _call(self, run_id: str, *arguments: object) -> Any:
        self._database.check_loop()
        with self._mapped_errors(run_id):
            queue = self._queue
            if queue is None or queue.loop is not asyncio.get_running_loop():
                queue = self._queue = await shared_client(("relay", self), self._open_queue)
            keys = self._key("run", run_id), self._key("items", run_id)
            return await queue.call(*keys, *(_utf8(one) if isinstance(one, str) else one for one in arguments))

    def _open_queue(self) -> tuple[_ScriptQueue, Callable[[], Awaitable[object]]]:
        queue = _ScriptQueue(self._database)
        return queue, queue.aclose

    def _key(self, kind: str, name: str) -> bytes:
        return _utf8(f"{self._prefix}{kind}:{name}")

    @contextmanager
    def _mapped_errors(self, run_id: str) -> Generator[None]:
        """Map redis-py's errors to `RelayError`, without the password."""
        try:
            yield
        except FAILURES as error:
            reason = self._database.describe(error)
            raise RelayError(f"run {run_id!r}: {self._database.location} failed ({reason}); try again later") from error


def _entries(answer: Any) -> list[tuple[int, dict[bytes, bytes]]]:
    """Return the entries of one stream, in either protocol of redis-py."""
    found: list[tuple[int, dict[bytes, bytes]]] = []
    streams: Any = answer.items() if isinstance(answer, dict) else answer or ()  # pyright: ignore[reportUnknownVariableType]
    for _, entries in streams:
        listed: Any = entries[0] if entries and isinstance(entries[0], list) else entries
        found += [(int(name.partition(b"-")[2]), fields) for name, fields in listed]
    return found


def _entry(entry: Any) -> tuple[int, dict[bytes, bytes]]:
    """Return one entry as a script returns it."""
    name, (key, value) = entry
    return int(name.partition(b"-")[2]), {key: value}


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


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
