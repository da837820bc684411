"""Run a small HTTP proxy in a thread: plain requests and tunnels, with or without a password, also over TLS itself."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_TURNS = 5  # of the event loop, in which aborted connections end


class ProxyServer:
    """A proxy on loopback that sends every request to one port, whatever host it names.

    Args:
        upstream: the port of loopback on which the requested server listens.
        password: `user:password` that clients must send; None lets every client in.
        tls: the context with which the proxy itself is served.
    """

    def __init__(self, upstream: int, *, password: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[str] = []
        """The first line of each request that was let in."""
        self.refused = 0
        """How many requests had a wrong password or none."""
        self._upstream, self._password, self._tls = upstream, password, tls
        self._clients: set[asyncio.Task[None]] = set()
        self._listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.port = 0

    @property
    def address(self) -> str:
        """Host and port, with the password."""
        return ("" if self._password is None else f"{self._password}@") + f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stopped is not None
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._client, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopped.wait()
        server.close()
        clients = self._clients.copy()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        to: asyncio.StreamWriter | None = None
        assert task is not None
        self._clients.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, url, _ = head.partition(b"\r\n")[0].decode().split(" ")
            if not self._lets_in(head):
                self.refused += 1
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
            else:
                self.requests.append(f"{method} {url}")
                back, to = await asyncio.open_connection("127.0.0.1", self._upstream)
                if method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = "/" + url.split("/", 3)[3]
                    to.write(head.replace(url.encode(), path.encode(), 1))
                pumps = [asyncio.create_task(_pump(reader, to)), asyncio.create_task(_pump(back, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
        for open_writer in (writer, to):
            if open_writer is not None:
                open_writer.transport.abort()
        self._clients.discard(task)

    def _lets_in(self, head: bytes) -> bool:
        if self._password is None:
            return True
        expected = b"proxy-authorization: basic " + base64.b64encode(self._password.encode()).lower()
        return expected in head.lower()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
