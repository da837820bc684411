"""Run an ASGI app under uvicorn on a free loopback port, in a thread, and read the streams that it sends."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import uvicorn

from tests.support import DEADLINE, wait_until


@contextmanager
def serving(app: Any, loop: Literal["asyncio", "uvloop"] = "asyncio", **options: Any) -> Generator[str]:
    """Serve the app on an event loop of this kind while the block runs, and yield its URL; `options` are uvicorn's."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            ws="none",
            loop=loop,
            timeout_graceful_shutdown=3,
            timeout_keep_alive=600,  # a busy machine must not lose a client's connection between two requests
            **options,
        )
    )
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server started")
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE)
        listening.close()
        assert not thread.is_alive()


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One message of an event stream."""

    name: str
    data: str
    id: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def messages_in(body: bytes) -> list[StreamMessage]:
    """Return the messages of a complete body, parsed as a browser does."""
    found: list[StreamMessage] = []
    for block in body.decode().split("\n\n"):
        fields = [line.partition(":")[::2] for line in block.split("\n")]
        data = [value.removeprefix(" ") for name, value in fields if name == "data"]
        if data:
            fields_of = {name: value.removeprefix(" ") for name, value in fields}
            found.append(StreamMessage(fields_of.get("event", "message"), "\n".join(data), fields_of.get("id", "")))
    return found


def listen(url: str, path: str, **options: Any) -> list[StreamMessage]:
    """Request a stream and return all its messages."""
    response = httpx2.get(f"{url}{path}", timeout=60, **options)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return messages_in(response.content)


def text_of(messages: Iterable[StreamMessage]) -> str:
    """Return the text of a stream of format json."""
    return "".join(one.json.get("text", "") for one in messages if one.name == "message" and one.json["kind"] == "text")


def reading(url: str, path: str, until: str = "w1 ") -> tuple[threading.Thread, list[bytes], threading.Event]:
    """Read a stream in a thread; the event is set when the text has arrived."""
    came: list[bytes] = []
    begun = threading.Event()

    def read() -> None:
        with httpx2.stream("GET", f"{url}{path}", timeout=60) as response:
            for piece in response.iter_bytes():
                came.append(piece)
                if until.encode() in piece:
                    begun.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, came, begun
