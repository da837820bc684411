"""Run one agent many times, and print what it cost as JSON: `worker.py MODULE WIRE ROOT SHORT LONG RUNS`.

It imports only that module and the standard library, since it runs in the environments of the peers.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))


async def main() -> None:
    """Measure the CPU time of runs with short and long answers, in turn."""
    module, wire, root, short, long, runs = sys.argv[1:]
    length = 0
    run = importlib.import_module(module).open_agent(wire, root, lambda: "word " * length)
    seconds: dict[int, list[float]] = {int(short): [], int(long): []}
    pieces: dict[int, int] = {}
    for number in range(int(runs) + 1):  # the first is not counted
        for length in seconds:
            gc.collect()
            began = time.process_time()
            pieces[length] = await run()
            if number:
                seconds[length].append(time.process_time() - began)
    print(json.dumps({str(length): {"seconds": seconds[length], "pieces": pieces[length]} for length in seconds}))


asyncio.run(main())
