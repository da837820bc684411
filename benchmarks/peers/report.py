"""Write the results of a run: tables for the terminal, and the page docs/benchmarks.md with its picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.contestants import HOME, Contestant, peers
from benchmarks.peers.page import PAGE
from benchmarks.peers.plot import Bar, bars
from benchmarks.peers.results import Figure, Measure, Results
from benchmarks.peers.targets import targets
from benchmarks.peers.wires import WIRES

PICTURE = "img/benchmarks.svg"
_NAMES = {
    "openai": "openai chat",
    "openai-responses": "openai responses",
    "anthropic": "anthropic",
    "mistral": "mistral",
}
_START: tuple[tuple[str, Measure], ...] = (
    ("import, ms CPU", "import"),
    ("memory after it, MiB", "import-memory"),
    ("to the end of the first answer, ms CPU", "first"),
)
_PACED: tuple[tuple[str, Measure], ...] = (
    ("us CPU a token", "paced"),
    ("tokens/s", "paced-rate"),
    ("median lag, ms", "paced-lag"),
    ("p99 lag, ms", "paced-p99"),
)
_CROWD: tuple[tuple[str, Measure], ...] = (
    ("tokens/s", "crowd-rate"),
    ("us CPU a token", "crowd"),
    ("p99 lag, ms", "crowd-p99"),
    ("streams running", "crowd-running"),
    ("after, s", "crowd-opened"),
    ("KiB a stream", "crowd-memory"),
)
_RUSH: tuple[tuple[str, Measure], ...] = (
    ("tokens/s", "rush-rate"),
    ("us CPU a token", "rush"),
    ("p99 lag, ms", "rush-p99"),
    ("streams running", "rush-running"),
    ("after, s", "rush-opened"),
    ("KiB a stream", "rush-memory"),
)


def _everyone(results: Results) -> list[Contestant]:
    seen = {name for _, _, name in results.values}
    return [contestant for contestant in (*HOME, *peers()) if contestant.name in seen]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    low, high = _number(figure.low), _number(figure.high)
    return _number(figure.median) + (f" ({low}-{high})" if low != high else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)) + " |" for line in lines
    )


def _by_wire(results: Results, measure: Measure) -> str:
    wires = [wire for wire in WIRES if any(key[:2] == (measure, wire) for key in results.values)]
    rows = [
        [contestant.title, *(_cell(results.figure(measure, wire, contestant.name)) for wire in wires)]
        for contestant in _everyone(results)
        if any(results.figure(measure, wire, contestant.name) for wire in wires)
    ]
    return _table(["", *(_NAMES[wire] for wire in wires)], rows)


def _by_measure(results: Results, where: str, columns: Sequence[tuple[str, Measure]]) -> str:
    rows = [
        [contestant.title, *(_cell(results.figure(measure, where, contestant.name)) for _, measure in columns)]
        for contestant in _everyone(results)
        if results.figure(columns[0][1], where, contestant.name)
    ]
    return _table(["", *(head for head, _ in columns)], rows) if rows else "Not measured in this run."


def _targets(results: Results) -> tuple[str, bool]:
    found = targets(results)
    rows = [
        [
            one.says,
            f"{'>=' if one.at_least else '<='} {one.limit:g}{one.unit}",
            f"{one.found:.2f}{one.unit}",
            "yes" if one.met else "NO",
        ]
        for one in found
    ]
    return _table(["", "target", "found", "met"], rows), all(one.met for one in found)


def _sections(results: Results) -> dict[str, str]:
    met, _ = _targets(results)
    return {
        "burst": _by_wire(results, "burst"),
        "setup": _by_wire(results, "setup"),
        "start": _by_measure(results, "import", _START),
        "paced": _by_measure(results, "crowd", _PACED),
        "crowd": _by_measure(results, "crowd", _CROWD),
        "rush": _by_measure(results, "crowd", _RUSH),
        "targets": met,
    }


OTHERS = re.compile(r"^<!-- \w+: written by .*?^<!-- \w+: end -->$", re.MULTILINE | re.DOTALL)
"""The sections of the page that other benchmarks write."""


def summary(results: Results) -> tuple[str, bool]:
    """Return the tables as text, and True if every target was met."""
    titles = {
        "burst": "Burst, microseconds of CPU per token",
        "setup": "Setup, milliseconds of CPU per request",
        "start": "Start of a process",
        "paced": "100 streams at 20 ms",
        "crowd": "1,000 streams at 20 ms",
        "rush": "1,000 streams at 10 ms",
        "targets": "Targets",
    }
    parts = [f"{titles[name]}\n\n{table}" for name, table in _sections(results).items()]
    parts.extend(f"left out: {name}, {where}: {reason}" for name, where, reason in results.left_out)
    return "\n\n".join(parts), _targets(results)[1]


def write(results: Results, docs: Path) -> None:
    """Write the page and its picture."""
    shown = [
        contestant
        for contestant in _everyone(results)
        if contestant.variant != "raw" and "-request" not in contestant.name
    ]
    panels = [
        (_NAMES[wire], [_bar(contestant, results.figure("burst", wire, contestant.name)) for contestant in shown])
        for wire in ("openai", "anthropic")
    ]
    kept = [(name, [bar for bar in rows if bar is not None]) for name, rows in panels]
    title = "CPU per streamed token, microseconds (logarithmic; less is better)"
    (docs / "img").mkdir(exist_ok=True)
    (docs / PICTURE).write_text(bars(title, [panel for panel in kept if panel[1]]), "utf-8")
    text = PAGE.format(picture=PICTURE, **_sections(results), **_about(results))
    page = docs / "benchmarks.md"
    before = page.read_text("utf-8") if page.is_file() else ""
    page.write_text(text.rstrip() + "\n" + "".join(f"\n{section}\n" for section in OTHERS.findall(before)), "utf-8")


def _bar(contestant: Contestant, figure: Figure | None) -> Bar | None:
    return Bar(contestant.title, contestant.kind, figure.median, figure.low, figure.high) if figure else None


def _about(results: Results) -> dict[str, str]:
    """Return the facts about the run itself, for the page."""
    about = results.about
    versions = [
        f"- {contestant.title}: "
        + ", ".join(f"{name} {version}" for name, version in results.versions[contestant.name].items())
        for contestant in _everyone(results)
        if contestant.requires or contestant.name == "streamcore-httpx2"
    ]
    left = [f"- {name}, {where}: {reason}" for name, where, reason in results.left_out]
    server = [
        f"{_NAMES[wire]} {about[f'server-burst-{wire}']:.1f}" for wire in WIRES if f"server-burst-{wire}" in about
    ]
    own = results.figure("server-paced-p99", "crowd", "bare-aiohttp")
    return {
        "when": about["when"],
        "machine": f"{about['machine']}, {about['cores']} cores; {about['system']}; Python {about['python']}",
        "load": f"{about['load']:.1f}",
        "seconds": f"{about['seconds']} s, {about['seconds-installing']} s of them for the environments",
        "rounds": str(about["plan"]["rounds"]),
        "all_rounds": str(about["plan"]["rounds"] + about["plan"]["more"]),
        "windows": str(about["plan"]["windows"]),
        "crowds": str(about["plan"]["crowds"]),
        "tokens": str(about["plan"]["tokens"]),
        "cap": f"{about['plan']['many']['cap']:g}",
        "pause": f"{about['plan']['many']['pause']:g}",
        "versions": "\n".join(versions),
        "left_out": "\n".join(left) or "- Nothing: every contestant ran on every wire that it knows.",
        "server": ", ".join(server),
        "server_p99": _cell(own),
    }
