"""Measure the contestants in turns, round by round, so that other load on the machine affects all of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.contestants import Contestant
from benchmarks.peers.processes import Server, Worker, WorkerError
from benchmarks.peers.results import Measure, Results
from streamcore.testing.simulator.answers import counted

CROWD_WIRE = "openai"
FASTEST = "streamcore-aiohttp"
_MIB = 1024**2
# What a reader says of many streams, in which unit, and what it is called for the few, for the many, and for the many
# of whom more is asked.
_STREAMS: tuple[tuple[str, float, Measure, Measure, Measure], ...] = (
    ("running", 1, "paced-running", "crowd-running", "rush-running"),
    ("opened", 1, "paced-opened", "crowd-opened", "rush-opened"),
    ("memory", 1 / 1024, "paced-memory", "crowd-memory", "rush-memory"),
)
_WINDOWS: tuple[tuple[str, float, Measure, Measure, Measure], ...] = (
    ("cpu", 1e6, "paced", "crowd", "rush"),
    ("rate", 1, "paced-rate", "crowd-rate", "rush-rate"),
    ("lag_median", 1000, "paced-lag", "crowd-lag", "rush-lag"),
    ("lag_p99", 1000, "paced-p99", "crowd-p99", "rush-p99"),
)
_SERVER: tuple[Measure, Measure, Measure] = ("server-paced-p99", "server-crowd-p99", "server-rush-p99")
_FAR = 8.0


@dataclass(frozen=True, slots=True)
class Many:
    """Describe a measurement of many simultaneous streams."""

    streams: int
    ramp: float
    """The seconds within which all requests are sent."""
    pause: float
    """The seconds from then to the first token, so that opening streams does not compete with reading them."""
    cap: float
    """The seconds after which the measurement begins without the streams that have no token yet."""
    interval: float = 0.02
    """The seconds between two tokens of a stream."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Describe how much is measured."""

    tokens: int = 2000
    rounds: int = 5
    """The rounds of bursts and setups."""
    more: int = 8
    """The rounds after these, without contestants that are slow and far from every target."""
    requests: int = 20
    """The requests in a round of setups."""
    starts: int = 3
    """The fresh processes, for import and first answer."""
    crowds: int = 2
    """The fresh processes that read many streams at once; one for contestants that are far from their targets."""
    windows: int = 5
    """The measurements in each of these."""
    window: float = 1.0
    """The seconds of a measurement."""
    few: Many = Many(100, ramp=0.5, pause=0.5, cap=3.0)
    many: Many = Many(1000, ramp=1.0, pause=5.0, cap=10.0)
    rush: Many | None = Many(1000, ramp=1.0, pause=5.0, cap=10.0, interval=0.01)
    """For streamcore, which reads all tokens of `many`, and the peers that read at least an eighth of them."""


QUICK = Plan(
    rounds=3,
    more=6,
    requests=10,
    starts=1,
    crowds=1,
    windows=1,
    many=Many(1000, ramp=1.0, pause=2.0, cap=5.0),
    rush=None,
)

Say = Callable[[str], None]


class Race:
    """Measure all contestants; a contestant that fails is left out and reported."""

    def __init__(self, contestants: Sequence[Contestant], plan: Plan, home: Path, results: Results, say: Say) -> None:
        self._all = list(contestants)
        self._plan = plan
        self._home = home
        self._log = home / "readers.log"
        self._results = results
        self._say = say

    def run(self, wires: Sequence[str], *, crowds: bool = True) -> None:
        """Measure everything."""
        self._say("import and first answer")
        self._starts()
        for wire in wires:
            self._say(f"burst and setup: {wire}")
            with self._workers(wire) as workers:
                self._bursts(wire, workers)
                self._setups(wire, workers)
        if crowds:
            self._crowds()

    def _worker(self, contestant: Contestant) -> Worker:
        return Worker(self._log, contestant.python(self._home), contestant.reader, contestant.variant)

    def _starts(self) -> None:
        with Server(self._log, 1) as server:
            for number in range(self._plan.starts + 1):
                for contestant in _turned([one for one in self._all if one.crowds], number):
                    try:
                        with self._worker(contestant) as worker:
                            imported = worker.imported()
                            first = worker.ask(do="setup", wire=CROWD_WIRE, url=server.url, requests=1)
                    except WorkerError as error:
                        self._all.remove(contestant)
                        self._results.leave_out(contestant.name, "import", error)
                        continue
                    if number:  # the first start compiles and warms the disk's cache
                        self._started(contestant.name, imported, first["cpu"])

    def _started(self, name: str, imported: dict[str, float], first: float) -> None:
        self._results.add("import", "import", name, imported["cpu"] * 1000)
        self._results.add("import-memory", "import", name, imported["memory"] / _MIB)
        self._results.add("first", "import", name, (imported["cpu"] + first) * 1000)

    @contextmanager
    def _workers(self, wire: str) -> Generator[dict[Contestant, Worker]]:
        """Start one reader for each contestant that can read this wire."""
        with ExitStack() as stack:
            workers = {
                contestant: stack.enter_context(self._worker(contestant))
                for contestant in self._all
                if wire in contestant.wires
            }
            for contestant, worker in list(workers.items()):  # they import at the same time
                try:
                    worker.imported()
                except WorkerError as error:
                    del workers[contestant]
                    self._results.leave_out(contestant.name, wire, error)
            yield workers

    def _bursts(self, wire: str, workers: dict[Contestant, Worker]) -> None:
        tokens = self._plan.tokens
        whole = "".join(counted(tokens).tokens)

        def burst(contestant: Contestant, said: dict[str, Any]) -> None:
            if contestant.decodes and (said["text"] != whole or said["pieces"] != tokens):
                raise WorkerError(f"brought {said['pieces']} of {tokens} tokens, or another text")
            self._results.add("burst", wire, contestant.name, said["cpu"] / tokens * 1e6)
            self._results.add("burst-pace", wire, contestant.name, said["pace"])

        with Server(self._log, tokens) as server:
            before = server.cpu()
            asked = self._rounds(wire, workers, burst, do="burst", url=server.url)
            self._results.about[f"server-burst-{wire}"] = (server.cpu() - before) / max(asked, 1) / tokens * 1e6

    def _setups(self, wire: str, workers: dict[Contestant, Worker]) -> None:
        def setup(contestant: Contestant, said: dict[str, Any]) -> None:
            self._results.add("setup", wire, contestant.name, said["cpu"] * 1000)
            self._results.add("setup-pace", wire, contestant.name, said["pace"])

        with Server(self._log, 1) as server:
            self._rounds(wire, workers, setup, do="setup", url=server.url, requests=self._plan.requests)

    def _rounds(
        self,
        wire: str,
        workers: dict[Contestant, Worker],
        note: Callable[[Contestant, dict[str, Any]], None],
        **asked: Any,
    ) -> int:
        """Ask each reader once a round, and return how often one was asked.

        The first round is for connections and caches, and is not kept.
        """
        count = 0
        for number in range(self._plan.rounds + self._plan.more + 1):
            asks = list(workers) if number <= self._plan.rounds else [one for one in workers if one.close]
            for contestant in _turned(asks, number):
                try:
                    count += 1
                    said = workers[contestant].ask(wire=wire, **asked)
                    if number:
                        note(contestant, said)
                except WorkerError as error:
                    del workers[contestant]
                    self._results.leave_out(contestant.name, wire, error)
        return count

    def _crowds(self) -> None:
        readers = [contestant for contestant in self._all if contestant.crowds]
        for number in range(self._plan.crowds):
            for place, crowd in enumerate((self._plan.few, self._plan.many)):
                self._say(f"{crowd.streams:,} streams, round {number + 1} of {self._plan.crowds}")
                for contestant in _turned([one for one in readers if number == 0 or one.close], number):
                    try:
                        self._crowd(contestant, crowd, place)
                    except WorkerError as error:
                        readers.remove(contestant)
                        self._results.leave_out(contestant.name, "crowd", error)
        if self._plan.rush is not None:
            self._rush(self._plan.rush, readers)

    def _rush(self, rush: Many, readers: list[Contestant]) -> None:
        for contestant in readers:
            if contestant.name == FASTEST or (contestant.kind == "peer" and self._near(contestant)):
                self._say(f"{rush.streams:,} streams, a token every {rush.interval * 1000:g} ms: {contestant.title}")
                try:
                    self._crowd(contestant, rush, 2)
                except WorkerError as error:
                    self._results.leave_out(contestant.name, "rush", error)

    def _near(self, contestant: Contestant) -> bool:
        """True if what was offered was too little to tell whether a peer is far behind."""
        times = self._results.ratio("crowd-rate", "crowd", FASTEST, contestant.name)
        return times is not None and times < _FAR

    def _crowd(self, contestant: Contestant, crowd: Many, place: int) -> None:
        """Read many streams in a fresh process: a reader that fell behind would still be busy in its next turn."""
        plan, name, add = self._plan, contestant.name, self._results.add
        with (
            Server(self._log, 1) as short,
            Server(self._log, 3000, 1 / crowd.interval, crowd.pause) as server,
            self._worker(contestant) as worker,
        ):
            worker.imported()
            worker.ask(do="setup", wire=CROWD_WIRE, url=short.url, requests=2)  # late imports, caches
            said = worker.ask(
                do="crowd",
                wire=CROWD_WIRE,
                url=server.url,
                streams=crowd.streams,
                ramp=crowd.ramp,
                cap=crowd.cap,
                interval=crowd.interval,
                window=plan.window,
                windows=plan.windows,
            )
            if contestant.name == "bare-aiohttp":  # it reads at once, so all lateness is the simulator's
                add(_SERVER[place], "crowd", name, server.statistics()["lag_p99"])
        if said["failed"]:
            raise WorkerError(f"{said['failed']} streams failed")
        for key, factor, *measures in _STREAMS:
            add(measures[place], "crowd", name, said[key] * factor)
        for window in said["windows"]:
            for key, factor, *measures in _WINDOWS:
                if window[key] is not None:  # no token came at all
                    add(measures[place], "crowd", name, window[key] * factor)


def _turned(these: list[Contestant], number: int) -> list[Contestant]:
    """Return a copy that begins elsewhere each round, so that no reader always runs after the same other one."""
    place = number * 3 % max(len(these), 1)
    return these[place:] + these[:place]
