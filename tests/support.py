"""Provide what tests of providers share: requests, mocked vendors, and functions that wait for a condition."""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Sequence
from typing import Any

import anyio
import httpx2
import pytest

from streamcore import Message, Provider, Request, get_provider, provider_names
from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.frames import frames

KEY = "sk-test-0123456789abcdef"
VENDORS = ("anthropic", "openai", "openai-responses", "mistral", "google", "bedrock")
GATEWAYS = tuple(name for name in provider_names() if name not in (*VENDORS, "demo", "replay"))
BACKENDS = ("asyncio", "trio")
WIRES = {
    "anthropic": "anthropic-messages",
    "openai-responses": "openai-responses",
    "mistral": "mistral-chat",
    "google": "gemini",
    "bedrock": "bedrock-converse",
}
DEADLINE = 120.0
"""Seconds after which a condition is given up; long, since the machine may be busy."""

TRIES = 20
"""How often something is timed at most, until it is in time once; most of the time the first try is enough."""

PACES = (1, 5, 25)
"""The factors of the timeouts of a test that is `patient`."""

_KEPT_PORTS = 100
_bound: deque[socket.socket] = deque()

# Each vendor on each backend; Mistral's SDK knows asyncio only.
RUNS = [(backend, name) for name in VENDORS for backend in BACKENDS if (backend, name) != ("trio", "mistral")]
EVERY_RUN = [pytest.param(*run, marks=pytest.mark.long) if run[1] in ("google", "bedrock") else run for run in RUNS]
"""The same as parameters of tests; google and bedrock, which have test files of their own, are in the long tests."""


def first_short(values: Iterable[Any]) -> list[Any]:
    """Return parameters of a test: the first value, and the others marked `long`."""
    first, *others = values
    return [first, *(pytest.param(value, marks=pytest.mark.long) for value in others)]


def require(condition: object, why: str) -> None:
    """Skip the test if a part outside Python is missing; fail instead under STREAMCORE_REQUIRE_ALL=1."""
    if condition:
        return
    if os.environ.get("STREAMCORE_REQUIRE_ALL") == "1":
        pytest.fail(f"STREAMCORE_REQUIRE_ALL=1, but {why}", pytrace=False)
    pytest.skip(why)


def wire_of(name: str) -> str:
    """Return the wire of a provider."""
    return WIRES.get(name, "openai-chat")


def ask(text: str = "Hello", **more: Any) -> Request:
    """Return a request with one user message."""
    return Request(messages=[Message("user", text)], **more)


def address_of(name: str) -> dict[str, Any]:
    """Return the settings of a provider's address: each resource of Azure, each region of AWS has its own."""
    if name == "bedrock":
        return {"region": "us-east-1"}
    return {"base_url": "https://resource.openai.azure.com/openai/v1"} if name == "azure" else {}


def provider_at(simulator: Simulator, name: str, **settings: Any) -> Provider:
    """Return a provider that is connected to the simulator."""
    given: dict[str, Any] = {"api_key": KEY, "model": "m", "base_url": simulator.base_url(name), **settings}
    return get_provider(name, **given)


Test = Callable[..., Coroutine[Any, Any, None]]


def patient(test: Test) -> Test:
    """Give an async test the argument `pace`, a factor for its timeouts, and run it with a longer one if it fails.

    On a busy machine a short timeout may expire before anything else has happened. A test that fails at every pace
    fails.
    """

    @functools.wraps(test)
    async def run(**arguments: Any) -> None:
        for pace in PACES[:-1]:
            with contextlib.suppress(Exception, pytest.fail.Exception):
                return await test(pace=pace, **arguments)
        return await test(pace=PACES[-1], **arguments)

    signature = inspect.signature(test)
    without = [parameter for name, parameter in signature.parameters.items() if name != "pace"]
    vars(run)["__signature__"] = signature.replace(parameters=without)
    return run


def free_port() -> int:
    """Return a port of loopback for a server that another process starts.

    A socket stays bound to it, without listening. So the system gives the port neither to another server nor to a
    client, which could even connect to itself. A server that sets SO_REUSEADDR, as all do, can listen on it.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    _bound.append(bound)
    if len(_bound) > _KEPT_PORTS:
        _bound.popleft().close()
    port: int = bound.getsockname()[1]
    return port


@atexit.register
def _release_ports() -> None:
    while _bound:
        _bound.pop().close()


@contextlib.contextmanager
def one_connection(serve: Callable[[socket.socket], object]) -> Generator[int]:
    """Accept one connection of loopback in a thread, and close it when `serve` returns; the port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        connection = listening.accept()[0]
        with connection:
            connection.settimeout(DEADLINE)
            serve(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        thread.join(DEADLINE)
        listening.close()
        assert not thread.is_alive()


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Block the thread, and its event loop, until another thread has made the condition true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.001)


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Let other tasks run until the condition is true."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        await anyio.sleep(0.001)


def body_of(wire: str, answer: Answer) -> bytes:
    """Return the whole body of an answer on a wire."""
    return b"".join(data for data, _ in frames(wire, answer))


class Pieces(httpx2.AsyncByteStream):
    """A body that arrives in pieces; an exception among them is raised in its turn."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await anyio.lowlevel.checkpoint()
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed = True


class Vendor(httpx2.MockTransport):
    """A vendor without a network: it answers every request with the same response, and lists the requests."""

    def __init__(
        self,
        *pieces: bytes | Exception,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (("content-type", "text/event-stream; charset=utf-8"),),
    ) -> None:
        self.requests: list[httpx2.Request] = []
        self.bodies: list[Pieces] = []
        self._answer = (status, list(headers), pieces)
        super().__init__(self._handle)

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        status, headers, pieces = self._answer
        self.bodies.append(Pieces(*pieces))
        return httpx2.Response(status, headers=headers, stream=self.bodies[-1])

    def client(self) -> httpx2.AsyncClient:
        """Return a client whose every request is sent here."""
        return httpx2.AsyncClient(transport=self)

    def provider(self, name: str, **settings: Any) -> Provider:
        """Return a provider whose every request is sent here."""
        given: dict[str, Any] = {
            "api_key": KEY,
            "model": "m",
            "http_client": self.client(),
            **address_of(name),
            **settings,
        }
        return get_provider(name, **given)
