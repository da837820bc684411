"""Define the steps of a fault, and play them on a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_PIECE = 256 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: closing sends RST instead of FIN


@dataclass(frozen=True, slots=True)
class Send:
    """Send exactly these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes `every` so many seconds, at most `times` or until the client closes the connection."""

    data: bytes
    every: float = 0.0
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the connection open, without sending, until the client closes it."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection with a TCP reset, after the client had time to read what was sent before.

    Some systems discard unread bytes at a reset; `after` is the time in seconds that readers get to read them.
    """

    after: float = 0.05


Step = Send | Pause | Repeat | Hold | Reset
"""After the last step the connection is closed as usual (FIN)."""


def slower(step: Step, factor: float) -> Step:
    """Return the step with its pauses so many times as long."""
    match step:
        case Pause(seconds):
            return Pause(factor * seconds)
        case Repeat(data, every, times):
            return Repeat(data, factor * every, times)
        case _:
            return step


class Line:
    """The sending side of a connection: it counts bytes, and waits while the client does not read."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self.sent = 0
        self.writable = writable
        self._transport = transport

    async def send(self, data: bytes) -> None:
        """Send data as fast as the client reads."""
        for start in range(0, len(data), _PIECE):
            await self.writable.wait()
            piece = data[start : start + _PIECE]
            self._transport.write(piece)
            self.sent += len(piece)

    def reset(self) -> None:
        """Break the connection with RST."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._transport.close()


async def play(steps: Iterable[Step], line: Line) -> None:
    """Play steps on a connection, then close it. The caller cancels this when the client closes the connection."""
    for step in steps:
        match step:
            case Send(data):
                await line.send(data)
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Repeat(data, every, times):
                done = 0
                while times is None or done < times:
                    await line.send(data)
                    await asyncio.sleep(every)
                    done += 1
            case Hold():
                await asyncio.Event().wait()
            case Reset(after):
                await asyncio.sleep(after)
                line.reset()
                return
    line.close()
