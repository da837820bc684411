"""Measure the CPU time of `import streamcore`, next to `import httpx2`, which every SDK imports.

CPU of a fresh process, its bare start taken off; medians of rounds that take turns.

    python benchmarks/imports.py [--rounds 15] [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

TARGET = 2.5


def cpu(code: str) -> float:
    """Return the CPU seconds of a fresh process that runs the code."""
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def measure(rounds: int) -> float:
    """Print the figures and return the ratio."""
    codes = {"python": "pass", "httpx2": "import httpx2", "streamcore": "import streamcore"}
    taken: dict[str, list[float]] = {name: [] for name in codes}
    for code in codes.values():
        cpu(code)  # compiled files, disk cache
    for _ in range(rounds):
        for name, code in codes.items():
            taken[name].append(cpu(code))
    start = statistics.median(taken["python"])
    costs = {name: statistics.median(figures) - start for name, figures in taken.items() if name != "python"}
    ratio = costs["streamcore"] / costs["httpx2"]
    for name, cost in costs.items():
        print(f"import {name:12} {cost * 1000:6.0f} ms CPU (median of {rounds})")
    print(f"ratio {ratio:.2f}, at most {TARGET}")
    return ratio


def main() -> None:
    """Measure; exit 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    sys.exit(0 if measure(5 if options.quick else options.rounds) < TARGET else 1)


if __name__ == "__main__":
    main()
