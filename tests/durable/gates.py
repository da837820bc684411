"""Functions of the graphs of these tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio


async def note(state: Mapping[str, Any]) -> str:
    """Write a line to the file that the state names."""
    path = anyio.Path(str(state["notes"]))
    before = await path.read_text() if await path.exists() else ""
    await path.write_text(f"{before}noted\n")
    return "noted"


async def gate(state: Mapping[str, Any]) -> str:
    """Wait until the file that the state names is there."""
    path = Path(str(state["gate"]))
    while not path.exists():  # noqa: ASYNC110, ASYNC240  it is made by another process
        await anyio.sleep(0.02)
    return "open"
