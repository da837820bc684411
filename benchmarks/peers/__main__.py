"""Measure streamcore next to its peers, and write the results to docs/benchmarks.md: `python -m benchmarks.peers`.

python -m benchmarks.peers                 everything, with every peer (`make bench`)
python -m benchmarks.peers --quick         a shorter run without peers, printed only (part of `make bench-quick`)
python -m benchmarks.peers --only litellm  some peers
python -m benchmarks.peers --report        write the page again from the last run's figures
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers.contestants import HOME, Contestant, peers
from benchmarks.peers.environments import prepare, versions
from benchmarks.peers.processes import ROOT
from benchmarks.peers.race import QUICK, Plan, Race
from benchmarks.peers.report import summary, write
from benchmarks.peers.results import Results
from benchmarks.peers.wires import WIRES

CACHE = ROOT / ".bench"


def _say(text: str) -> None:
    print(f"{datetime.now(tz=UTC):%H:%M:%S}  {text}", file=sys.stderr, flush=True)


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return f"{platform.machine()}, {' / '.join(sorted(names)) or 'unknown'}"


def _ready(wanted: list[Contestant], results: Results) -> list[Contestant]:
    """Return the contestants whose environment was installed."""
    found: list[Contestant] = []
    for contestant in wanted:
        reason = prepare(contestant, CACHE)
        if reason is None:
            found.append(contestant)
            results.versions[contestant.name] = versions(contestant, CACHE)
        else:
            results.leave_out(contestant.name, "installation", reason)
    return found


def measure(wanted: list[Contestant], plan: Plan, wires: list[str], *, crowds: bool) -> Results:
    """Run the race."""
    CACHE.mkdir(exist_ok=True)
    results = Results()
    start = time.monotonic()
    _say("environments")
    ready = _ready(wanted, results)
    installed = time.monotonic() - start
    Race(ready, plan, CACHE, results, _say).run(wires, crowds=crowds)
    results.about |= {
        "when": f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": _machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds": round(time.monotonic() - start),
        "seconds-installing": round(installed),
        "plan": asdict(plan),
    }
    return results


def _stop(number: int, frame: object) -> None:
    """Exit normally, so that the started processes end, too."""
    sys.exit(128 + number)


def main() -> None:
    """Measure and report; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short, without peers, printed only")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--only", nargs="*", metavar="PEER", choices=[peer.name for peer in peers()])
    parser.add_argument("--wires", nargs="*", choices=WIRES, metavar="WIRE", help="default: all; with --quick one")
    parser.add_argument("--no-crowds", action="store_true", help="leave out the hundred and the thousand streams")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    kept = CACHE / ("quick.json" if options.quick else "results.json")
    if not options.report:
        wanted = [peer for peer in peers() if options.only is None or peer.name in options.only]
        plan = QUICK if options.quick else Plan()
        wires: list[str] = options.wires or [*(WIRES[:1] if options.quick else WIRES)]
        contestants = [*HOME, *([] if options.quick else wanted)]
        results = measure(contestants, plan, wires, crowds=not options.no_crowds)
        results.save(kept)
    results = Results.load(kept)
    text, good = summary(results)
    print(text)
    if not options.quick:
        write(results, ROOT / "docs")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
