"""Write a script's section of docs/benchmarks.md, between marks of its own, with its targets as met or NO."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Target:
    """Represent one target and what a run found."""

    text: str
    found: float
    limit: float
    at_least: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """True if the target was met."""
        return self.found >= self.limit if self.at_least else self.found <= self.limit


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)) + " |" for line in lines
    )


def target_table(targets: Sequence[Target]) -> str:
    """Return the table of targets: each with its limit, what was found, and yes or NO."""
    rows = [
        [
            one.text,
            f"{'>=' if one.at_least else '<='} {one.limit:,g}{one.unit}",
            f"{one.found:,.3g}{one.unit}" if abs(one.found) < 1000 else f"{one.found:,.0f}{one.unit}",
            "yes" if one.met else "NO",
        ]
        for one in targets
    ]
    return table(["", "target", "found", "met"], rows)


def about(command: str, seconds: float) -> str:
    """Return the sentence about a run: when, where and how long."""
    now = f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC"
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end"
    return f"One run of `{command}`: {now}, {machine}, {seconds:.0f} s."


def write_section(name: str, script: str, body: str, page: Path = PAGE) -> None:
    """Replace the section with this name on the page, or append it; `make bench` keeps it."""
    begin, end = f"<!-- {name}: written by {script} -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{body.strip()}\n{end}\n"
    text = page.read_text("utf-8")
    if begin in text:
        before, _, rest = text.partition(begin)
        text = before + section + rest.partition(f"{end}\n")[2]
    else:
        text = f"{text.rstrip()}\n\n{section}"
    page.write_text(text, "utf-8")
