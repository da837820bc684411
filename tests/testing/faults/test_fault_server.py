"""Test the fault table, the server that plays it, and the check for what is left open."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from streamcore import ConfigError
from streamcore.testing import (
    FAULTS,
    Answer,
    Fault,
    FaultServer,
    Hold,
    Pause,
    PlannedCall,
    Repeat,
    Reset,
    Send,
    Simulator,
)
from streamcore.testing.faults.fault_server import ANSWER
from streamcore.testing.faults.spoiled import begun, whole
from streamcore.testing.faults.table import find_fault
from streamcore.testing.simulator.frames import wire_names
from streamcore.testing.suites.watch import LeftBehind, nothing_left_behind, quiet

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


def talk(port: int, request: bytes = GET) -> bytes:
    """Send a request and return all the bytes that come before the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(request)
        received = b""
        while True:
            more = client.recv(65536)
            if not more:
                return received
            received += more


# The table


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_complete(fault: Fault) -> None:
    assert fault.says
    assert fault.name == fault.name.lower().replace("_", "-").strip()
    assert (fault.error is None) == (fault.keeps is None)
    assert bool(fault.clock) <= bool(fault.timeouts)
    for wire in wire_names():
        for answer in (ANSWER, Answer(), Answer(["one"]), Answer(calls=[PlannedCall("clock")])):
            steps = fault.steps(wire, answer)
            assert all(isinstance(step, Send | Pause | Repeat | Hold | Reset) for step in steps)


@pytest.mark.parametrize("wire", wire_names())
def test_what_has_begun_never_holds_the_mark_of_the_end(wire: str) -> None:
    for count in range(4):
        answer = Answer(ANSWER.tokens[:count])
        events = begun(wire, answer)
        assert events == whole(wire, answer)[: len(events)]
        assert not any(
            mark in b"".join(events) for mark in (b"message_stop", b'stop"', b"[DONE]", b"response.completed")
        )


def test_an_unknown_fault_raises_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"'stal'; did you mean 'stall'\? The faults are: none, rate-limited"):
        find_fault("stal")
    with pytest.raises(ValueError, match="there is no fault"):
        FaultServer("stal")
    with pytest.raises(ValueError, match="at least one"):
        FaultServer()


# The server


def test_exactly_these_bytes_are_sent_and_then_the_connection_ends() -> None:
    with FaultServer([Send(b"one"), Pause(0.01), Repeat(b"+", times=3), Send(b"\0\xff")]) as server:
        assert talk(server.port) == b"one+++\0\xff"
        assert (server.connections, server.abandoned) == (1, 0)
        server.wait_until(lambda server: server.open == 0, "the connection ended")


def test_faults_are_played_in_turn_and_the_last_is_repeated() -> None:
    with FaultServer([Send(b"1")], [Send(b"2")]) as server:
        assert [talk(server.port) for _ in range(3)] == [b"1", b"2", b"2"]
        assert len(server.requests) == 3


def test_requests_are_read_whole_however_they_come() -> None:
    with (
        FaultServer([Send(b"done")]) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=60) as client,
    ):
        for byte in b'POST /v1/x?y HTTP/1.1\r\nX-Key: a:b\r\nContent-Length: 8\r\n\r\n{"a": 1}':
            assert server.requests == []
            client.sendall(bytes([byte]))
        assert client.recv(100) == b"done"
        (request,) = server.requests
        assert (request.path, request.headers["x-key"], request.body) == ("/v1/x?y", "a:b", {"a": 1})


def test_a_reset_is_a_reset() -> None:
    with FaultServer([Send(b"some"), Reset()]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(GET)
            assert client.recv(100) == b"some"
            with pytest.raises(ConnectionResetError):
                client.recv(100)


def test_the_server_sees_a_client_go() -> None:
    with FaultServer([Send(b"some"), Hold()]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(GET)
            assert client.recv(100) == b"some"
            assert (server.open, server.abandoned) == (1, 0)
        server.wait_until(lambda server: server.abandoned == 1, "the client has disconnected")
        server.wait_until(lambda server: server.open == 0, "the connection is closed")


def test_the_server_sees_that_nobody_reads() -> None:
    with FaultServer([Repeat(b"x" * 65536, times=4096)]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(GET)
            server.wait_until(lambda server: server.blocked, "the client does not read")
            assert server.sent < 4096 * 65536


def test_waiting_for_a_condition_has_an_end() -> None:
    with FaultServer("none") as server, pytest.raises(TimeoutError, match="did not see that pigs fly"):
        server.wait_until(lambda server: server.requests, "pigs fly", 0.01)


def test_leaving_drops_every_connection_and_leaves_nothing() -> None:
    with quiet():
        with FaultServer([Hold()]) as server:
            clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(20)]
            for client in clients[10:]:
                client.sendall(GET)
        for client in clients:
            with client, pytest.raises((ConnectionResetError, EOFError)):
                if client.recv(1) == b"":
                    raise EOFError
        FaultServer("none")  # never entered
        with FaultServer("connection-refused") as server, pytest.raises(ConnectionRefusedError):
            talk(server.port)


def test_objects_that_the_process_has_frozen_stay_frozen() -> None:
    assert gc.get_freeze_count() > 0  # by tests/conftest.py
    with quiet():
        pass
    assert gc.get_freeze_count() > 0


# The simulator


@pytest.mark.parametrize("name", ["none", "reset-before-headers", "wrong-key", "end-without-mark", "byte-by-byte"])
def test_the_simulator_plays_the_same(name: str) -> None:
    with FaultServer(name) as server, Simulator(ANSWER, fault=name) as simulator:
        played: list[bytes] = []
        for port in (server.port, simulator.port):
            try:
                played.append(talk(port, CHAT))
            except ConnectionResetError:
                played.append(b"reset")
        assert played[0] == played[1]


def test_a_server_that_does_not_run_has_no_address() -> None:
    for server in (FaultServer("none"), Simulator()):
        with pytest.raises(RuntimeError, match=f"the {type(server).__name__} does not run yet; use it as `with "):
            assert server.url


def test_a_fault_server_for_an_unknown_wire_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no wire 'openai'; installed are: anthropic-messages, "):
        FaultServer("none", wire="openai")


def test_the_simulator_refuses_a_rate_and_reports_a_port_that_is_taken() -> None:
    rate: Any = "fast"
    with pytest.raises(ValueError, match="a number of tokens per second, 'recorded' or None, not 'fast'"):
        Simulator(rate=rate)
    with Simulator() as simulator, pytest.raises(OSError, match="in use"), Simulator(port=simulator.port):
        pass


def test_the_simulator_refuses_what_it_cannot_play() -> None:
    with pytest.raises(ValueError, match="there is no fault"):
        Simulator(fault="nothing")
    with pytest.raises(ValueError, match="only a FaultServer"):
        Simulator(fault="connection-refused")


# The watch


@pytest.mark.anyio
async def test_the_watch_is_silent_where_nothing_is_left() -> None:
    async with nothing_left_behind():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.lowlevel.checkpoint)
        left, right = socket.socketpair()
        left.close()
        right.close()


@pytest.mark.anyio
async def test_the_watch_sees_a_socket_and_a_file(tmp_path: Path) -> None:
    kept: list[Any] = []
    with pytest.raises(LeftBehind, match=r"still open: \d+ -> .*kept\.txt"):
        async with nothing_left_behind():
            kept.append((tmp_path / "kept.txt").open("w"))
    kept.pop().close()
    with pytest.raises(LeftBehind, match=r"still open: \d+ -> socket:"):
        async with nothing_left_behind():
            kept.append(socket.socket())
    kept.pop().close()
    with pytest.raises(LeftBehind, match="unclosed"):
        async with nothing_left_behind():
            socket.socket()


@pytest.mark.anyio
async def test_the_watch_sees_a_task() -> None:
    async with anyio.create_task_group() as tasks:
        with pytest.raises(LeftBehind, match="still running"):
            async with nothing_left_behind():
                tasks.start_soon(anyio.sleep_forever)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_watch_sees_what_python_cannot_raise() -> None:
    class Bad:
        def __del__(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(LeftBehind, match="unraisable: ZeroDivisionError"):
        async with nothing_left_behind():
            Bad()
    with pytest.raises(LeftBehind, match="never awaited"):
        async with nothing_left_behind():
            anyio.lowlevel.checkpoint()  # type: ignore[unused-coroutine]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_watch_sees_errors_reported_to_the_event_loop(anyio_backend: str) -> None:
    with pytest.raises(LeftBehind, match="event loop: it broke"):
        async with nothing_left_behind():
            asyncio.get_running_loop().call_exception_handler({"message": "it broke"})


@pytest.mark.anyio
async def test_the_watch_lets_an_error_of_the_block_through_and_puts_everything_back() -> None:
    before = sys.unraisablehook, list(warnings.filters)
    with pytest.raises(ZeroDivisionError):
        async with nothing_left_behind():
            raise ZeroDivisionError
    assert (sys.unraisablehook, list(warnings.filters)) == before


def test_the_testing_package_does_not_load_pytest() -> None:
    code = "import streamcore.testing, sys; print('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
