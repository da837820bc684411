"""Serve the wires of all vendors over HTTP on loopback, from generated answers or recordings, at a given pace.

`python -m streamcore.testing` runs it in a separate process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h11

from streamcore.testing.faults.steps import Line, play
from streamcore.testing.faults.table import Fault, find_fault
from streamcore.testing.recordings.exchange import Exchange
from streamcore.testing.recordings.matching import Player, UnrecordedRequest
from streamcore.testing.recordings.recording import Recording
from streamcore.testing.simulator.answers import Answer, Asked, in_steps, plausible
from streamcore.testing.simulator.asked import asked_on
from streamcore.testing.simulator.frames import frames
from streamcore.testing.simulator.pacer import Pacer, Schedule, scheduled
from streamcore.testing.simulator.page import Figures, page
from streamcore.testing.simulator.received import BASE_PATHS, ROUTES, WITH_MODEL, ReceivedRequest, route
from streamcore.wire.encoding.wire import find_wire

Decide = Callable[[Asked], Answer]

_KEPT = 10_000  # requests
_RENDERED = 64  # answers
_REQUEST_ID = ("x-request-id", "req_simulated")
_FRAMING = (
    "connection",
    "content-length",
    "keep-alive",
    "transfer-encoding",
)  # of the recorded connection, not of this one


class Simulator:
    """A server on 127.0.0.1 and a free port, in a thread with its own event loop.

    Use it as a context manager; its end closes every connection and joins the thread.

    Args:
        answer: an `Answer`, a text, or a function that takes an `Asked` and returns an `Answer`. A list of answers is
            played for the steps of an agent in turn, whatever its wire. By default a plausible answer.
        rate: tokens (of a recording: reads) per second and stream; None sends as fast as the reader reads;
            `recorded` plays recordings at their recorded times.
        port: 0 selects a free one.
        recordings: recordings, or their files, that answer the requests that match. Other requests get `answer` if it
            is given, else status 404 and a message with the differences.
        fault: the fault that every answer has, by its name in `FAULTS`.

    Raises:
        ValueError: there is no such fault, it is a fault of an address, which a server cannot play, or the rate is not
            valid.
        OSError: at `with`, the port cannot be used.
    """

    def __init__(
        self,
        answer: Answer | str | Sequence[Answer | str] | Decide | None = None,
        *,
        rate: float | Literal["recorded"] | None = None,
        port: int = 0,
        recordings: Iterable[Recording | str | Path] = (),
        fault: Fault | str | None = None,
    ) -> None:
        given: Any = rate
        if given not in (None, "recorded") and not (isinstance(given, (int, float)) and given >= 0):
            raise ValueError(f"rate is a number of tokens per second, 'recorded' or None, not {rate!r}")
        loaded = [one if isinstance(one, Recording) else Recording.load(one) for one in recordings]
        together = Recording(tuple(exchange for one in loaded for exchange in one.exchanges))
        self.player = Player(together.at_pace(rate or 0).exchanges) if loaded else None
        self.decide: Decide = _decide(answer)
        self.rate = None if rate == "recorded" else rate
        self._only_recorded = self.player is not None and answer is None
        self.port = port
        self.fault = find_fault(fault) if isinstance(fault, str) else fault
        if self.fault is not None and self.fault.place != "server":
            raise ValueError(f"fault {self.fault.name!r} is a fault of the address; only a FaultServer can play it")
        self.requests: list[ReceivedRequest] = []
        """The requests; of very many, the latest."""
        self.connections = 0
        """How many TCP connections were accepted."""
        self.open = 0
        """How many answers are streamed now."""
        self.abandoned = 0
        """How many answers the client closed before their end."""
        self.served = 0
        """How many answers were sent to their end."""
        self.pacer = Pacer()
        self.clients: set[_Connection] = set()
        self._most_open = 0
        self._rendered: dict[tuple[str, str, float | None], Schedule] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The root of the server.

        Raises:
            RuntimeError: the server has not been started.
        """
        if not self.port:
            raise RuntimeError("the Simulator does not run yet; use it as `with Simulator(...) as simulator:`")
        return f"http://127.0.0.1:{self.port}"

    def base_url(self, provider: str) -> str:
        """Return what `base_url=` must be for a provider: with `/v1`, except Anthropic, Bedrock, Google and Mistral."""
        return self.url + BASE_PATHS.get(provider, "/v1")

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that connect a service to the simulator."""
        found: dict[str, str] = {}
        for provider in ("anthropic", "openai", "mistral", "google", "bedrock"):
            found[f"{provider.upper()}_BASE_URL"] = self.base_url(provider)
            found[f"{provider.upper()}_API_KEY"] = "simulator-key"
        return found

    @property
    def figures(self) -> Figures:
        """What the simulator has done so far, and its lag."""
        lag = self.pacer.lag
        p50, p99 = lag.quantile(0.5) * 1000, lag.quantile(0.99) * 1000
        streams = (self.open, self._most_open, self.served, self.abandoned)
        return Figures(*streams, lag.count, p50, p99, lag.longest * 1000)

    def page(self) -> str:
        """Return the page at `/`."""
        named = {asked.path: wire for asked in self.requests if (wire := route(asked.path)[0]) is not None}
        return page(self.environment, {**ROUTES, **WITH_MODEL, **named}, self.requests, self.figures)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
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
        except OSError as error:
            self._failure = error
            return
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
            raise RuntimeError("serve() was called before listen(); call listen() first")
        try:
            await self._stopped.wait()
        finally:
            # When a server is closed, asyncio leaks the sockets of accepted connections that have no protocol yet.
            await asyncio.sleep(0)
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for connection in list(self.clients):
                connection.close()
            await self._server.wait_closed()

    def stop(self) -> None:
        """End `serve`; any thread may call this."""
        if self._loop is not None and self._stopped is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopped.set)

    def recorded(self, method: str, url: str, body: bytes) -> Exchange | None:
        """Return the recorded exchange for a request; None if an answer must be generated.

        Raises:
            UnrecordedRequest: if no exchange matches and no `answer` was given.
        """
        if self.player is None:
            return None
        try:
            return self.player.find(method, url, body)
        except UnrecordedRequest:
            if self._only_recorded:
                raise
            return None

    def note(self, asked: ReceivedRequest) -> None:
        """Add a request to `requests`."""
        self.requests.append(asked)
        if len(self.requests) > _KEPT:
            del self.requests[: _KEPT // 2]

    @contextmanager
    def streaming(self) -> Generator[None]:
        """Count an answer while it is sent."""
        self.open += 1
        self._most_open = max(self._most_open, self.open)
        try:
            yield
            self.served += 1
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        finally:
            self.open -= 1

    def rendered(self, wire: str, answer: Answer) -> Schedule:
        """Return the bytes of an answer and their times; equal answers share them."""
        key = (wire, repr(answer), self.rate)
        found = self._rendered.get(key)
        if found is None:
            found = scheduled(frames(wire, answer), self.rate)
            if len(self._rendered) >= _RENDERED:
                self._rendered.clear()
            self._rendered[key] = found
        return found

    def start(self, task: asyncio.Task[None]) -> None:
        """Keep a task alive until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _decide(answer: Answer | str | Sequence[Answer | str] | Decide | None) -> Decide:
    if answer is None:
        return plausible
    if callable(answer):
        return answer
    if isinstance(answer, Answer | str):
        fixed = Answer.of(answer) if isinstance(answer, str) else answer
        return lambda asked: _with_model(fixed, asked)
    return in_steps(answer)


def _with_model(answer: Answer, asked: Asked) -> Answer:
    return Answer(answer.tokens, answer.reasoning, answer.calls, asked.model, answer.cut)


log = logging.getLogger("streamcore")


class _Connection(asyncio.Protocol):
    """The connection of one client: h11 parses its requests; each event of an answer is one HTTP chunk."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._http = h11.Connection(h11.SERVER)
        self.writable = asyncio.Event()
        self.writable.set()
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
        """Drop the connection and discard what is not sent yet."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

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
        try:
            await self._respond(request)
        except Exception as error:  # the outermost edge: without a response the client would wait without limit
            log.exception("the simulator could not answer")
            if self._http.our_state is h11.SEND_RESPONSE:
                self._send_error(500, f"the simulator could not answer: {type(error).__name__}: {error}")
            else:
                self.close()

    async def _respond(self, request: h11.Request) -> None:
        path = request.target.decode("ascii").partition("?")[0].partition("#")[0]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
        wire, model = route(path)
        try:
            body: dict[str, Any] = json.loads(self._body or b"{}")
        except (ValueError, RecursionError):
            wire = None
            body = {}
        if model is not None:
            body = {**body, "model": model}
        if request.method == b"GET" and path in ("/", "/statistics"):
            self._send_page(path)
            return
        self._simulator.note(ReceivedRequest(path, headers, body, time.time()))
        if wire is None or request.method != b"POST":
            self._send_error(404, f"there is no route {request.method.decode()} {path}")
            return
        try:
            exchange = self._simulator.recorded("POST", path, self._body)
        except UnrecordedRequest as error:
            self._send_error(404, str(error))
            return
        fault, transport = self._simulator.fault, self._transport
        with self._simulator.streaming():
            if exchange is not None and fault is None:
                await self._play(exchange)
                return
            answer = self._simulator.decide(asked_on(wire, body))
            if fault is not None and transport is not None:
                await play(fault.steps(wire, answer), Line(transport, self.writable))
            else:
                await self._stream(self._simulator.rendered(wire, answer), find_wire(wire).content_type)

    async def _stream(self, schedule: Schedule, kind: str) -> None:
        self._begin(200, (("content-type", kind), _REQUEST_ID))
        if self._simulator.rate:
            await self._simulator.pacer.play(schedule, self)
        else:
            for number, (_, data) in enumerate(schedule):
                if number % 64 == 63:
                    await asyncio.sleep(0)
                self.write(data)
                if not self.writable.is_set():
                    await self.writable.wait()
        self.write(self._http.send(h11.EndOfMessage()))
        self._next_request()

    async def _play(self, exchange: Exchange) -> None:
        """Send a recorded response; a recorded break closes the connection."""
        self._begin(exchange.status, [item for item in exchange.headers if item[0] not in _FRAMING])
        # An empty chunk would end the body.
        reads = [(one.at, b"%x\r\n%b\r\n" % (len(one.data), one.data)) for one in exchange.reads if one.data]
        await self._simulator.pacer.play(reads, self)
        if exchange.end == "whole":
            self.write(self._http.send(h11.EndOfMessage()))
            self._next_request()
        elif self._transport is not None:
            self._transport.close()  # without the last chunk, so that the reader sees a broken connection

    def _begin(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        fields = [*headers, ("transfer-encoding", "chunked")]
        self.write(self._http.send(h11.Response(status_code=status, headers=fields)))

    def _send_error(self, status: int, message: str) -> None:
        self._send(status, json.dumps({"error": {"message": message, "type": "not_found_error"}}))

    def _send_page(self, path: str) -> None:
        if path == "/":
            self._send(200, self._simulator.page(), "text/html; charset=utf-8")
        else:
            self._send(200, self._simulator.figures.json())

    def _send(self, status: int, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        headers = [("content-type", kind), ("content-length", str(len(body)))]
        self.write(self._http.send(h11.Response(status_code=status, headers=headers)))
        self.write(self._http.send(h11.Data(data=body)))
        self.write(self._http.send(h11.EndOfMessage()))
        self._next_request()

    def write(self, data: bytes | None) -> None:
        """Write bytes, unless the client has closed the connection."""
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)

    def _next_request(self) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._next_events()
        elif self._transport is not None:
            self._transport.close()
