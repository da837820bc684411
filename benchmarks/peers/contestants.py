"""List the contestants: streamcore, bare reading, the vendors' SDKs, and the peers in `peers.toml`."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.peers.wires import WIRES

PINS = Path(__file__).with_name("peers.toml")

Kind = Literal["ours", "floor", "sdk", "peer"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Describe one way of reading a stream."""

    name: str
    title: str
    kind: Kind
    reader: str
    variant: str = ""
    wires: tuple[str, ...] = WIRES
    requires: tuple[str, ...] = ()
    """The requirements of its own environment; empty: it runs in the environment of the benchmark."""
    decodes: bool = True
    """True if it yields text, token by token; False if it yields the bytes of each read."""
    crowds: bool = True
    """True if it also reads a hundred and a thousand streams at once."""

    @property
    def close(self) -> bool:
        """True if a few percent decide whether a target is met."""
        return self.kind in ("ours", "floor") or not self.decodes

    def python(self, environments: Path) -> Path:
        """Return the interpreter that runs it."""
        return environments / self.name / "bin" / "python" if self.requires else Path(sys.executable)


HOME = (
    Contestant("bare-httpx2", "bare reading, httpx2", "floor", "bare", "httpx2", decodes=False),
    Contestant("bare-aiohttp", "bare reading, aiohttp", "floor", "bare", "aiohttp", decodes=False),
    Contestant("streamcore-httpx2", "streamcore on httpx2", "ours", "ours", "prompt-httpx2"),
    Contestant(
        "streamcore-request-httpx2",
        "streamcore on httpx2, stream_request",
        "ours",
        "ours",
        "request-httpx2",
        crowds=False,
    ),
    Contestant("streamcore-aiohttp", "streamcore on aiohttp", "ours", "ours", "prompt-aiohttp"),
    Contestant(
        "streamcore-request-aiohttp",
        "streamcore on aiohttp, stream_request",
        "ours",
        "ours",
        "request-aiohttp",
        crowds=False,
    ),
    Contestant("sdk-raw", "the vendor's SDK, raw bytes", "sdk", "sdk", "raw", decodes=False, crowds=False),
    Contestant("sdk", "the vendor's SDK, typed", "sdk", "sdk", "typed"),
)


def peers(pins: Path = PINS) -> tuple[Contestant, ...]:
    """Return the peers with their pinned versions."""
    return tuple(
        Contestant(name, row["title"], "peer", name, "", tuple(row["wires"]), tuple(row["requires"]))
        for name, row in tomllib.loads(pins.read_text("utf-8")).items()
    )
