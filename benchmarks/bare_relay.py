"""Pass requests on over uvicorn and aiohttp, byte for byte: the least that any gateway in Python costs.

    python benchmarks/bare_relay.py PORT NAME=URL...      /NAME/... is passed on to URL/...

It reads nothing of a request or an answer, checks no key, and ends nothing honestly. `benchmarks/endpoints.py` runs it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import aiohttp
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send


def relay(upstreams: Mapping[str, str]) -> ASGIApp:
    """Return the app."""
    sessions: list[aiohttp.ClientSession] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(sessions, receive, send)
        _, name, path = scope["path"].split("/", 2)
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        async with sessions[0].post(
            f"{upstreams[name]}/{path}", data=body, headers={"Content-Type": "application/json"}
        ) as answer:
            head = [(b"content-type", answer.headers["Content-Type"].encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": head})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        return await send({"type": "http.response.body", "body": b""})

    return app


async def _lifespan(sessions: list[aiohttp.ClientSession], receive: Receive, send: Send) -> None:
    message: Message = await receive()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sessions.append(session)
        await send({"type": "lifespan.startup.complete"})
        while message["type"] != "lifespan.shutdown":
            message = await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    port, *named = sys.argv[1:]
    given = dict(one.split("=", 1) for one in named)
    uvicorn.run(relay(given), port=int(port), log_level="warning", access_log=False)
