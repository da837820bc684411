"""Send the pieces of many answers at their times, from one timer, and measure how late each was.

A task that sleeps before every piece costs more than sending it. Here a heap knows what is due next, and one timer
serves all streams; a stream's task wakes up only at its end, or when its client does not read.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable, Sequence
from typing import Protocol

Schedule = Sequence[tuple[float, bytes]]
"""What to send, and how many seconds after the start."""

_BURST = 200  # pieces, after which the event loop gets a turn to read requests and notice closed connections
_SLOT = 0.0001  # seconds: how finely lags are counted
_SLOTS = 20_000  # up to 2 s


def scheduled(frames: Iterable[tuple[bytes, bool]], rate: float | None) -> Schedule:
    """Return frames (bytes, and whether they are paced) as HTTP chunks with their times, `rate` paced ones a second.

    A frame that is not paced is sent with the one before it. Without a rate all are due at once, one by one.
    """
    schedule: list[tuple[float, bytes]] = []
    number = 0
    for data, paced in frames:
        # The framing is written here: h11 would copy every piece to do the same.
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        number += paced
        if rate and schedule and not paced:
            at, before = schedule[-1]
            schedule[-1] = (at, before + chunk)
        else:
            schedule.append((number / rate if rate else 0.0, chunk))
    return schedule


class Line(Protocol):
    """The connection that pieces are written to, with a flag for a slow client."""

    @property
    def writable(self) -> asyncio.Event:
        """Set while the client reads fast enough."""
        ...

    def write(self, data: bytes) -> None:
        """Write bytes to the socket."""
        ...


class Lag:
    """How late pieces were sent, in seconds: a histogram, whose memory does not grow with their number."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self._slots = [0] * (_SLOTS + 1)

    def add(self, seconds: float) -> None:
        """Count one piece."""
        self.count += 1
        self._slots[min(int(seconds / _SLOT), _SLOTS)] += 1
        if seconds > self.longest:
            self.longest = seconds

    def quantile(self, share: float) -> float:
        """Return the lag, rounded up to 0.1 ms, that this share of the pieces did not exceed."""
        left = share * self.count
        for slot, count in enumerate(self._slots):
            left -= count
            if left <= 0 and self.count:
                return min((slot + 1) * _SLOT, self.longest) if slot < _SLOTS else self.longest
        return 0.0


class _Part:
    """One answer that is being sent."""

    __slots__ = ("gone", "line", "position", "schedule", "start", "turn")

    def __init__(self, schedule: Schedule, line: Line, start: float) -> None:
        self.schedule = schedule
        self.line = line
        self.start = start
        self.position = 0
        self.gone = False
        self.turn: asyncio.Future[None]


class Pacer:
    """Send answers at their times on the running loop."""

    def __init__(self) -> None:
        self.lag = Lag()
        self._due: list[tuple[float, int, _Part]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0  # the time of the timer; uvloop's handle of a timer that has fired does not know it

    async def play(self, schedule: Schedule, line: Line) -> None:
        """Send a schedule to its end; delays by a slow client do not count as lag."""
        loop = asyncio.get_running_loop()
        part = _Part(schedule, line, loop.time())
        try:
            while part.position < len(schedule):
                part.turn = loop.create_future()
                self._push(part)
                await part.turn
                if not line.writable.is_set():
                    await line.writable.wait()
                    if part.position < len(schedule):
                        part.start = max(part.start, loop.time() - schedule[part.position][0])
        finally:
            part.gone = True

    def _push(self, part: _Part) -> None:
        self._number += 1  # parts that are due together are sent in the order of their arrival
        heapq.heappush(self._due, (part.start + part.schedule[part.position][0], self._number, part))
        self._wake()

    def _wake(self) -> None:
        """Set the timer to the time of the earliest part."""
        due = self._due[0][0]
        if self._timer is None or self._fires_at > due:
            if self._timer is not None:
                self._timer.cancel()
            self._fires_at = due
            self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        heap, lag, clock = self._due, self.lag, asyncio.get_running_loop().time
        for _ in range(_BURST):
            if not heap:
                return
            due, number, part = heap[0]
            late = clock() - due
            if late < 0:
                break
            if part.gone:
                heapq.heappop(heap)
                continue
            part.line.write(part.schedule[part.position][1])
            lag.add(late)
            part.position += 1
            if part.position < len(part.schedule) and part.line.writable.is_set():
                heapq.heapreplace(heap, (part.start + part.schedule[part.position][0], number, part))
            else:
                heapq.heappop(heap)
                if not part.turn.done():  # it was cancelled, and its task has not run yet
                    part.turn.set_result(None)
        if heap:
            self._wake()
