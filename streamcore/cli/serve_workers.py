"""Run the workers of `streamcore serve --workers N`: processes that accept connections on one listening socket.

uvicorn has a supervisor, too, which leaves its workers behind if it is killed, and ends the whole service if a single
new worker cannot start. This one does neither, waits between attempts to start a worker, and exits as one worker would.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from streamcore.cli.worker_process import HANDLED, HUNG_SECONDS, Serve, in_terminal, run_worker
from streamcore.errors import ConfigError, PromptError
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.load import Graph, load_graph

log = logging.getLogger("streamcore")

FIRST_PAUSE = 0.5
"""Seconds before a worker is started again that ended before it served; each further time doubles them."""
LONGEST_PAUSE = 30.0

ABORT_SECONDS = 5.0
"""Seconds after which a hung worker that does not end on SIGABRT is killed."""


def check_shared(workers: int, targets: Sequence[str], options: Mapping[str, Any]) -> None:
    """Check that the workers share everything that a client may need from another worker.

    Args:
        workers: their number, above 1.
        targets: the files and names of what is served.
        options: the options of `streamcore serve`.

    Raises:
        ConfigError: an option leaves something in the memory of one worker.
    """
    several = f"--workers {workers}"
    if options["relay"] in (None, "memory:"):
        raise ConfigError(
            f"{several} needs a store that all workers share, as --relay redis://host:6379/0: a client that "
            "reconnects, stops a run or answers a question may reach another worker"
        )
    if ":memory:" in (options["checkpointer"] or ""):
        raise ConfigError(
            f"{several} needs a --checkpointer that all workers share, not {options['checkpointer']!r}, which is in "
            "the memory of one; leave it out to keep conversations in the Redis of --relay"
        )
    if options["checkpointer"] is None and options["durable"] is None:
        for graph in _graphs(targets):
            if ":memory:" in str(graph.file.checkpointer):
                raise ConfigError(
                    f"{several} needs conversations in a store that all workers share, and the `checkpointer` in "
                    f"{graph.path} is in the memory of one; remove it to keep them in the Redis of --relay, or give "
                    "--checkpointer"
                )
    if options["metrics"]:
        raise ConfigError(
            f"--metrics cannot be used with {several}: each worker counts its own answers, and a request for /metrics "
            "reaches only one of them; use --telemetry, or start a service for each port"
        )


def _graphs(targets: Sequence[str]) -> Iterator[Graph]:
    """Yield the targets that are graphs."""
    for path in map(Path, targets):
        if path.suffix in (".yaml", ".yml"):
            data = load_yaml(path, PromptError).data
            if is_mapping(data) and "nodes" in data:
                yield load_graph(path)


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that serves.

    Attributes:
        process: the process.
        news: can be read once the worker serves, and then with each sign of life.
        serves: whether it serves.
        heard: the time of its last sign of life.
        aborted: the time at which it was ended, since it hung.
        replaces: the worker that is ended once this one serves.
        retired: whether it was asked to end.
    """

    process: SpawnProcess
    news: Connection
    serves: bool = False
    heard: float = 0.0
    aborted: float | None = None
    replaces: _Worker | None = None
    retired: bool = False

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ask the worker to end: it closes its streams with a last event; a second SIGINT ends it at once."""
        self.retired = True
        _send(self, number)

    @property
    def end_reason(self) -> str:
        """How the process ended, for the log."""
        code = self.process.exitcode or 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _send(worker: _Worker, number: int) -> None:
    """Send a signal to a worker, if it runs."""
    if worker.process.exitcode is None and worker.process.pid is not None:
        os.kill(worker.process.pid, number)


class Supervisor:
    """Start workers on one listening socket, replace those that end, and end all of them on a signal.

    SIGINT and SIGTERM end all workers. SIGHUP replaces them one after the other with new ones, which load the files of
    the service again; no connection is refused meanwhile. If the service runs in a terminal, SIGHUP is the terminal's
    end, and ends the service, too. A worker whose event loop does not turn for `hung_seconds` is ended and replaced.

    Args:
        serve: what a worker does; it is pickled.
        listening: the socket.
        count: how many workers there are.
        hung_seconds: seconds without a sign of life after which a worker is ended; defaults to `HUNG_SECONDS`, and in
            a terminal, where somebody may debug a worker or suspend it, to none.
    """

    def __init__(
        self, serve: Serve, listening: socket.socket, count: int, *, hung_seconds: float | None = None
    ) -> None:
        self._serve = serve
        self._waited = time.monotonic()  # when this process last waited, which it does often
        self._listening = listening
        self._count = count
        self._workers: list[_Worker] = []
        self._outdated: list[_Worker] = []  # those that SIGHUP replaces
        self._pause = FIRST_PAUSE
        self._start_at = 0.0  # the time before which no worker is started; 0: at once
        self._has_served = False
        self._failed = 0  # the exit code of a worker that cannot start
        self._signal = 0  # the signal that ends the service
        self._in_terminal = in_terminal()
        self._hung_seconds = hung_seconds or (math.inf if self._in_terminal else HUNG_SECONDS)

    def run(self) -> None:
        """Run until a signal, or until the first workers cannot start.

        Raises:
            SystemExit: no worker could start; with the exit code of one.
            KeyboardInterrupt: SIGINT has ended the workers. SIGTERM ends this process in the same way.
        """
        with _signals() as received:
            try:
                while self._workers or not (self._signal or self._failed):
                    self._start_missing()
                    self._wait(received)
                    self._end_hung()
            finally:
                self._end_all()  # nothing is left to end, unless this fails
        if self._failed:
            raise SystemExit(self._failed)
        signal.raise_signal(self._signal)

    def _start_missing(self) -> None:
        """Start the workers that are missing, and the one that replaces an outdated one."""
        if self._signal or self._failed or time.monotonic() < self._start_at:
            return
        self._start_at = 0.0
        missing = self._count - sum(not worker.retired and worker.replaces is None for worker in self._workers)
        for _ in range(missing):
            self._start()
        if self._outdated and all(worker.serves for worker in self._workers):
            self._start(replaces=self._outdated.pop())

    def _start(self, replaces: _Worker | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        news, written = context.Pipe(duplex=False)
        process = context.Process(target=run_worker, args=(self._serve, self._listening, written))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)  # until the worker handles them
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        written.close()
        self._workers.append(_Worker(process, news, replaces=replaces))

    def _wait(self, received: socket.socket) -> None:
        """Wait until something happens: a signal, a worker that serves or has ended, or the end of a pause."""
        heard = {worker.news: worker for worker in self._workers if not worker.news.closed}
        running = {worker.process.sentinel: worker for worker in self._workers}
        look = min(self._hung_seconds / 4, LONGEST_PAUSE)
        pause = min(look, max(0.0, self._start_at - time.monotonic())) if self._start_at else look
        found = wait([received, *heard, *running], pause)
        for worker in [heard[one] for one in found if isinstance(one, Connection)]:
            self._note_news(worker)
        for worker in [running[one] for one in found if isinstance(one, int)]:
            self._note_end(worker)
        if received in found:
            for number in received.recv(100):
                self._note_signal(number)

    def _note_news(self, worker: _Worker) -> None:
        """Note that a worker serves, that it lives, or that it has ended."""
        if not os.read(worker.news.fileno(), 4096):
            worker.news.close()
            return
        worker.heard = time.monotonic()
        if worker.serves:
            return
        worker.serves = self._has_served = True
        self._pause = FIRST_PAUSE
        log.info("worker %s serves", worker.process.pid)
        if worker.replaces is not None:
            worker.replaces.end()
            worker.replaces = None

    def _note_end(self, worker: _Worker) -> None:
        """Note that a worker has ended, and decide whether another one is started, and when."""
        worker.process.join()
        worker.news.close()
        self._workers.remove(worker)
        self._outdated = [one for one in self._outdated if one is not worker]
        for other in self._workers:
            if other.replaces is worker:
                other.replaces = None
        if worker.retired:
            return
        name, reason = worker.process.pid, worker.end_reason
        if worker.serves:
            log.warning("worker %s %s; another one is started", name, reason)
        elif worker.replaces is not None:
            self._outdated.clear()
            log.error("worker %s %s before it served; the older workers are kept", name, reason)
        elif self._has_served:
            log.error("worker %s %s before it served; another one is started in %s s", name, reason, self._pause)
            self._start_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._failed = max(1, worker.process.exitcode or 0)
            self._end_all()

    def _end_hung(self) -> None:
        """End the workers that gave no sign of life for too long."""
        now = time.monotonic()
        # After a long pause of this process, which may have been one of the whole machine, each worker gets time.
        if now - self._waited > self._hung_seconds / 2:
            for worker in self._workers:
                worker.heard = now
        self._waited = now
        for worker in self._workers:
            if not worker.serves or now - worker.heard < self._hung_seconds:
                continue
            if worker.aborted is None:
                worker.aborted = now
                silent = now - worker.heard
                name = worker.process.pid
                log.error("worker %s has not responded for %.0f s and is ended, with its stacks", name, silent)
                _send(worker, signal.SIGABRT)
            elif now - worker.aborted > ABORT_SECONDS:
                _send(worker, signal.SIGKILL)

    def _note_signal(self, number: int) -> None:
        """Do what a signal means."""
        if number not in HANDLED:
            return
        if number == signal.SIGHUP and not self._in_terminal:
            if not self._signal:
                self._outdated = [worker for worker in self._workers if not worker.retired]
            return
        again = number == signal.SIGINT and self._signal
        self._signal = self._signal or number
        self._end_all(signal.SIGINT if again else signal.SIGTERM)

    def _end_all(self, number: int = signal.SIGTERM) -> None:
        """Ask all workers to end, and accept no more connections."""
        self._listening.close()
        for worker in self._workers:
            worker.end(number)


def _note(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number of the signal is written to a socket, which the supervisor reads."""


@contextmanager
def _signals() -> Generator[socket.socket]:
    """Yield a socket with the numbers of the handled signals that this process receives, a byte each."""
    received, sent = socket.socketpair()
    sent.setblocking(False)
    handlers = {number: signal.signal(number, _note) for number in HANDLED}
    waked = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
    try:
        yield received
    finally:
        signal.set_wakeup_fd(waked)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        received.close()
        sent.close()
