"""End a worker whose event loop hangs; the supervisor's part is in test_serve_workers.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import DEADLINE

HANGS = """
import asyncio, time
from streamcore.cli.worker_process import end_if_hung

async def main():
    watch = asyncio.ensure_future(end_if_hung(1.0))
    await asyncio.sleep(0)
    blocks()

def blocks():
    time.sleep(600)

asyncio.run(main())
"""
LEAVES = """
import asyncio, time
from streamcore.cli.worker_process import end_if_hung

async def main():
    watch = asyncio.ensure_future(end_if_hung(30.0))
    await asyncio.sleep(0)
    watch.cancel()

asyncio.run(main())
"""


@pytest.mark.long
@pytest.mark.parametrize(("program", "code"), [(HANGS, 1), (LEAVES, 0)])
def test_a_process_whose_event_loop_hangs_ends_with_its_stacks(program: str, code: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert ("in blocks" in ended.stderr) == bool(code)
