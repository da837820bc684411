"""Check a checkpointer against streamcore's contract: a pytest suite to subclass.

    class TestMyCheckpointer(CheckpointerSuite):
        def checkpointer(self) -> MyCheckpointer:
            return MyCheckpointer(url)

It needs pytest, and runs each test through anyio's plugin. Each test uses a thread of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping, Sequence
from datetime import date
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import pytest

from streamcore.checkpoints import Checkpointer
from streamcore.errors import CheckpointError, ThreadConflict

DATA: Mapping[str, Any] = {
    "text": 'straße, 東京, 👩‍💻, \u0000, \u2028, "quoted" \\',
    "half an emoji": "\ud83d",
    "numbers": [0, -1, 2**70, 1.5, 1e-300, True, False, None],
    "empty": ["", [], {}],
    "": {"deep": {"deeper": [[["deepest"]]]}},
    "long": "token " * 20_000,
}


class CheckpointerSuite:
    """Subclass this in a test module, and pytest runs the suite on your checkpointer."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    backends: ClassVar[Sequence[str]] = ("asyncio", "trio") if find_spec("trio") else ("asyncio",)
    """The event loops that the checkpointer runs on."""

    def checkpointer(self) -> Checkpointer:
        """Return a checkpointer; each call returns a new one for the same store."""
        raise NotImplementedError("a CheckpointerSuite needs a method checkpointer(self) that returns yours")

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make each test once for each backend."""
        if "anyio_backend" in metafunc.fixturenames:
            metafunc.parametrize("anyio_backend", self.backends)

    @pytest.fixture
    def thread(self) -> str:
        """Name a thread that no other test uses."""
        return f"Gespräch {uuid.uuid4()}"

    async def test_an_unknown_thread(self, thread: str) -> None:
        """An unknown thread has no checkpoint, and deleting it is no error."""
        store = self.checkpointer()
        _equal(await store.load(thread), None, "load of a new thread")
        await store.delete(thread)
        await store.aclose()

    async def test_what_is_saved_is_loaded(self, thread: str) -> None:
        """Another checkpointer on the same store loads the same data; each save counts one version up."""
        store = self.checkpointer()
        for version, data in enumerate([DATA, {}, {"state": {"turn": 3}}, DATA]):
            _equal(await store.save(thread, data, version), version + 1, "what save returns")
            saved = await self.checkpointer().load(thread)
            _need(saved is not None, "what was saved is there")
            if saved is not None:
                _equal((saved.version, dict(saved.data)), (version + 1, data), "what is loaded")

    async def test_what_is_loaded_is_a_copy(self, thread: str) -> None:
        """Changing what was saved, or what was loaded, changes nothing in the store."""
        store, mine = self.checkpointer(), {"list": [1]}
        await store.save(thread, mine, 0)
        mine["list"].append(2)
        loaded = await store.load(thread)
        if loaded is not None:
            loaded.data["list"].append(3)
        again = await store.load(thread)
        _equal(again and again.data["list"], [1], "the stored list")

    async def test_threads_do_not_mix(self, thread: str) -> None:
        """Names with a common beginning, another case, or characters that stores use are different threads."""
        store = self.checkpointer()
        names = [thread, thread.upper(), f"{thread}:1", f"{thread}*", f"{thread}%", f"{thread}\n", f"{thread}\ud83d"]
        for number, name in enumerate(names):
            await store.save(name, {"number": number}, 0)
        for number, name in enumerate(names):
            saved = await store.load(name)
            _equal(saved and saved.data["number"], number, f"the data of thread {name!r}")

    @pytest.mark.parametrize("version", [0, 1, 3])
    async def test_another_version_is_a_conflict(self, thread: str, version: int) -> None:
        """Nothing is stored, and the error has the expected and the found version."""
        store = self.checkpointer()
        await store.save(thread, {"n": 1}, 0)
        await store.save(thread, {"n": 2}, 1)
        error = await _conflict(store.save(thread, {"n": 9}, version))
        _equal((error.thread, error.expected, error.found), (thread, version, 2), "thread, expected, found")
        _need(repr(thread) in str(error), "the message names the thread")
        saved = await store.load(thread)
        _equal(saved and (saved.version, saved.data["n"]), (2, 2), "what is stored")

    async def test_a_deleted_thread_is_a_conflict(self, thread: str) -> None:
        """Saving a thread that was deleted raises ThreadConflict, and stores nothing."""
        store = self.checkpointer()
        await store.save(thread, {}, 0)
        await store.delete(thread)
        _equal(await store.load(thread), None, "load of a deleted thread")
        error = await _conflict(store.save(thread, {}, 1))
        _equal((error.expected, error.found), (1, 0), "expected, found")
        _equal(await store.load(thread), None, "load after the conflict")
        _equal(await store.save(thread, {}, 0), 1, "a first save after the deletion")

    async def test_one_of_many_workers_wins(self, thread: str) -> None:
        """Saves at the same time from the same version: one is stored, all others are conflicts."""
        won: list[int] = []
        lost: list[ThreadConflict] = []

        async def work(number: int) -> None:
            try:
                await self.checkpointer().save(thread, {"winner": number, "turn": turn}, turn)
                won.append(number)
            except ThreadConflict as error:
                lost.append(error)

        for turn in range(5):
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(work, number)
            _equal((len(won), len(lost)), (turn + 1, 7 * (turn + 1)), "how many won and lost")
            saved = await self.checkpointer().load(thread)
            _equal(saved and dict(saved.data), {"winner": won[-1], "turn": turn}, "the winner's data")

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (float("nan"), "a.b[0] is nan"),
            (float("inf"), "a.b[0] is inf"),
            (b"x", "a.b[0] is a bytes"),
            ({1, 2}, "a.b[0] is a set"),
            ({1: 2}, "a.b[0] has the key 1"),
            ({"1": 1, 1: 2}, "a.b[0] has the key 1"),
            ({None: 1}, "a.b[0] has the key None"),
            ((1, 2), "a.b[0] is a tuple"),
            (date(2026, 1, 2), "a.b[0] is a date"),
            (HTTPStatus.OK, "a.b[0] is a HTTPStatus"),
            (object(), "a.b[0] is a object"),
        ],
        ids=["nan", "infinity", "bytes", "set", "key", "keys", "none", "tuple", "date", "enum", "object"],
    )
    async def test_what_is_not_json_is_refused(self, thread: str, value: object, message: str) -> None:
        """The error names the key, and the old checkpoint stays."""
        store = self.checkpointer()
        await store.save(thread, {"n": 1}, 0)
        with pytest.raises(CheckpointError) as caught:
            await store.save(thread, {"a": {"b": [value]}}, 1)
        _need(message in str(caught.value), f"the message contains {message!r}: {caught.value}")
        saved = await store.load(thread)
        _equal(saved and saved.data["n"], 1, "what is stored")

    async def test_cancelled_at_any_await(self, thread: str) -> None:
        """A cancelled save leaves the old or the new checkpoint, complete, and a checkpointer that works."""
        store, version = self.checkpointer(), 0
        for turns in range(40):
            async with anyio.create_task_group() as group:
                group.start_soon(store.save, thread, {"n": version + 1}, version)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            saved = await store.load(thread)
            found = (saved.version, saved.data["n"]) if saved else (0, 0)
            _need(
                found in ((version, version), (version + 1, version + 1)),
                f"the old or the new checkpoint is loaded, not {found}",
            )
            version = found[0]
        _equal(await store.save(thread, {"n": version + 1}, version), version + 1, "a save after the cancelled ones")


async def _conflict(save: Awaitable[int]) -> ThreadConflict:
    with pytest.raises(ThreadConflict) as caught:
        await save
    return caught.value


def _need(condition: object, what: str) -> None:
    if not condition:
        pytest.fail(f"failed: {what}", pytrace=False)


def _equal(found: object, wanted: object, what: str) -> None:
    _need(found == wanted, f"{what} must be {wanted!r}, not {found!r}")
