"""List the targets for streamcore's speed, which every run checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.peers.race import FASTEST
from benchmarks.peers.results import Measure, Results
from benchmarks.peers.wires import WIRES

OFFERED = 50_000.0
"""Tokens a second of the thousand streams."""
_PEERS = {"litellm": "litellm", "langchain": "LangChain", "pydantic_ai": "pydantic-ai", "any_llm": "any-llm"}
_OURS = {
    "httpx2": ("streamcore-httpx2", "streamcore-request-httpx2"),
    "aiohttp": ("streamcore-aiohttp", "streamcore-request-aiohttp"),
}
_CHEAPER = {"openai": 10.0, "anthropic": 4.0}


@dataclass(frozen=True, slots=True)
class Target:
    """Describe one target and the result of a run."""

    says: str
    found: float
    limit: float
    at_least: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool:
        """True if the target was met."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def targets(results: Results) -> list[Target]:
    """Return the targets for which this run has figures."""
    return [*_burst(results), *_setup(results), *_paced(results), *_crowd(results)]


def _worst(results: Results, measure: Measure, wire: str, names: tuple[str, ...], base: str) -> float | None:
    ratios = [results.ratio(measure, wire, name, base) for name in names]
    return max((ratio for ratio in ratios if ratio is not None), default=None)


def _burst(results: Results) -> Iterator[Target]:
    for wire in WIRES:
        for transport, limit in (("httpx2", 1.4), ("aiohttp", 0.5)):
            found = _worst(results, "burst", wire, _OURS[transport], "bare-httpx2")
            if found is not None:
                yield Target(f"burst, {wire}: streamcore on {transport} / bare httpx2", found, limit)
    for wire, limit in _CHEAPER.items():
        for name, title in _PEERS.items():
            for transport, (ours, _) in _OURS.items():
                found = results.ratio("burst", wire, name, ours)
                if found is not None:
                    yield Target(f"burst, {wire}: {title} / streamcore on {transport}", found, limit, at_least=True)


def _setup(results: Results) -> Iterator[Target]:
    for wire in WIRES:
        for transport, names in _OURS.items():
            found = _worst(results, "setup", wire, names, "sdk-raw")
            if found is not None:
                yield Target(f"setup, {wire}: streamcore on {transport} / the SDK's raw call", found, 1.05)


def _paced(results: Results) -> Iterator[Target]:
    for transport, limit in (("httpx2", 1.2), ("aiohttp", 0.5)):
        found = results.ratio("paced", "crowd", _OURS[transport][0], "bare-httpx2")
        if found is not None:
            yield Target(f"100 streams: streamcore on {transport} / bare httpx2", found, limit)
    late = results.figure("paced-p99", "crowd", "langchain")
    for transport, (name, _) in _OURS.items():
        figure = results.figure("paced-p99", "crowd", name)
        if figure is not None:
            yield Target(f"100 streams: p99 lag of streamcore on {transport}", figure.median, 5.0, unit=" ms")
    if late is not None:
        yield Target("100 streams: p99 lag of LangChain, for comparison", late.median, 50.0, at_least=True, unit=" ms")


def _crowd(results: Results) -> Iterator[Target]:
    ours = results.figure("crowd-rate", "crowd", FASTEST)
    memory = results.figure("crowd-memory", "crowd", FASTEST)
    if ours is None or memory is None:
        return
    share = ours.median / OFFERED * 100
    yield Target("1,000 streams: of what was offered, on aiohttp", share, 80.0, at_least=True, unit="%")
    for name, title in _PEERS.items():
        peer = results.figure("crowd-rate", "crowd", name)
        if peer is not None:
            times = ours.median / max(peer.median, 1.0)
            more, theirs = results.figure("rush-rate", "crowd", FASTEST), results.figure("rush-rate", "crowd", name)
            if more is None or theirs is None:
                yield Target(f"1,000 streams: streamcore on aiohttp / {title}", times, 8.0, at_least=True)
            else:  # what was offered first was too little to tell
                best = max(theirs.median, peer.median)
                says = f"1,000 streams, 100,000 tokens/s offered: streamcore on aiohttp / {title} at its best"
                yield Target(says, more.median / best, 8.0, at_least=True)
    yield Target("1,000 streams: memory of a stream, on aiohttp", memory.median, 60.0, unit=" KiB")
