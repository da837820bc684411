"""Say who is measured: streamcore, bare reading, the vendors' SDKs, and the peers that `peers.toml` lists."""

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
    """One way of reading a stream."""

    name: str
    title: str
    kind: Kind
    reader: str
    variant: str = ""
    wires: tuple[str, ...] = WIRES
    requires: tuple[str, ...] = ()
    """What its own environment holds; empty: it runs in the environment of the benchmark."""
    decodes: bool = True
    """It hands out text, token by token, and not the bytes that were read."""
    crowds: bool = True
    """It also reads a hundred and a thousand streams at once."""

    @property
    def close(self) -> bool:
        """True if a few hundredths decide whether a promise holds."""
        return self.kind in ("ours", "floor") or not self.decodes

    def python(self, environments: Path) -> Path:
        """Return the interpreter that runs it."""
        return environments / self.name / "bin" / "python" if self.requires else Path(sys.executable)


HOME = (
    Contestant("bare-httpx2", "bare reading, httpx2", "floor", "bare", "httpx2", decodes=False),
    Contestant("bare-aiohttp", "bare reading, aiohttp", "floor", "bare", "aiohttp", decodes=False),
    Contestant("streamcore", "streamcore", "ours", "ours", "prompt"),
    Contestant("streamcore-request", "streamcore, stream_request", "ours", "ours", "request", crowds=False),
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
    """Return the peers as they are pinned."""
    return tuple(
        Contestant(name, row["title"], "peer", name, "", tuple(row["wires"]), tuple(row["requires"]))
        for name, row in tomllib.loads(pins.read_text("utf-8")).items()
    )
