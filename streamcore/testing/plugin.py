"""Implement the pytest plugin's fixtures: replay or record every request over httpx2, and block the network.

`pytest_streamcore` defines the fixtures themselves.
"""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol

import httpx2
import pytest

from streamcore.net.transports import AUTO_VARIABLE
from streamcore.provider import vendor
from streamcore.testing.faults.fault_server import FaultServer, Play
from streamcore.testing.recordings.exchange import Exchange, Pace
from streamcore.testing.recordings.matching import UnrecordedRequest, endpoint
from streamcore.testing.recordings.recorder import Recorder, guess_provider
from streamcore.testing.recordings.recording import Recording
from streamcore.testing.recordings.replay import PLACEHOLDER_KEY, ReplayTransport

_LOOPBACK = ("127.", "::1", "localhost")


class Tape:
    """The value of the fixture `recording`: the recording that answers the test, or that the test makes.

    Attributes:
        path: its file.
        making: True under `--record`.
    """

    def __init__(self, path: Path, pace: Pace, *, making: bool) -> None:
        self.path = path
        self.making = making
        self.recorder = Recorder(httpx2.AsyncBaseTransport())
        self._loaded = None if making else Recording.load(path)
        self.player = ReplayTransport(self._loaded or Recording(), pace)

    @property
    def recording(self) -> Recording:
        """The recording, as complete as it is now."""
        return self.recorder.recording if self._loaded is None else self._loaded

    @property
    def unplayed(self) -> tuple[Exchange, ...]:
        """The exchanges that the test has not requested yet."""
        return self.player.unplayed

    @property
    def unrecorded(self) -> list[UnrecordedRequest]:
        """The errors of the requests that are not in the recording, which fail the test at its end.

        A test that expects such a request empties the list.
        """
        return self.player.unrecorded


def tape_of(item: pytest.Item, *, making: bool) -> Tape:
    """Return the tape that a test's marker names; fail the test if it names none or the file does not exist."""
    marker = item.get_closest_marker("recording")
    try:
        name, pace = _arguments(*(marker.args if marker else ()), **(marker.kwargs if marker else {}))
    except TypeError as error:
        pytest.fail(
            "the fixture `recording` needs a file, by its path from the test's: "
            f'@pytest.mark.recording("greet.yaml", pace=0); {str(error).replace("_arguments()", "the marker")}',
            pytrace=False,
        )
    path = item.path.parent / name
    if not making and not path.is_file():
        pytest.fail(
            f"there is no recording {path}; to make it, set the provider's key in the environment and run: "
            f"pytest --record '{item.nodeid}'",
            pytrace=False,
        )
    return Tape(path, pace, making=making)


def _arguments(path: str | Path, pace: Pace = 0) -> tuple[str | Path, Pace]:
    """Return the arguments of the marker."""
    return path, pace


def play(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer every request over httpx2's transport from a tape, and set a key for its providers."""
    monkeypatch.setenv(AUTO_VARIABLE, "httpx2")
    recorded = {endpoint(exchange.request.url) for exchange in tape.recording.exchanges}
    real = httpx2.AsyncHTTPTransport.handle_async_request

    async def answer(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        if _is_loopback(request.url.host) and endpoint(str(request.url)) not in recorded:
            return await real(self, request)  # a server that the test started
        return await tape.player.handle_async_request(request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", answer)
    for name in {exchange.provider for exchange in tape.recording.exchanges if exchange.provider}:
        row = vendor(name)
        if row is not None and row.find_key() is None:
            monkeypatch.setenv(row.variable("API_KEY"), PLACEHOLDER_KEY)


def make(tape: Tape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record every request over httpx2's transport, except requests to servers that the test started."""
    monkeypatch.setenv(AUTO_VARIABLE, "httpx2")
    real = httpx2.AsyncHTTPTransport.handle_async_request

    async def send(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
        if _is_loopback(request.url.host) and guess_provider(request.url) is None:
            return await real(self, request)
        return await tape.recorder.send(request, lambda sent: real(self, sent))

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", send)


def keep(tape: Tape, made: dict[Path, Recording], run: str | None = None) -> None:
    """Save what a test has recorded; tests of one run that share a file add the requests that are not in it yet.

    `run` names a run of pytest-xdist: its workers add to each other's files, one at a time.
    """
    if run is None:
        _add(tape, made.get(tape.path, Recording()), made)
        return
    # SQLite locks on every system. The table has the files that this run has begun.
    with closing(sqlite3.connect(Path(gettempdir()) / f"streamcore-record-{run}.sqlite", timeout=60)) as files:
        files.isolation_level = None
        files.execute("BEGIN EXCLUSIVE")
        files.execute("CREATE TABLE IF NOT EXISTS begun (path TEXT PRIMARY KEY)")
        row = (str(tape.path.resolve()),)
        begun = files.execute("SELECT 1 FROM begun WHERE path = ?", row).fetchone() is not None
        _add(tape, Recording.load(tape.path) if begun else Recording(), made)
        files.execute("INSERT OR IGNORE INTO begun VALUES (?)", row)
        files.execute("COMMIT")


def _add(tape: Tape, before: Recording, made: dict[Path, Recording]) -> None:
    asked = [exchange.request for exchange in before.exchanges]
    new = [exchange for exchange in tape.recording.exchanges if exchange.request not in asked]
    made[tape.path] = Recording((*before.exchanges, *new))
    made[tape.path].save(tape.path)


def block_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow connections to loopback only: other names are not resolved, other addresses not connected to."""
    resolve, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_loopback(name):
            raise socket.gaierror(socket.EAI_NONAME, f"tests may not reach {name!r} (streamcore blocks the network)")
        return resolve(host, *arguments, **options)

    def check(connection: socket.socket, address: Any) -> None:
        if connection.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(str(address[0])):
            raise OSError(f"tests may not reach {address!r} (streamcore blocks the network)")

    def guarded(self: socket.socket, address: Any) -> None:
        check(self, address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        check(self, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


def _is_loopback(host: str) -> bool:
    return host.startswith(_LOOPBACK)


class StartFault(Protocol):
    """Start a `FaultServer` with its arguments."""

    def __call__(self, *plays: Play, **settings: Any) -> FaultServer:
        """Return the running server."""
        ...


@contextmanager
def fault_servers() -> Generator[StartFault]:
    """Yield a function that starts fault servers; they are stopped when the context ends."""
    with ExitStack() as running:

        def start(*plays: Play, **settings: Any) -> FaultServer:
            return running.enter_context(FaultServer(*plays, **settings))

        yield start
