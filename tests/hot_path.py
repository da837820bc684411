"""Count the Python operations of streamcore for one chunk, without a clock, so that the hot path stays short.

Bytecode instructions and calls of C functions are counted in the frames of streamcore and its providers, from the
bytes of a read, one event each, to the caller. Two lengths of the same answer are compared, so that what is done once
a stream does not count. The same code always gives the same figures, on any machine; they differ by the minor version
of Python, which compiles differently.

    python tests/hot_path.py            prints the figures
    python tests/hot_path.py --write    records them for this Python, for tests/test_hot_path.py
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streamcore import aclose_providers, stream_request  # noqa: E402
from streamcore.testing import Answer  # noqa: E402
from streamcore.testing.simulator.answers import PlannedCall  # noqa: E402
from streamcore.testing.simulator.frames import frames  # noqa: E402
from tests.support import VENDORS, Vendor, ask, wire_of  # noqa: E402

FIGURES = Path(__file__).with_suffix(".json")
OURS = (str(ROOT / "streamcore"), str(ROOT / "providers"))
SHORT, LONG = 100, 300
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

ANSWERS: dict[str, Callable[[int], Answer]] = {
    "text": lambda length: Answer(["token "] * length),
    "reasoning": lambda length: Answer(["x"], reasoning=["token "] * length),
    "tool calls": lambda length: Answer(["x"], calls=[PlannedCall("f", {"a": "abcdefg " * length}, "call_1")]),
}
PATHS = [
    *(
        f"{name}, {kind}, chunks"
        for name in VENDORS
        for kind in ANSWERS
        if (name, kind) != ("google", "tool calls")  # a call is one chunk there
    ),
    *(f"{name}, text, text" for name in VENDORS),
    "aiohttp, bytes",
]


class Operations:
    """Count while the block runs."""

    def __init__(self) -> None:
        self.count = 0

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._instruction

    def _instruction(self, frame: FrameType, event: str, arg: object) -> Any:
        self.count += event == "opcode"
        return self._instruction

    def _call(self, frame: FrameType, event: str, arg: object) -> None:
        self.count += event == "c_call" and frame.f_code.co_filename.startswith(OURS)

    def __enter__(self) -> Operations:
        self._before = sys.gettrace(), sys.getprofile()
        sys.settrace(self._trace)
        sys.setprofile(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before[0])
        sys.setprofile(self._before[1])


async def _count(run: Callable[[], Awaitable[int]]) -> tuple[int, int]:
    """Return how many operations a run took, and how many chunks it yielded."""
    with Operations():  # the first run is for imports, caches, and Python 3.12, which does not trace all of it
        await run()
    with Operations() as operations:
        given = await run()
    return operations.count, given


def streaming(name: str, kind: str, reader: str, length: int) -> Callable[[], Awaitable[int]]:
    """Return a function that reads an answer of this length, one event a read."""
    vendor = Vendor(*(data for data, _ in frames(wire_of(name), ANSWERS[kind](length))))
    provider = vendor.provider(name)

    async def run() -> int:
        stream = stream_request(ask(), provider=provider)
        source = cast("AsyncIterator[object]", stream.text() if reader == "text" else stream)
        return sum([1 async for _ in source])

    return run


def _over_aiohttp(length: int) -> Callable[[], Awaitable[int]]:
    """Feed a connection directly, since TCP does not keep the boundaries of reads."""
    from streamcore.net.aiohttp_client import Body
    from streamcore.net.aiohttp_private import Handler

    async def run() -> int:
        handler = Handler(loop=asyncio.get_running_loop())
        handler.connection_made(asyncio.Transport())
        handler.set_response_params()
        handler.data_received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        _, payload = await handler.read()
        body = Body(cast("Any", SimpleNamespace(content=payload, headers={}, closed=True)))

        async def read() -> int:
            return sum([1 async for _ in body])

        reading = asyncio.create_task(read())
        for _ in range(length):
            await asyncio.sleep(0)
            handler.data_received(b"5\r\ntoken\r\n")
            await asyncio.sleep(0)
        handler.data_received(b"0\r\n\r\n")
        return await reading

    return run


async def _measure(path: str) -> float:
    counts: list[tuple[int, int]] = []
    for length in (SHORT, LONG):
        if path == "aiohttp, bytes":
            run = _over_aiohttp(length)
        else:
            name, kind, reader = path.split(", ")
            run = streaming(name, kind, reader, length)
        counts.append(await _count(run))
    await aclose_providers()
    (short, few), (long, many) = counts
    return (long - short) / (many - few)


def operations(path: str) -> float:
    """Return how many operations a chunk costs on one of `PATHS`."""
    return asyncio.run(_measure(path))


def figures() -> dict[str, dict[str, float]]:
    """Return the figures that were written, by version of Python and path."""
    found: dict[str, dict[str, float]] = json.loads(FIGURES.read_text("utf-8")) if FIGURES.exists() else {}
    return found


def main() -> None:
    """Print the figures; `--write` writes them to the file."""
    now = {path: round(operations(path), 1) for path in PATHS}
    known = figures()
    for path, count in now.items():
        before = known.get(PYTHON, {}).get(path)
        print(f"{path:40}{count:8.1f}" + ("" if before is None else f"   recorded: {before}"))
    if "--write" in sys.argv[1:]:
        FIGURES.write_text(json.dumps({**known, PYTHON: now}, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
