"""Serve the simulator with a pause before the first token, so that many streams can be opened before tokens flow.

python -m benchmarks.peers.server --tokens 3000 --rate 50 --pause 4
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from streamcore.testing.simulator.answers import Answer, counted
from streamcore.testing.simulator.pacer import Line, Pacer, Schedule
from streamcore.testing.simulator.server import Simulator
from streamcore.testing.simulator.service import serve


class SlowStart(Simulator):
    """Simulate a vendor whose answers begin some seconds after the request, as a model's do."""

    def __init__(self, answer: Answer, *, rate: float, pause: float) -> None:
        super().__init__(answer, rate=rate)
        self._pause = pause
        self._paused: dict[int, Schedule] = {}

    def rendered(self, wire: str, answer: Answer) -> Schedule:
        """Return what to send, and when: everything after the headers that much later."""
        schedule = super().rendered(wire, answer)
        if id(schedule) not in self._paused:
            self._paused[id(schedule)] = [(at + self._pause, data) for at, data in schedule]
        return self._paused[id(schedule)]


class Gate(Pacer):
    """Send answers that begin some seconds after the first request, in the order of the requests.

    The first tokens take a tenth of the time that the requests took, so that not all streams have their tokens at the
    same moment.
    """

    def __init__(self, pause: float) -> None:
        super().__init__()
        self._pause = pause
        self._first: float | None = None

    async def play(self, schedule: Schedule, line: Line) -> None:
        """Wait for the answer's turn, and send it."""
        now = asyncio.get_running_loop().time()
        self._first = now if self._first is None else self._first
        await asyncio.sleep(max(0, self._first + self._pause + (now - self._first) / 10 - now))
        await super().play(schedule, line)


def main() -> None:
    """Serve until terminated; the first line printed is the URL."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--pause", type=float, required=True)
    parser.add_argument("--gate", action="store_true", help="the pause begins with the first request, not with each")
    options = parser.parse_args()

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    simulator = SlowStart(counted(options.tokens), rate=options.rate, pause=0 if options.gate else options.pause)
    if options.gate:
        simulator.pacer = Gate(options.pause)
    serve(simulator, say)


if __name__ == "__main__":
    main()
