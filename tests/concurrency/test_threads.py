"""A slow function must not delay calls for another purpose."""

from __future__ import annotations

import threading

import anyio
import pytest

from streamcore.concurrency import threads
from streamcore.concurrency.threads import run_in_thread

pytestmark = pytest.mark.anyio


async def test_slow_nodes_delay_no_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_THREADS", 2)
    release, calls = threading.Event(), 5

    async def node() -> None:
        await run_in_thread("nodes", lambda: release.wait(60))

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(node)
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(60):
                assert await run_in_thread("checkpoints", lambda: "saved") == "saved"
            assert not release.is_set()
        finally:
            release.set()


async def test_the_limit_is_per_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_THREADS", 1)
    release, begun = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        begun.release()
        release.wait(60)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_in_thread, "nodes", wait)
        tasks.start_soon(run_in_thread, "nodes", wait)
        await anyio.wait_all_tasks_blocked()
        assert begun.acquire(timeout=60)
        assert not begun.acquire(blocking=False)
        release.set()
