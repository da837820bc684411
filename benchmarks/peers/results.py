"""Store the measurements by measure, wire and contestant; write them to a file and read them back."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_SHOWN = 200  # characters of a reason: some errors quote a whole answer

Measure = Literal[
    "burst",  # microseconds of CPU per token
    "burst-pace",  # seconds of CPU that a fixed piece of work took right before and after, on average
    "setup",  # milliseconds of CPU per request
    "setup-pace",
    "import",  # milliseconds of CPU, with making the objects that a call is made on
    "import-memory",  # MiB
    "first",  # milliseconds of CPU from before the import to the end of the first answer
    "paced",  # a hundred streams: microseconds of CPU per token
    "paced-rate",  # tokens a second
    "paced-lag",  # milliseconds, median
    "paced-p99",  # milliseconds
    "paced-running",  # streams that had brought a token when the measuring began
    "paced-opened",  # seconds that it took until then
    "paced-memory",  # KiB per stream
    "server-paced-p99",  # milliseconds by which the simulator itself sent late
    "server-crowd-p99",
    "crowd",  # a thousand streams: microseconds of CPU per token
    "crowd-rate",  # tokens a second
    "crowd-lag",
    "crowd-p99",  # milliseconds
    "crowd-running",
    "crowd-opened",
    "crowd-memory",
    "rush",  # the same, and twice the tokens a second
    "rush-rate",
    "rush-lag",
    "rush-p99",
    "rush-running",
    "rush-opened",
    "rush-memory",
    "server-rush-p99",
]


@dataclass(frozen=True, slots=True)
class Figure:
    """Summarize the values of one measure of one contestant."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The least."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The greatest."""
        return max(self.values)


@dataclass(slots=True)
class Results:
    """Contain all results of one run."""

    about: dict[str, Any] = field(default_factory=dict[str, Any])
    """The time, the machine and the versions of the run."""
    versions: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """By contestant."""
    left_out: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Contestant, wire or phase, and the reason."""
    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict[tuple[str, str, str], list[float]])

    def add(self, measure: Measure, wire: str, name: str, value: float) -> None:
        """Note one value."""
        self.values.setdefault((measure, wire, name), []).append(value)

    def leave_out(self, name: str, where: str, reason: object) -> None:
        """Note why something was not measured; what it had brought there before is dropped."""
        said = " ".join(str(reason).split())
        self.left_out.append((name, where, said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."))
        for key in [key for key in self.values if key[1:] == (where, name)]:
            del self.values[key]

    def figure(self, measure: Measure, wire: str, name: str) -> Figure | None:
        """Return what was measured, if it was."""
        values = self.values.get((measure, wire, name))
        return Figure(tuple(values)) if values else None

    def ratio(self, measure: Measure, wire: str, name: str, base: str) -> float | None:
        """Return how many times as much one contestant took as another: the median of the rounds that both were in.

        Each value is measured by the machine's pace at that moment, where that is known.
        """
        of, to = self._paced(measure, wire, name), self._paced(measure, wire, base)
        return statistics.median(a / b for a, b in zip(of, to, strict=False)) if of and to else None

    def _paced(self, measure: Measure, wire: str, name: str) -> list[float]:
        values = self.values.get((measure, wire, name), [])
        paces = self.values.get((f"{measure}-pace", wire, name))
        return [value / pace for value, pace in zip(values, paces, strict=True)] if paces else values

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        rows = [[*key, values] for key, values in self.values.items()]
        found = {"about": self.about, "versions": self.versions, "left_out": self.left_out, "values": rows}
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        found = json.loads(path.read_text("utf-8"))
        rows: Iterable[Any] = found["values"]
        values = {(measure, wire, name): values for measure, wire, name, values in rows}
        return cls(found["about"], found["versions"], [tuple(row) for row in found["left_out"]], values)
