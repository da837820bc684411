"""Run `streamcore serve --workers 2` with a real Redis: one port, two processes, and clients that reach either."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from typer.testing import CliRunner

from streamcore.cli.app import app
from streamcore.cli.serve_workers import Supervisor, check_shared
from streamcore.errors import ConfigError
from streamcore.testing import Answer, Simulator
from tests.servers import RedisServer
from tests.serving import StreamMessage, listen, messages_in, text_of
from tests.support import DEADLINE, wait_until
from tests.web.test_serve import ROOT, command, environment

WORDS = [f"w{number} " for number in range(300)]
LONG = [f"w{number} " for number in range(30_000)]
"""An answer that outlasts every test."""
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"></svg>'
SHARED: dict[str, Any] = {
    "relay": "redis://127.0.0.1:6379/0",
    "checkpointer": None,
    "durable": None,
    "metrics": False,
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


@contextmanager
def two_workers(redis: RedisServer, simulator: Simulator, folder: Path, *more: str) -> Generator[Service]:
    """Serve a prompt with two workers, once both serve."""
    options = ("--provider", "openai", "--model", "m", "--relay", redis.url, "--workers", "2", "--log-json")
    log = folder / "serve.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            command("chat", *options, *more, "--port", "0"), cwd=ROOT, env=environment(simulator), stderr=written
        )
    service = Service(process, log)
    try:
        wait_until(lambda: len(service.started) == 2, "both workers serve")
        yield service
    finally:
        for connection in service.connections:
            connection.close()
        left = workers_of(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: all(map(has_ended, left)), "the workers have noticed the end of their supervisor")


def state_of(pid: int) -> tuple[str, int]:
    """Return the state of a process (`T`: stopped by a signal, `Z`: ended) and its parent."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return state, int(parent)


def has_ended(pid: int) -> bool:
    return state_of(pid)[0] in "ZX"


def workers_of(pid: int) -> list[int]:
    """Return the processes of the workers that a supervisor has started."""
    found = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal()]
    return sorted(one for one in found if state_of(one)[1] == pid and not has_ended(one) and is_worker(one))


def is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def stopped(pids: Sequence[int]) -> Generator[None]:
    """Stop processes while the block runs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: all(state_of(pid)[0] in "TZX" for pid in pids), "they are stopped")
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Service:
    """A service with several workers."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.connections: list[http.client.HTTPConnection] = []
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    @property
    def url(self) -> str:
        found = re.search(r"(http://\S+)/  ", self.log)
        assert found
        return found[1]

    @property
    def started(self) -> list[int]:
        """The workers that have served, the first ones first."""
        assert self.process.poll() is None, self.log
        return [int(number) for number in re.findall(r'"worker (\d+) serves"', self.log)]

    @property
    def workers(self) -> list[int]:
        return workers_of(self.process.pid)

    def ask(self, worker: int, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        """Send a request to this worker: the others do not run while the connection is accepted."""
        while True:
            connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=DEADLINE)
            self.connections.append(connection)
            with stopped([one for one in self.workers if one != worker]):
                connection.request("GET", "/health")
                assert connection.getresponse().read()
            try:
                connection.request(method, path, body, {"Content-Type": "application/json", **headers})
                return connection.getresponse()
            except ConnectionError:  # the machine was so busy that the connection was closed unused
                continue

    def begin(self, worker: int, session: str, prompt: str = "x", until: str = "w5 ") -> Reading:
        """Begin a run at a worker, and read it there until a text has arrived."""
        response = self.ask(worker, "GET", f"/stream/{session}?prompt={prompt}&format=json")
        assert response.status == 200
        return Reading(response, self.connections[-1].sock, session, until)


class Reading:
    """A stream that is read in a thread."""

    def __init__(self, response: http.client.HTTPResponse, connection: socket.socket, session: str, until: str) -> None:
        self.session = session
        self._response = response
        self._connection = connection
        self._until = until.encode()
        self._body = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        wait_until(lambda: self._until in self._body or not self._thread.is_alive(), "the text has arrived")
        assert self._until in self._body

    def _read(self) -> None:
        try:
            with self._response:
                while piece := self._response.read1():
                    self._body += piece
        except (OSError, ValueError, http.client.HTTPException):  # disconnected, or its worker was killed
            return

    def cut(self) -> list[StreamMessage]:
        """Disconnect, and return what has arrived."""
        self._connection.shutdown(socket.SHUT_RDWR)
        return self.messages()

    def messages(self) -> list[StreamMessage]:
        """Return what has arrived when the stream has ended."""
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        whole, end, _ = self._body.rpartition(b"\n\n")
        return messages_in(whole + end)


@pytest.mark.real
@pytest.mark.long
def test_a_client_may_reach_either_worker_and_sigterm_ends_both(redis: RedisServer, tmp_path: Path) -> None:
    with Simulator(Answer(WORDS), rate=100) as simulator, two_workers(redis, simulator, tmp_path) as service:
        one, two = service.workers
        begin = service.begin(one, "s").cut()
        path = "/stream/s?prompt=x&format=json"
        rest = messages_in(service.ask(two, "GET", path, **{"Last-Event-ID": begin[-1].id}).read())
        assert [*begin, *rest] == listen(service.url, "/stream/s?format=json")
        assert text_of([*begin, *rest]) == "".join(WORDS)
        assert len(simulator.requests) == 1

        simulator.decide = lambda asked: Answer(LONG)
        stream = service.begin(two, "t")
        assert service.ask(one, "POST", "/start", '{"prompt": "x", "session_id": "t"}').status == 409
        assert service.ask(one, "POST", "/stop/t").status == 200
        assert stream.messages()[-1].name == "done"
        streams = [service.begin(worker, f"u{worker}{number}") for worker in (one, two) for number in range(2)]
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(DEADLINE) == -signal.SIGTERM
        assert has_ended(one)
        assert has_ended(two)
        for stream in streams:
            *_, problem, done = stream.messages()
            assert "the server" in problem.json["message"]  # it is stopped, or cancels what takes too long
            assert (done.name, done.json["complete"]) == ("done", False)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{service.url}/health")
        wait_until(lambda: simulator.open == 0, "every upstream was closed")
        assert all(re.search(f'"process": {worker}, .*"event": "answer"', service.log) for worker in (one, two))


@pytest.mark.real
@pytest.mark.long
def test_a_killed_worker_is_replaced_and_its_runs_end(redis: RedisServer, tmp_path: Path) -> None:
    with (
        Simulator(lambda asked: Answer(LONG if asked.text == "long" else WORDS), rate=40) as simulator,
        two_workers(redis, simulator, tmp_path) as service,
    ):
        lost, kept = service.workers
        cut = [service.begin(lost, f"lost{number}", "long") for number in range(3)]
        whole = [service.begin(kept, f"kept{number}") for number in range(3)]
        os.kill(lost, signal.SIGKILL)
        for stream in cut:
            begin = stream.messages()
            path = f"/stream/{stream.session}?prompt=x&format=json"
            rest = listen(service.url, path, headers={"Last-Event-ID": begin[-1].id})
            assert (rest[-1].name, rest[-1].json["complete"]) == ("done", False)
            text = text_of([*begin, *rest])
            assert text
            assert "".join(LONG).startswith(text)
        for stream in whole:
            assert text_of(stream.messages()) == "".join(WORDS)
        wait_until(lambda: len(service.workers) == 2, "the killed worker was replaced")
        (new,) = set(service.workers) - {kept}
        assert text_of(messages_in(service.ask(new, "GET", "/stream/n?prompt=x&format=json").read())) == "".join(WORDS)
        assert len(simulator.requests) == 7


@pytest.mark.real
@pytest.mark.long
def test_workers_are_replaced_without_a_gap_and_none_is_left_behind(redis: RedisServer, tmp_path: Path) -> None:
    logo = tmp_path / "logo.svg"  # a file that is read at the start only
    logo.write_text(LOGO, "utf-8")
    settings = tmp_path / "settings"
    settings.write_text("STREAMCORE_API_KEYS=first\n", "utf-8")
    more = ("--logo", str(logo), "--env-file", str(settings))
    first, second = ({"Authorization": f"Bearer {key}"} for key in ("first", "second"))
    with Simulator("Yes.") as simulator, two_workers(redis, simulator, tmp_path, *more) as service:
        killed, kept = service.started
        logo.unlink()  # new workers cannot start
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: "before it served; another one is started in 0.5 s" in service.log, "a worker has failed")
        assert text_of(listen(service.url, "/stream?prompt=x&format=json", headers=first)) == "Yes."
        logo.write_text(LOGO, "utf-8")
        wait_until(lambda: len(service.started) == 3, "the killed worker was replaced")
        settings.write_text("STREAMCORE_API_KEYS=second\n", "utf-8")
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(service.started) == 4, "a worker was replaced")
        wait_until(lambda: len(service.started) == 5, "both workers were replaced")
        wait_until(lambda: has_ended(kept) and has_ended(service.started[2]), "the older workers have ended")
        assert text_of(listen(service.url, "/stream?prompt=x&format=json", headers=second)) == "Yes."
        assert httpx2.get(f"{service.url}/about", headers=first).status_code == 401
        assert service.workers == sorted(service.started[3:])


def _end_at_once(_listening: socket.socket, _serves: Callable[[], None]) -> None:
    sys.exit(3)


@pytest.mark.long
def test_a_service_whose_first_workers_cannot_start_ends_with_their_exit_code() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(SystemExit) as ended:
        Supervisor(_end_at_once, listening, 2).run()
    assert ended.value.code == 3
    assert listening.fileno() == -1


def _hang_first(hung: Path, _listening: socket.socket, serves: Callable[[], None]) -> None:
    """Serve; the first process hangs, and the next one ends the supervisor."""
    serves()
    if not hung.exists():
        hung.touch()
        threading.Event().wait(DEADLINE)
    os.kill(os.getppid(), signal.SIGINT)
    while True:
        serves()
        time.sleep(0.05)


@pytest.mark.long
def test_a_worker_that_hangs_is_ended_with_its_stacks_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    hang = partial(_hang_first, tmp_path / "hung")
    with pytest.raises(KeyboardInterrupt):
        Supervisor(hang, listening, 1, hung_seconds=1.0).run()
    assert "has not responded for" in caplog.text
    assert "was ended by SIGABRT; another one is started" in caplog.text
    assert "_hang_first" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"relay": None}, "--workers 2 needs a store that all workers share, as --relay redis://host:6379/0"),
        ({"relay": "memory:"}, "--workers 2 needs a store that all workers share"),
        ({"checkpointer": "sqlite:///:memory:"}, "--checkpointer that all workers share, not 'sqlite:///:memory:'"),
        ({"metrics": True}, "--metrics cannot be used with --workers 2"),
    ],
)
def test_what_workers_do_not_share_is_refused(options: dict[str, Any], reason: str) -> None:
    check_shared(2, ["chat"], SHARED)
    with pytest.raises(ConfigError) as refused:
        check_shared(2, ["chat"], SHARED | options)
    assert reason in str(refused.value)


def test_a_graph_that_keeps_its_threads_in_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ask.yaml"
    graph = Path("graphs/interview.yaml").read_text("utf-8")
    path.write_text(f'{graph}\ncheckpointer: {{type: sqlite, path: ":memory:"}}\n', "utf-8")
    with pytest.raises(ConfigError, match=r"the `checkpointer` in .*ask\.yaml is in the memory of one"):
        check_shared(2, [str(path)], SHARED)
    check_shared(2, [str(path)], SHARED | {"checkpointer": "sqlite:///threads.db"})


def test_the_command_refuses_several_workers_without_a_relay() -> None:
    done = CliRunner().invoke(app, ["serve", "chat", "--provider", "demo", "--workers", "2", "--port", "0"])
    assert done.exit_code == 2
    assert "ConfigError: --workers 2 needs a store" in done.output
