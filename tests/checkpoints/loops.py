"""Use one store in two event loops and in a fork, each of which needs its own connections."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamcore import ThreadConflict

PROGRAM = """
import asyncio, json, os, sys
from streamcore import ThreadConflict
from streamcore.checkpoints import open_checkpointer
store = open_checkpointer(json.loads(sys.argv[1]))
print(asyncio.run(store.save("t", {}, 0)))
print(asyncio.run(store.save("t", {}, 1)))

async def main():
    print(await store.save("t", {}, 2))
    child = os.fork()
    if child == 0:
        async def fourth():
            print(await store.save("t", {}, 3))
        # The loop of the parent is running here, as far as asyncio knows.
        asyncio._set_running_loop(None)
        asyncio.run(fourth())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    try:
        await store.save("t", {}, 3)
    except ThreadConflict as error:
        print(type(error).__name__)

asyncio.run(main())
"""


def check_loops_and_a_fork(settings: Mapping[str, Any]) -> None:
    """Save a thread there, without a warning, and with every connection closed at the end of its loop."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert result.stderr == ""
    assert result.stdout.split() == ["1", "2", "3", "4", ThreadConflict.__name__]
