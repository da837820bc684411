"""End the interpreter in the middle of a stream, in a process whose stderr and exit code a test reads.

python tests/interpreter_exits.py HOW BACKEND PROVIDER BASE_URL
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import anyio

from streamcore import Message, Request, get_provider, stream_request, sync

how, backend, name, url = sys.argv[1:]
LOOP: dict[str, Any] = (
    {"backend": "asyncio", "backend_options": {"use_uvloop": True}} if backend == "uvloop" else {"backend": backend}
)
EXIT_CODE = 3
ASK = Request([Message("user", "Hi")])
SMOOTH = {"buffer_size": 3} if how == "smoothed" else None
given: dict[str, Any] = {
    "provider": get_provider(name, api_key="sk-0123456789", model="m", base_url=url),
    "stream_options": SMOOTH,
}


async def leave() -> None:
    async for chunk in stream_request(ASK, **given):
        if chunk.text:
            sys.exit(EXIT_CODE)


async def read_on(begun: threading.Event) -> None:
    async for chunk in stream_request(ASK, **given):
        if chunk.text:
            begun.set()


match how:
    case "plain" | "smoothed":
        anyio.run(leave, **LOOP)
    case "sync":
        for chunk in sync.stream_request(ASK, **given):
            if chunk.text:
                sys.exit(EXIT_CODE)
    case "thread":
        begun = threading.Event()
        threading.Thread(target=lambda: anyio.run(read_on, begun, **LOOP), daemon=True).start()
        begun.wait()
        sys.exit(EXIT_CODE)
    case _:
        sys.exit(f"unknown way to exit: {how!r}")
