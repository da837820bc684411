"""Serve all four wires over real HTTP on loopback, from made-up answers, at a given pace.

`python -m streamcore.testing` runs it in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import h11

from streamcore.testing.answers import Answer, Asked, plausible
from streamcore.testing.asked import asked_on
from streamcore.testing.encode import Frame, frames
from streamcore.testing.faults import Fault, find_fault
from streamcore.testing.steps import Line, play

Decide = Callable[[Asked], Answer]

# Where each wire is served, and what a provider must be given as its base URL to get there.
ROUTES: Mapping[str, str] = {
    "/v1/messages": "anthropic-messages",
    "/v1/chat/completions": "openai-chat",
    "/v1/responses": "openai-responses",
    "/mistral/v1/chat/completions": "mistral-chat",
}
BASE_PATHS: Mapping[str, str] = {"anthropic": "", "mistral": "/mistral"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request that the simulator got."""

    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any] = field(repr=False)


class Simulator:
    """A server on 127.0.0.1 and a free port, in a thread with an event loop of its own.

    Use it as a context manager; leaving it closes every connection and joins the thread.

    Args:
        answer: what to say: an `Answer`, a text, or a function of what was asked. By default something plausible.
        rate: tokens per second and stream; None sends as fast as the reader reads.
        port: 0 takes a free one.
        fault: what goes wrong with every answer, by its name in `FAULTS`.

    Raises:
        ValueError: there is no such fault, or it lies in an address rather than in what a server says.
    """

    def __init__(
        self,
        answer: Answer | str | Decide = plausible,
        *,
        rate: float | None = None,
        port: int = 0,
        fault: Fault | str | None = None,
    ) -> None:
        text = Answer.of(answer) if isinstance(answer, str) else answer
        self.decide: Decide = text if callable(text) else lambda asked: _with_model(text, asked)
        self.rate = rate
        self.port = port
        self.fault = find_fault(fault) if isinstance(fault, str) else fault
        if self.fault is not None and self.fault.place != "server":
            raise ValueError(f"fault {self.fault.name!r} lies in the address; only a FaultServer can play it")
        self.requests: list[Recorded] = []
        self.connections = 0
        """How many TCP connections were accepted."""
        self.open = 0
        """How many answers are being streamed now."""
        self.abandoned = 0
        """How many answers the client did not stay to the end of."""
        self.clients: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The root of the server."""
        return f"http://127.0.0.1:{self.port}"

    def base_url(self, provider: str) -> str:
        """Return what `base_url=` must be for a provider: with `/v1`, except Anthropic and Mistral."""
        return self.url + BASE_PATHS.get(provider, "/v1")

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()

    async def _run(self) -> None:
        try:
            await self.listen()
        finally:
            self._ready.set()
        await self.serve()

    async def listen(self) -> str:
        """Bind the port on the running loop and return the URL."""
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.url

    async def serve(self) -> None:
        """Serve, after `listen`, until `stop` is called."""
        if self._server is None or self._stopped is None:
            raise RuntimeError("listen() comes before serve()")
        try:
            await self._stopped.wait()
        finally:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for connection in list(self.clients):
                connection.close()
            await self._server.wait_closed()

    def stop(self) -> None:
        """End `serve`; may be called from any thread."""
        if self._loop is not None and self._stopped is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopped.set)

    def start(self, task: asyncio.Task[None]) -> None:
        """Keep a task alive until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _with_model(answer: Answer, asked: Asked) -> Answer:
    return Answer(answer.tokens, answer.reasoning, answer.calls, asked.model, answer.cut)


class _Connection(asyncio.Protocol):
    """One client: h11 reads its requests; answers are written as they are, one HTTP chunk for each event."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._http = h11.Connection(h11.SERVER)
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  what create_server always gives
        self._simulator.connections += 1
        self._simulator.clients.add(self)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._simulator.clients.discard(self)
        if self._answering is not None:
            self._answering.cancel()

    def close(self) -> None:
        """Drop the connection, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._next_events()

    def _next_events(self) -> None:
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                self._answering = asyncio.get_running_loop().create_task(self._answer(self._request))
                self._simulator.start(self._answering)
            else:
                if isinstance(event, h11.ConnectionClosed) and self._transport is not None:
                    self._transport.close()
                return

    async def _answer(self, request: h11.Request) -> None:
        path = request.target.decode("ascii").partition("?")[0].partition("#")[0]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        wire = ROUTES.get(path)
        try:
            body: dict[str, Any] = json.loads(self._body or b"{}")
        except ValueError:
            wire = None
            body = {}
        self._simulator.requests.append(Recorded(path, headers, body))
        if wire is None or request.method != b"POST":
            self._send_error(404, f"no such address: {request.method.decode()} {path}")
            return
        answer = self._simulator.decide(asked_on(wire, body))
        self._simulator.open += 1
        try:
            if self._simulator.fault is not None and self._transport is not None:
                await play(self._simulator.fault.steps(wire, answer), Line(self._transport, self._writable))
            else:
                await self._stream(list(frames(wire, answer)))
        except asyncio.CancelledError:
            self._simulator.abandoned += 1
            raise
        finally:
            self._simulator.open -= 1

    async def _stream(self, planned: list[Frame]) -> None:
        loop = asyncio.get_running_loop()
        self._write(
            self._http.send(
                h11.Response(
                    status_code=200,
                    headers=[
                        ("content-type", "text/event-stream; charset=utf-8"),
                        ("x-request-id", "req_simulated"),
                        ("transfer-encoding", "chunked"),
                    ],
                )
            )
        )
        due = loop.time()
        for number, (data, paced) in enumerate(planned):
            if paced and self._simulator.rate:
                due += 1 / self._simulator.rate
                await asyncio.sleep(due - loop.time())
            elif number % 64 == 63:
                await asyncio.sleep(0)
            # The framing is written here: h11 would copy every piece to do the same.
            self._write(b"%x\r\n%b\r\n" % (len(data), data))
            if not self._writable.is_set():
                await self._writable.wait()
        self._write(self._http.send(h11.EndOfMessage()))
        self._next_request()

    def _send_error(self, status: int, message: str) -> None:
        body = json.dumps({"error": {"message": message, "type": "not_found_error"}}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        self._write(self._http.send(h11.Response(status_code=status, headers=headers)))
        self._write(self._http.send(h11.Data(data=body)))
        self._write(self._http.send(h11.EndOfMessage()))
        self._next_request()

    def _write(self, data: bytes | None) -> None:
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)

    def _next_request(self) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._next_events()
        elif self._transport is not None:
            self._transport.close()
