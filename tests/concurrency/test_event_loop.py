"""Test which event loop runs, and starting tasks on it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import ModuleType

import anyio
import anyio.lowlevel
import pytest

from streamcore.concurrency.event_loop import loop_is_running, running_loop, running_on_trio, start_task, task_starter
from tests.support import eventually


@pytest.mark.anyio
async def test_the_running_loop_is_known(anyio_backend_name: str) -> None:
    assert running_on_trio() is (anyio_backend_name == "trio")
    assert loop_is_running()


def test_a_trio_that_another_thread_is_importing_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))  # its submodules are not there yet
    assert not running_on_trio()
    assert not loop_is_running()


@pytest.mark.anyio
async def test_another_thread_runs_no_loop() -> None:
    assert await anyio.to_thread.run_sync(lambda: (running_on_trio(), loop_is_running())) == (False, False)


def test_without_a_loop_none_is_running() -> None:
    assert not running_on_trio()
    assert not loop_is_running()


@pytest.mark.anyio
async def test_a_task_outlives_the_function_that_started_it() -> None:
    done = anyio.Event()
    start_task(lambda: _set(done))
    with anyio.fail_after(60):
        await done.wait()


async def _set(event: anyio.Event) -> None:
    await anyio.lowlevel.checkpoint()
    event.set()


@pytest.mark.anyio
async def test_another_thread_starts_a_task_on_the_loop() -> None:
    start, seen = task_starter(), list[object]()

    async def note(what: str) -> None:
        await anyio.lowlevel.checkpoint()
        seen.extend([what, threading.current_thread()])

    await anyio.to_thread.run_sync(start, note, "started")
    await eventually(lambda: bool(seen), "the task ran")
    assert seen == ["started", threading.current_thread()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_after_the_loop_has_ended_nothing_is_started(backend: str) -> None:
    async def main() -> Callable[..., None]:
        return task_starter()

    async def never() -> None:
        raise AssertionError

    start = anyio.run(main, backend=backend)
    start(never)


def test_the_starter_of_an_ended_loop_starts_nothing_on_the_next() -> None:
    ran: list[int] = []

    async def first() -> Callable[..., None]:
        return task_starter()

    async def note() -> None:
        ran.append(1)

    start = asyncio.run(first())

    async def second() -> None:
        start(note)
        await asyncio.sleep(0)

    asyncio.run(second())
    assert ran == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_run_has_a_loop_of_its_own(backend: str) -> None:
    async def same() -> object:
        first = running_loop()
        await anyio.lowlevel.checkpoint()
        assert running_loop() is first
        return first

    assert anyio.run(same, backend=backend) is not anyio.run(same, backend=backend)
