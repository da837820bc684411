"""Define the workers that tests run in separate processes."""

SAVING_UNTIL_FULL = """
import asyncio, sys
from streamcore import CheckpointError
from streamcore.checkpoints.sqlite import SQLiteCheckpointer

async def main():
    store, version, turns = SQLiteCheckpointer(sys.argv[1]), 0, []
    while True:
        turns.append("x" * 5000)
        try:
            version = await store.save("t", {"turns": turns}, version)
        except CheckpointError as error:
            print(version)
            print(error)
            return

asyncio.run(main())
"""

WRITERS = """
import asyncio, sys, time
from pathlib import Path
from streamcore import ThreadConflict
from streamcore.checkpoints.sqlite import SQLiteCheckpointer

async def main():
    store, won = SQLiteCheckpointer(sys.argv[1]), 0
    while not Path(sys.argv[2]).exists():
        time.sleep(0.001)
    while won < 25:
        saved = await store.load("shared")
        version = saved.version if saved else 0
        try:
            await store.save("shared", {"n": version + 1}, version)
            won += 1
        except ThreadConflict:
            pass
    print(won)

asyncio.run(main())
"""
