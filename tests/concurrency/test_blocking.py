"""Test that coroutines run to their end for a caller who waits, inside a running loop and outside of one."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from types import FrameType

import anyio
import anyio.lowlevel
import pytest

from streamcore.concurrency.blocking import BlockingLoop


async def answer() -> tuple[int, asyncio.AbstractEventLoop]:
    await anyio.lowlevel.checkpoint()
    return threading.get_ident(), asyncio.get_running_loop()


def test_without_a_running_loop_the_calling_thread_runs_it() -> None:
    loop = BlockingLoop()
    first, second = loop.run(answer()), loop.run(answer())
    loop.close()
    assert first == second
    assert first[0] == threading.get_ident()
    assert first[1].is_closed()


@pytest.mark.anyio
async def test_inside_a_running_loop_another_thread_runs_it() -> None:
    loop = BlockingLoop()
    first, second = loop.run(answer()), loop.run(answer())
    loop.close()
    assert first[1] is second[1]
    assert threading.get_ident() not in (first[0], second[0])
    assert first[1].is_closed()


@pytest.mark.skipif(sys.platform == "win32", reason="a thread cannot be signalled there")
@pytest.mark.anyio
async def test_interrupting_the_caller_cancels_the_coroutine() -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    ended: list[str] = []

    async def endless() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    loop = BlockingLoop()
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            loop.run(endless())
    finally:
        signal.signal(signal.SIGUSR1, before)
        loop.close()
    assert ended == ["cancelled"]
