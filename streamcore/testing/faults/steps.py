"""Define the steps of which a fault is made, and play them on a connection."""

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
    """Send nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes again and again, `every` so many seconds, `times` at most or until the client is gone."""

    data: bytes
    every: float = 0.0
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the connection open, without a byte, until the client is gone."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection with a TCP reset, after a moment in which the client reads what was sent before it.

    Some systems throw unread bytes away when a reset comes; `after` gives readers there the time to read them.
    """

    after: float = 0.05


Step = Send | Pause | Repeat | Hold | Reset
"""After the last step the connection is closed as usual (FIN)."""


class Line:
    """The sending side of a connection: counts bytes, and waits while the client does not read."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self.sent = 0
        self.writable = writable
        self._transport = transport

    async def send(self, data: bytes) -> None:
        """Send, as fast as the client reads."""
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
    """Play steps on a connection, then close it. Whoever calls this cancels it when the client is gone."""
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
