"""Check a relay's log against streamcore's contract: a pytest suite to subclass.

    class TestMyLog(RunLogSuite):
        def log(self) -> MyLog:
            return MyLog(url)

It needs pytest, and runs each test through anyio's plugin. Each test uses runs of its own.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from streamcore.chunk import Chunk, Opaque, ToolCall, ToolResult, Usage
from streamcore.errors import RunExists, TooManyRuns
from streamcore.relay import ReadResult, RunLog
from streamcore.relay.entries import encode_end
from streamcore.sse import Item

END = encode_end(None, None)
LOST = encode_end(RuntimeError("lost"), None)
LEASE = 60.0
SHORT = 0.05

ITEMS: Sequence[Item] = (
    Chunk("start", id="resp_1", model="m", request_id="req", usage=Usage(input_tokens=7, raw={"n": 2**70})),
    Chunk("text", 'straße, 東京, 👩‍💻, \x00, \u2028, "quoted" \\'),
    Chunk("text", "\r"),
    Chunk("text", "\n half an emoji: \ud83d"),
    Chunk("text", "of another answer", index=2, choice=1),
    Chunk("text", "with raw", raw=b'{"bytes": "\xff\x00"}'),
    Chunk("reasoning", "why", opaque=Opaque("wire", ({"signature": "x"},))),
    Chunk("refusal", "no"),
    Chunk("tool_call", tool_call=ToolCall("id", "name", '{"half', 1, custom=True)),
    Chunk("citation", data={"url": "u", "score": float("inf")}),
    Chunk("other", event="vendor.word", raw=b"{}"),
    Chunk("ping"),
    Chunk("restart"),
    Chunk("step", data={"step": 2}),
    Chunk("text", "of a nested run", path=("outer", "inner")),
    Chunk("tool_result", tool_result=ToolResult("id", "name", "Error: no", "ValueError: no", 0.5)),
    Chunk("finish", finish_reason="stop", raw_finish_reason="end_turn", finish_detail={"a": [1, None]}),
    "a token",
    "\ud83d",
    {"type": "token", "node": "n", "content": "graph"},
    {"type": "node_complete", "node": "n", "output": {"deep": [{"": None}], "n": 1e-300}},
    {"type": "interrupt", "node": "ask", "message": {"any": "thing"}, "resume_key": "k"},
)
"""Items of every kind that a stream can have."""


class RunLogSuite:
    """Subclass this in a test module, and pytest runs the suite on your log."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    backends: ClassVar[Sequence[str]] = ("asyncio", "trio") if find_spec("trio") else ("asyncio",)
    """The event loops that the log runs on."""

    def log(self) -> RunLog:
        """Return the log; where several workers can share a store, each call returns a new one for the same store."""
        raise NotImplementedError("a RunLogSuite needs a method log(self) that returns yours")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make each test once for each backend."""
        if "anyio_backend" in metafunc.fixturenames:
            metafunc.parametrize("anyio_backend", self.backends)

    @pytest.fixture
    def run(self) -> str:
        """Name a run that no other test uses."""
        return f"Lauf {uuid.uuid4()}"

    async def test_an_unknown_run(self, run: str) -> None:
        """An unknown run has no status and cannot be used; a request to end it is no error."""
        log = self.log()
        _equal(await log.status(run), None, "status")
        _equal(await log.take_over(run, LOST), False, "take_over")
        _equal(await log.append(run, 1, 0, ["a"], None, lease=LEASE), False, "append")
        _equal(await log.renew(run, 1, lease=LEASE), None, "renew")
        await log.command(run, "stop")
        await log.touch(run)
        found = await log.read(run, 0, 0)
        _equal(found is None or (not found.items and found.end is None), True, "read finds nothing")
        _equal(await log.status(run), None, "status, still")

    async def test_one_start(self, run: str) -> None:
        """Of many starts of one name, on many workers, one succeeds; after the run has ended none does."""
        won: list[int] = []
        lost: list[str] = []

        async def start(log: RunLog) -> None:
            try:
                won.append(await log.start(run, "ada", lease=LEASE))
            except RunExists:
                lost.append(run)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(start, self.log())
        _equal((len(won), len(lost)), (1, 7), "won and lost")
        await self.log().append(run, won[0], 0, [], END, lease=LEASE)
        with pytest.raises(RunExists):
            await self.log().start(run, "eve", lease=LEASE)

    async def test_one_run_of_a_thread_at_a_time(self, run: str) -> None:
        """A thread's newest run keeps others from starting until it has ended; then another is the newest."""
        thread, one, two = f"thread {run}", f"{run} 1", f"{run} 2"
        log, other = self.log(), self.log()
        _equal(await other.latest(thread), None, "latest of no run")
        won: list[str] = []

        async def start(log: RunLog, name: str) -> None:
            try:
                await log.start(name, "", lease=SHORT, thread=thread)
            except RunExists:
                return
            won.append(name)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(start, self.log(), f"{one} {number}")
        _equal(len(won), 1, "runs of the thread")
        _equal(await other.latest(thread), won[0], "latest")
        await _until(log, won[0], "lost")
        with pytest.raises(RunExists):
            await other.start(two, "", lease=LEASE, thread=thread)
        _equal(await other.status(two), None, "status of the one that was refused")
        await other.start(f"{two} elsewhere", "", lease=LEASE, thread=f"other {thread}")
        await other.take_over(won[0], LOST)
        _equal(await log.latest(thread), won[0], "latest, ended")
        await other.start(two, "", lease=LEASE, thread=thread)
        _equal(await log.latest(thread), two, "latest, then")

    async def test_items_come_back_as_they_were(self, run: str) -> None:
        """Every kind of item is read back, from every position, on the worker that writes and on another."""
        log, other = self.log(), self.log()
        epoch = await log.start(run, "ada", lease=LEASE)
        _equal(await log.append(run, epoch, 0, ITEMS[:1], None, lease=LEASE), True, "append of one")
        _equal(await log.append(run, epoch, 1, ITEMS[1:9], None, lease=LEASE), True, "append of several")
        _equal(await log.append(run, epoch, 9, ITEMS[9:], END, lease=LEASE), True, "append with the end")
        for reader in (log, other):
            for after in range(len(ITEMS) + 1):
                items, end = await _all(reader, run, after)
                _equal(items, [*ITEMS[after:]], f"items after {after}")
                _equal(end, END, f"end after {after}")
        status = await other.status(run)
        _equal(status and (status.owner, status.state, status.seq), ("ada", "ended", len(ITEMS) + 1), "status")

    async def test_many_items_in_random_pieces(self, run: str) -> None:
        """Readers that reconnect at random get every item once, while items are written."""
        log = self.log()
        chance = random.Random(7)  # noqa: S311
        wanted: list[Item] = [f"{n} " for n in range(2_500)]
        epoch = await log.start(run, "", lease=LEASE)

        async def write() -> None:
            seq = 0
            while seq < len(wanted):
                batch = wanted[seq : seq + chance.randint(1, 60)]
                _equal(await log.append(run, epoch, seq, batch, None, lease=LEASE), True, "append")
                seq += len(batch)
                await anyio.lowlevel.checkpoint()
            await log.append(run, epoch, seq, [], END, lease=LEASE)

        async def read(reader: RunLog) -> None:
            got: list[Item] = []
            end = None
            while end is None:
                found = await reader.read(run, len(got), 5)
                if found is None:
                    raise AssertionError("the run does not exist any more")
                kept = found.items[: chance.randint(1, 100)]  # the connection breaks
                got += kept
                end = found.end if len(kept) == len(found.items) else None
            _equal(got == wanted, True, "every item once")

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(read, log)
                group.start_soon(read, self.log())
            group.start_soon(write)

    async def test_a_repeated_append_is_stored_once(self, run: str) -> None:
        """An append may be repeated after its reply was lost; one at the wrong position stores nothing."""
        log = self.log()
        epoch = await log.start(run, "", lease=LEASE)
        for _ in range(2):
            _equal(await log.append(run, epoch, 0, ["a", "b"], None, lease=LEASE), True, "append")
        for seq in (1, 3):
            _equal(await log.append(run, epoch, seq, ["c", "d"], None, lease=LEASE), False, f"append at {seq}")
        for _ in range(2):
            _equal(await log.append(run, epoch, 2, ["c"], END, lease=LEASE), True, "append with the end")
        _equal(await _all(self.log(), run, 0), (["a", "b", "c"], END), "what is stored")

    async def test_nothing_after_the_end(self, run: str) -> None:
        """After a run's end nothing is appended, renewed or taken over."""
        log = self.log()
        epoch = await log.start(run, "", lease=SHORT)
        await log.append(run, epoch, 0, ["a"], END, lease=SHORT)
        await anyio.sleep(2 * SHORT)
        _equal(await log.append(run, epoch, 1, ["b"], None, lease=LEASE), False, "append")
        _equal(await log.append(run, epoch, 2, ["b"], LOST, lease=LEASE), False, "append of another end")
        _equal(await log.renew(run, epoch, lease=LEASE), None, "renew")
        _equal(await self.log().take_over(run, LOST), True, "take_over")
        _equal(await _all(log, run, 0), (["a"], END), "what is stored")

    async def test_the_epoch_is_the_right_to_write(self, run: str) -> None:
        """Only the worker that started a run writes to it, until its lease has expired and another one takes over."""
        log, other = self.log(), self.log()
        epoch = await log.start(run, "", lease=LEASE)
        for wrong in (epoch + 1, 0):
            _equal(await other.append(run, wrong, 0, ["x"], None, lease=LEASE), False, "append with a wrong epoch")
            _equal(await other.renew(run, wrong, lease=LEASE), None, "renew with a wrong epoch")
        _equal(await other.take_over(run, LOST), True, "take_over before the lease has expired")
        _equal(await log.append(run, epoch, 0, ["a"], None, lease=SHORT), True, "append by the worker that started it")
        await _until(other, run, "lost")
        _equal(await other.take_over(run, LOST), True, "take_over")
        _equal(await other.take_over(run, END), True, "take_over, again")
        _equal(
            await log.append(run, epoch, 1, ["b"], None, lease=LEASE),
            False,
            "append by the first worker after the takeover",
        )
        _equal(await log.append(run, epoch, 1, [], END, lease=LEASE), False, "its end")
        _equal(await log.renew(run, epoch, lease=LEASE), None, "its renewal")
        for reader in (log, other):
            _equal(await _all(reader, run, 0), (["a"], LOST), "what is stored")

    async def test_a_lost_run_is_adopted(self, run: str) -> None:
        """Another worker continues it; the first one can no longer write; readers get every item once."""
        log, other = self.log(), self.log()
        _equal(await other.adopt(run, lease=LEASE), None, "adopt of no run")
        epoch = await log.start(run, "ada", lease=LEASE, hold=LEASE)
        await log.append(run, epoch, 0, ["a", "b"], None, lease=LEASE)
        _equal(await other.adopt(run, lease=LEASE), None, "adopt before the lease has expired")
        await log.append(run, epoch, 2, ["c"], None, lease=SHORT)
        got: list[list[Item]] = []

        async def read(reader: RunLog) -> None:
            items: list[Item] = []
            end = None
            while end is None:
                found = await reader.read(run, len(items), 0.2)
                if found is None:
                    raise AssertionError("the run does not exist any more")
                items, end = [*items, *found.items], found.end
            _equal(end, END, "the end")
            got.append(items)

        async with anyio.create_task_group() as group:
            for reader in (log, self.log()):
                group.start_soon(read, reader)
            await _until(other, run, "lost")
            await other.command(run, "stop")
            _equal(await other.take_over(run, LOST), True, "take_over of a run that is held")
            adopted = await other.adopt(run, lease=LEASE)
            if adopted is None:
                raise AssertionError("a lost run must be adopted")
            _equal(adopted.seq, 3, "the last item's number")
            _equal(adopted.epoch == epoch, False, "the epoch is the same")
            _equal(await self.log().adopt(run, lease=LEASE), None, "adopt by a third worker")
            _equal(await log.append(run, epoch, 3, ["x"], None, lease=LEASE), False, "append by the first worker")
            _equal(await log.renew(run, epoch, lease=LEASE), None, "its renewal")
            _equal(await log.append(run, epoch, 3, [], END, lease=LEASE), False, "its end")
            renewal = await other.renew(run, adopted.epoch, lease=LEASE)
            _equal(renewal and renewal.command, "stop", "the command that came meanwhile")
            _equal(await other.append(run, adopted.epoch, 3, ["d"], None, lease=LEASE), True, "append")
            _equal(await other.append(run, adopted.epoch, 4, ["e"], END, lease=LEASE), True, "append with the end")
        _equal(got, [["a", "b", "c", "d", "e"]] * 2, "what was read")
        for reader in (log, other, self.log()):
            for after in range(6):
                _equal(await _all(reader, run, after), (["a", "b", "c", "d", "e"][after:], END), f"read after {after}")
        _equal(await other.adopt(run, lease=LEASE), None, "adopt of a run that has ended")

    async def test_a_run_that_was_opened_for_another_worker(self, run: str) -> None:
        """Readers on the worker that opened it, and on one that handed it over, get what another one writes."""
        opener, first, second = self.log(), self.log(), self.log()
        await opener.start(run, "", lease=0.001, hold=LEASE)
        got: list[list[Item]] = []

        async def read(reader: RunLog) -> None:
            items: list[Item] = []
            end = None
            while end is None:
                found = await reader.read(run, len(items), 0.2)
                if found is None:
                    raise AssertionError("the run does not exist any more")
                items, end = [*items, *found.items], found.end
            got.append(items)

        async with anyio.create_task_group() as group:
            for reader in (opener, first, second):
                group.start_soon(read, reader)
            for number, writer in enumerate((first, second)):
                await _until(writer, run, "lost")
                adopted = await writer.adopt(run, lease=LEASE)
                if adopted is None:
                    raise AssertionError("a run without a producer must be adopted")
                await writer.append(run, adopted.epoch, number, [f"{number}"], None, lease=LEASE)
                await anyio.sleep(0.05)
                if number == 0:
                    await writer.renew(run, adopted.epoch, lease=0.001)
                else:
                    await writer.append(run, adopted.epoch, number + 1, ["end"], END, lease=LEASE)
        _equal(got, [["0", "1", "end"]] * 3, "what was read")

    async def test_one_of_many_workers_adopts(self, run: str) -> None:
        """Of many workers that adopt a lost run one succeeds, and a run that is held too long is ended."""
        epoch = await self.log().start(run, "", lease=SHORT, hold=LEASE)
        await _until(self.log(), run, "lost")
        won: list[int] = []

        async def adopt(log: RunLog) -> None:
            adopted = await log.adopt(run, lease=LEASE)
            if adopted is not None:
                won.append(adopted.epoch)

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(adopt, self.log())
        _equal(len(won), 1, "workers that adopted")
        _equal(epoch in won, False, "the epoch is the same")
        await self.log().start(f"{run} short", "", lease=SHORT, hold=2 * SHORT)
        for _ in range(1000):
            await self.log().take_over(f"{run} short", LOST)
            status = await self.log().status(f"{run} short")
            if status is not None and status.state == "ended":
                return
            await anyio.sleep(0.01)
        raise AssertionError("a run that is held too long was not ended")

    async def test_a_late_renewal_without_a_takeover(self, run: str) -> None:
        """A worker that renews after its lease expired goes on if no other worker has taken over."""
        log = self.log()
        epoch = await log.start(run, "", lease=SHORT)
        await _until(log, run, "lost")
        renewal = await log.renew(run, epoch, lease=LEASE)
        _equal(renewal is not None, True, "renew")
        status = await self.log().status(run)
        _equal(status and status.state, "running", "state")

    async def test_renewals_report_commands_and_readers(self, run: str) -> None:
        """A renewal reports requests to end and readers, on whichever worker they arrived."""
        log, other = self.log(), self.log()
        epoch = await log.start(run, "", lease=LEASE)
        await anyio.sleep(0.3)
        renewal = await log.renew(run, epoch, lease=LEASE)
        _equal(renewal and (renewal.command, renewal.idle >= 0.29), ("", True), "no reader and no request to end")
        before = time.monotonic()
        await other.touch(run)
        await other.command(run, "stop")
        renewal = await log.renew(run, epoch, lease=LEASE)
        idle = time.monotonic() - before + 0.01
        _equal(renewal and (renewal.command, renewal.idle <= idle), ("stop", True), "a reader and a request to end")

    async def test_reading_waits(self, run: str) -> None:
        """A reader that has every item waits for the next, on every worker."""
        log = self.log()
        epoch = await log.start(run, "", lease=LEASE)
        _equal(await _all(log, run, 0), ([], None), "read without waiting")
        got: list[Any] = []

        async def read(reader: RunLog) -> None:
            found = await reader.read(run, 0, 10)
            got.append(found and (found.seq, [*found.items]))

        async with anyio.create_task_group() as group:
            group.start_soon(read, log)
            group.start_soon(read, self.log())
            await anyio.wait_all_tasks_blocked()
            await log.append(run, epoch, 0, ["news"], None, lease=LEASE)
        _equal(got, [(1, ["news"])] * 2, "what was read")

    async def test_a_snapshot_replaces_trimmed_items(self, run: str) -> None:
        """A reader that lacks trimmed items gets the snapshot and goes on after it; other readers notice nothing."""
        log = self.log()
        epoch = await log.start(run, "", lease=LEASE)
        await log.append(run, epoch, 0, ["a", "b"], None, lease=LEASE)
        await log.append(run, epoch, 2, ["c", "d", "e"], None, lease=LEASE)
        await log.trim(run, epoch + 1, 3, ["not mine to say"])
        await log.trim(run, epoch, 3, ["abc"])
        await log.append(run, epoch, 5, ["f"], END, lease=LEASE)
        for after in range(2):  # items that were appended together may be trimmed together
            _equal(await self.log().read(run, after, 1), ReadResult(3, [], snapshot=["abc"]), f"read after {after}")
        for reader in (log, self.log()):
            for after in range(3, 7):
                _equal(await _all(reader, run, after), (["d", "e", "f"][after - 3 :], END), f"read after {after}")
            status = await reader.status(run)
            _equal(status and status.first, 4, "first")

    async def test_limit_of_an_owner(self, run: str) -> None:
        """`limit` counts running runs on all workers; an end and an expired lease allow another one."""
        owner = f"owner {run}"
        epoch = await self.log().start(f"{run} 1", owner, lease=LEASE, limit=2)
        lost = await self.log().start(f"{run} 2", owner, lease=LEASE, limit=2)
        with pytest.raises(TooManyRuns):
            await self.log().start(f"{run} 3", owner, lease=LEASE, limit=2)
        await self.log().start(f"{run} 4", f"other {run}", lease=LEASE, limit=2)
        await self.log().renew(f"{run} 2", lost, lease=SHORT)
        await _until(self.log(), f"{run} 2", "lost")
        await self.log().start(f"{run} 3", owner, lease=LEASE, limit=2)
        await self.log().append(f"{run} 1", epoch, 0, [], END, lease=LEASE)
        await self.log().start(f"{run} 5", owner, lease=LEASE, limit=2)
        with pytest.raises(TooManyRuns):
            await self.log().start(f"{run} 6", owner, lease=LEASE, limit=2)
        await self.log().start(f"{run} 6", owner, lease=LEASE)

    async def test_limit_of_a_client(self, run: str) -> None:
        """With `client`, `limit` counts that client's running runs on all workers, also in a burst."""
        client = f"client {run}"
        won: list[tuple[str, int]] = []
        refused: list[str] = []

        async def start(log: RunLog, name: str) -> None:
            try:
                won.append((name, await log.start(name, "", lease=LEASE, limit=2, client=client)))
            except TooManyRuns:
                refused.append(name)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(start, self.log(), f"{run} {number}")
        _equal((len(won), len(refused)), (2, 6), "won and refused")
        await self.log().start(f"{run} owner", client, lease=LEASE, limit=2)  # an owner of that name is another
        await self.log().start(f"{run} other", "", lease=LEASE, limit=2, client=f"other {run}")
        name, epoch = won[0]
        await self.log().append(name, epoch, 0, [], END, lease=LEASE)
        await self.log().start(f"{run} again", "", lease=LEASE, limit=2, client=client)
        with pytest.raises(TooManyRuns):
            await self.log().start(f"{run} more", "", lease=LEASE, limit=2, client=client)


async def _all(log: RunLog, run: str, after: int) -> tuple[list[Item], bytes | None]:
    """Read all that is there."""
    items: list[Item] = []
    while True:
        found = await log.read(run, after, 0)
        if found is None:
            raise AssertionError(f"{run} does not exist any more")
        items += found.items
        if found.end is not None or found.seq == after:
            return items, found.end
        after = found.seq


async def _until(log: RunLog, run: str, state: str) -> None:
    for _ in range(1000):
        status = await log.status(run)
        if status is not None and status.state == state:
            return
        await anyio.sleep(0.01)
    raise AssertionError(f"{run} did not become {state!r}")


def _equal(found: Any, wanted: Any, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what} must be {wanted!r}, not {found!r}")
