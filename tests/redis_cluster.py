"""Run a real Redis Cluster for tests: some primaries with a replica each, on free ports of loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import DEADLINE, free_port, require

NODE_TIMEOUT = 5000
"""Milliseconds after which the nodes take one that is silent for lost."""


class RedisCluster:
    """Redis servers that form a cluster; all stop with the test.

    Args:
        folder: where each node has a folder of its own.
        nodes: how many primaries.
        replicas: how many replicas each primary has, one of which replaces it if it is killed.
    """

    def __init__(self, folder: Path, *, nodes: int = 3, replicas: int = 0) -> None:
        self._program = shutil.which("redis-server")
        require(self._program and shutil.which("redis-cli"), "redis-server is not installed (apt-get install redis)")
        self._folder = folder
        self._replicas = replicas
        self.ports = [free_port() for _ in range(nodes * (1 + replicas))]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The URL of the cluster, with its first two nodes."""
        return f"redis+cluster://127.0.0.1:{self.ports[0]},127.0.0.1:{self.ports[1]}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._kill_all)
            for port in self.ports:
                self._start(port)
            addresses = [f"127.0.0.1:{port}" for port in self.ports]
            more = ("--cluster-replicas", str(self._replicas), "--cluster-yes")
            command = ("redis-cli", "--cluster", "create", *addresses, *more)
            subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE)
            self._wait(self._agrees, "the cluster is ready")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def kill(self, port: int) -> None:
        """End a node at once, as kill -9 does."""
        process = self._processes.pop(port)
        process.kill()
        process.wait()

    def port_of(self, key: str) -> int:
        """Return the port of the primary that has a key."""
        slot = int(self._ask(next(iter(self._processes)), "CLUSTER", "KEYSLOT", key))
        for port in self._processes:
            role = self._ask(port, "ROLE").split()[0]
            mine = [line for line in self._ask(port, "CLUSTER", "NODES").splitlines() if "myself" in line]
            for part in mine[0].split()[8:]:
                first, _, last = part.partition("-")
                if role == "master" and int(first) <= slot <= int(last or first):
                    return port
        raise AssertionError(f"no node has the slot of {key!r}")

    def wait_until_replicated(self, port: int) -> None:
        """Wait until the replica of a primary has all that the primary has now."""
        wanted = int(self._ask(port, "INFO", "replication").split("master_repl_offset:")[1].split()[0])

        def has_it() -> bool:
            replica = self._ask(port, "INFO", "replication").split("slave0:")[1].split()[0]
            return int(dict(part.split("=") for part in replica.split(","))["offset"]) >= wanted

        self._wait(has_it, "the replica has all")

    def _start(self, port: int) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        options = {
            "port": port,
            "cluster-port": free_port(),
            "bind": "127.0.0.1",
            "dir": folder,
            "save": "",
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT,
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": 0,
        }
        command = [str(self._program), *(str(one) for name, value in options.items() for one in (f"--{name}", value))]
        quiet = subprocess.DEVNULL
        self._processes[port] = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        self._wait(lambda: _answers(port), "a node answers")

    def _agrees(self) -> bool:
        """Return whether all nodes know all slots, and each replica has its primary's data."""
        for port in self.ports:
            if "cluster_state:ok" not in self._ask(port, "CLUSTER", "INFO"):
                return False
            role = self._ask(port, "ROLE").split()
            if role[0] == "slave" and "connected" not in role:
                return False
        return True

    @staticmethod
    def _ask(port: int, *command: str) -> str:
        full = ("redis-cli", "-p", str(port), *command)
        return subprocess.run(full, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout

    @staticmethod
    def _wait(condition: object, what: str) -> None:
        assert callable(condition)
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"never happened: {what}"
            time.sleep(0.05)

    def _kill_all(self) -> None:
        for port in [*self._processes]:
            self.kill(port)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(100).startswith(b"+PONG")
    except OSError:
        return False
