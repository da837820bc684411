"""End open streams when the server is about to stop.

ASGI does not tell an open request that its server stops: `lifespan.shutdown` follows the last response. So uvicorn is
asked by public names: while it serves, the handler of SIGTERM is a method of its `Server`, whose `should_exit` is true
once it was asked to stop. For other servers, call `end_streams`. A server that cancels its open requests instead,
as uvicorn does after `timeout_graceful_shutdown`, needs neither: `SSEResponse` then sends its end.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

from anyio.lowlevel import RunVar

from streamcore.concurrency.event_loop import running_on_trio, start_task

LOOK_SECONDS = 0.25
"""How often the server is asked while streams are open."""


class _OpenStreams:
    """The open streams of one event loop."""

    __slots__ = ("_stops", "_timer")

    def __init__(self) -> None:
        self._stops: set[Callable[[], None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stop: Callable[[], None]) -> None:
        """Add a stream by the function that ends it."""
        self._stops.add(stop)
        if self._timer is None:
            self._schedule()

    def remove(self, stop: Callable[[], None]) -> None:
        """Remove a stream."""
        self._stops.discard(stop)
        if not self._stops and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end_all(self) -> None:
        """End every stream, each once."""
        start_task(self._end_all)  # a callback of the loop cannot use anyio's task groups

    async def _end_all(self) -> None:
        stops, self._stops = self._stops, set()
        for stop in stops:
            stop()

    def _schedule(self) -> None:
        """Look again later."""
        if not running_on_trio():  # on which uvicorn does not run
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        if _uvicorn_is_stopping():
            self.end_all()
        self._schedule()  # also then: a request that was accepted before may still begin a stream


_OPEN = RunVar[_OpenStreams]("streamcore.sse.open_streams")


@contextmanager
def ended_with_server(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` once, on the event loop, if the server is about to stop inside this block."""
    try:
        streams = _OPEN.get()
    except LookupError:
        streams = _OpenStreams()
        _OPEN.set(streams)
    streams.add(stop)
    try:
        yield
    finally:
        streams.remove(stop)


def end_streams() -> None:
    """End every open `sse_response` of the running event loop, as at SIGTERM under uvicorn.

    Each client gets `stream-error` and the end; one that does not read them within `grace` seconds is disconnected.
    Call it when a server other than uvicorn begins to shut down, before it waits for open requests.
    """
    try:
        streams = _OPEN.get()
    except LookupError:
        return
    streams.end_all()


def _uvicorn_is_stopping() -> bool:
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
