"""Read and write messages of NATS JetStream: compare-and-set by subject, the last message, many messages, what is new.

Two streams hold the runs of a service: one every message of every run, the other the last message of each subject, as
a key-value store. Messages of the first are republished once they are stored; a plain subscription would also get what
the server refuses. Reads are direct, by the server's API of version 2.11.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from streamcore.base.redact import redact
from streamcore.concurrency.event_loop import running_on_trio
from streamcore.errors import ConfigError, RelayError, install_command
from streamcore.net.clients import shared_client

if TYPE_CHECKING:
    from collections.abc import Generator

try:
    import nats.errors
    from nats.aio.client import Client
except ModuleNotFoundError as error:
    raise ConfigError(
        f"NATS needs the package 'nats-py', which is not installed; run: {install_command('nats')}"
    ) from error

TIMEOUT = 5.0
"""Seconds after which a request to the server has failed."""
WRONG_LAST_SEQUENCE = 10071
"""The code of the error for a message that is not the next one of its subject."""
NAME_IN_USE = 10058
"""The code of the error for a stream that exists with other settings."""
PAGE = 256
"""How many messages are read at once."""
PAGE_BYTES = 2**20
_OPTIONS = ("replicas", "storage", "max_age")

FAILURES = (nats.errors.Error, OSError, asyncio.TimeoutError)
"""The errors that nats-py raises."""


class Refused(Exception):  # noqa: N818  internal: the caller turns it into a result
    """Report that a message was not stored, since it is not the next one of its subject."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored message: its number in the stream, when it was stored (seconds since 1970, by the server), its bytes."""

    number: int
    time: float
    data: bytes


class NatsStore:
    """The two streams of a service, and the connection of the running loop.

    Args:
        url: `nats://[user:password@]host:port[,host:port...]`, or `tls://...`; its options are `replicas` and
            `storage` (`file` or `memory`).
        name: the service.
        max_age: seconds after which messages are deleted in any case.

    Raises:
        ConfigError: the URL is not valid.
    """

    def __init__(self, url: str, name: str, max_age: float) -> None:
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            self._replicas = int(options.pop("replicas", "1"))
            self._storage = options.pop("storage", "file")
            user, at, hosts = parts.netloc.rpartition("@")
            self._password = parts.password if "," not in hosts else user.partition(":")[2] or None
            servers = [f"{parts.scheme}://{user}{at}{host}" for host in hosts.split(",")]
            valid = all(urlsplit(one).hostname and urlsplit(one).port != 0 for one in servers)
        except ValueError:
            valid, options, servers, hosts = False, {}, [], ""
        if not valid or options or self._storage not in ("file", "memory"):
            raise ConfigError(
                "the NATS `url` is not valid (not shown, since it may have a password); it must be "
                "nats://user:password@host1:4222,host2:4222 (tls:// for TLS), with the options ?replicas=3 and "
                "&storage=memory; in a password, write @ / : ? # % as %40 %2F %3A %3F %23 %25"
            )
        self._servers = servers
        self.location = f"NATS at {hosts}"
        self._max_age = max_age
        base = f"streamcore-relay-{token(name)}" if name else "streamcore-relay"
        self.runs, self.state = f"{base}-runs", f"{base}-state"
        self._subjects = f"streamcore.relay.{token(name)}"

    def run(self, run_id: str) -> str:
        """Return the subject of a run's messages."""
        return f"{self._subjects}.run.{token(run_id)}"

    def published(self, run_id: str) -> str:
        """Return the subject on which a run's messages are republished."""
        return f"{self._subjects}.news.{token(run_id)}"

    def key(self, kind: str, name: str) -> str:
        """Return the subject of an owner, a client or a thread, of which only the last message is kept."""
        return f"{self._subjects}.key.{kind}.{token(name)}"

    def run_key(self, kind: str, run_id: str) -> str:
        """Return the subject of something of a run of which only the last message is kept."""
        return f"{self._subjects}.key.run.{token(run_id)}.{kind}"

    async def connection(self) -> _Connection:
        """Return the connection of the running loop."""

        def make() -> tuple[_Connection, Callable[[], Awaitable[object]]]:
            connection = _Connection(self._servers, self._streams())
            return connection, connection.aclose

        return await shared_client(("nats", *self._servers, self.runs), make)

    def _streams(self) -> list[dict[str, Any]]:
        common: dict[str, Any] = {
            "retention": "limits",
            "discard": "old",
            "storage": self._storage,
            "num_replicas": self._replicas,
            "max_age": int(self._max_age * 1e9),
            "allow_direct": True,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
        }
        republish = {"src": f"{self._subjects}.run.*", "dest": f"{self._subjects}.news.{{{{wildcard(1)}}}}"}
        return [
            {**common, "name": self.runs, "subjects": [f"{self._subjects}.run.*"], "republish": republish},
            {**common, "name": self.state, "subjects": [f"{self._subjects}.key.>"], "max_msgs_per_subject": 1},
        ]

    async def publish(self, subject: str, data: bytes, expected: int | None = None) -> int:
        """Store a message, and return its number.

        Args:
            subject: its subject.
            data: its bytes.
            expected: the number of the last message of the subject, 0 for none; None: whatever it is.

        Raises:
            Refused: the subject has another last message; nothing was stored.
        """
        headers = None if expected is None else {"Nats-Expected-Last-Subject-Sequence": str(expected)}
        connection = await self.connection()
        reply = json.loads((await connection.request(subject, data, headers)).data)
        problem = reply.get("error")
        if problem is None:
            return int(reply["seq"])
        if problem.get("err_code") == WRONG_LAST_SEQUENCE:
            raise Refused
        raise nats.errors.Error(f"nats: {problem.get('description')}")

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, None if there is none."""
        connection = await self.connection()
        found = await connection.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"", None)
        return _stored(found)

    async def after(self, run_id: str, number: int) -> list[Stored]:
        """Return some of a run's messages whose number in the stream is above this one; none if there are none."""
        connection = await self.connection()
        wanted = {"seq": number + 1, "next_by_subj": self.run(run_id), "batch": PAGE, "max_bytes": PAGE_BYTES}
        return await connection.page(f"$JS.API.DIRECT.GET.{self.runs}", json.dumps(wanted).encode())

    async def purge(self, stream: str, subject: str, before: int | None = None) -> None:
        """Delete the messages of a subject, or those with numbers below one."""
        wanted: dict[str, Any] = {"filter": subject}
        if before is not None:
            wanted["seq"] = before
        connection = await self.connection()
        await connection.api(f"STREAM.PURGE.{stream}", wanted)

    async def now(self) -> float:
        """Return the server's time, in seconds since 1970."""
        connection = await self.connection()
        await connection.open()
        return asyncio.get_running_loop().time() + connection.offset

    async def max_payload(self) -> int:
        """Return how many bytes a message may have."""
        connection = await self.connection()
        return int((await connection.open()).max_payload) - 1024

    @contextmanager
    def mapped_errors(self, run_id: str) -> Generator[None]:
        """Map nats-py's errors to `RelayError`, without the password.

        Raises:
            ConfigError: the loop is trio's.
        """
        if running_on_trio():
            raise ConfigError(
                "runs in NATS need asyncio, the only event loop that nats-py supports; under trio, use the log in "
                "memory"
            )
        try:
            yield
        except FAILURES as error:
            reason = redact(str(error).rstrip(".") or type(error).__name__, [self._password])
            raise RelayError(f"run {run_id!r}: {self.location} failed ({reason}); try again later") from error


class _Connection:
    """The connection of one event loop, opened at the first request."""

    def __init__(self, servers: list[str], streams: list[dict[str, Any]]) -> None:
        self._servers = servers
        self._streams = streams
        self._client: Any = None
        self._ready = False  # the streams exist
        self._lock = asyncio.Lock()
        self.lost: list[Callable[[], None]] = []
        """Functions that are called when the connection is lost."""
        self.offset = 0.0
        """The server's time less that of the event loop."""

    async def open(self) -> Any:
        """Return the client, connected, with the streams.

        Raises:
            nats.errors.Error, OSError, asyncio.TimeoutError: the server cannot be reached.
        """
        if self._ready and self._client.is_connected:
            return self._client
        async with self._lock:
            if self._client is None:
                self._client = await self._connect()
            if not self._client.is_connected:
                raise ConnectionError("the connection is lost")
            if not self._ready:
                for stream in self._streams:
                    await self._create(stream)
                self._ready = True
        return self._client

    async def _connect(self) -> Any:
        client: Any = Client()
        connecting = client.connect(
            servers=self._servers,
            error_cb=_ignore,
            disconnected_cb=self._tell_lost,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            connect_timeout=2,
            ping_interval=5,
        )
        try:
            await asyncio.wait_for(connecting, TIMEOUT)
        except BaseException:
            await client.close()
            raise
        return client

    async def _create(self, stream: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        problem = (await self._api(f"STREAM.CREATE.{stream['name']}", stream)).get("error")
        if problem is not None and problem.get("err_code") == NAME_IN_USE:
            problem = (await self._api(f"STREAM.UPDATE.{stream['name']}", stream)).get("error")
        if problem is not None:
            raise nats.errors.Error(f"nats: {problem.get('description')}")
        begun = loop.time()
        info = await self._api(f"STREAM.INFO.{stream['name']}", {})
        self.offset = _seconds(info["ts"]) - (begun + loop.time()) / 2

    async def _api(self, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self._client.request(f"$JS.API.{name}", json.dumps(wanted).encode(), timeout=TIMEOUT)
        found: dict[str, Any] = json.loads(reply.data)
        return found

    async def api(self, name: str, wanted: Mapping[str, Any]) -> None:
        """Ask for a change of a stream."""
        await self.open()
        problem = (await self._api(name, wanted)).get("error")
        if problem is not None:
            raise nats.errors.Error(f"nats: {problem.get('description')}")

    async def request(self, subject: str, data: bytes, headers: dict[str, str] | None) -> Any:
        """Send a request and return the reply."""
        client = await self.open()
        return await client.request(subject, data, timeout=TIMEOUT, headers=headers)

    async def page(self, subject: str, data: bytes) -> list[Stored]:
        """Send a request that is answered by many messages, and return those."""
        client = await self.open()
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        try:
            await client.publish(subject, data, reply=inbox)
            found: list[Stored] = []
            while True:
                message = await subscription.next_msg(timeout=TIMEOUT)
                one = _stored(message)
                if one is None:
                    return found
                found.append(one)
        finally:
            await subscription.unsubscribe()

    async def subscribe(self, subject: str, take: Callable[[bytes], None]) -> Any:
        """Call a function with each message of a subject from now on; return the subscription."""
        client = await self.open()

        async def receive(message: Any) -> None:
            take(message.data)

        subscription = await client.subscribe(subject, cb=receive)
        await client.flush(timeout=TIMEOUT)
        return subscription

    async def _tell_lost(self) -> None:
        self._ready = False  # a server that restarts may have lost the streams
        for function in self.lost:
            function()

    async def aclose(self) -> None:
        """Close the connection."""
        client, self._client, self._ready = self._client, None, False
        if client is not None:
            await client.close()


async def _ignore(error: Exception) -> None:
    """Ignore an error of the connection, which also fails the requests."""


def _stored(message: Any) -> Stored | None:
    headers: Mapping[str, str] = message.headers or {}
    status = headers.get("Status")
    if status in ("404", "204"):  # there is none, or no more
        return None
    if status:
        raise nats.errors.Error(f"nats: {status} {headers.get('Description', '')}")
    return Stored(int(headers["Nats-Sequence"]), _seconds(headers["Nats-Time-Stamp"]), bytes(message.data))


def _seconds(text: str) -> float:
    """Return the seconds since 1970 of a time as the server writes it, with nanoseconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


def token(name: str) -> str:
    """Return a name as a part of a subject, which has only some characters."""
    return base64.urlsafe_b64encode(name.encode("utf-8", "surrogatepass")).decode().rstrip("=") or "-"
