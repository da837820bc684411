"""Run one of several workers that share a relay's log: start, read, stop and cancel runs over HTTP.

python -m tests.relay_worker PORT REDIS_URL SIMULATOR_URL LEASE GRACE
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

import streamcore
from streamcore import Message, get_provider, stream_request
from streamcore.errors import RunExists, RunNotFound
from streamcore.relay import Relay, open_log, run_response
from streamcore.sse import Format, read_place
from tests.support import KEY


def make_app(redis_url: str, simulator_url: str, lease: float, grace: float) -> FastAPI:
    """Return the service of one worker."""
    relay = Relay(open_log(redis_url), lease=lease, grace=grace)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with streamcore.lifespan(app), relay:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/{run_id}")
    async def start(run_id: str) -> None:
        provider = get_provider("openai", api_key=KEY, model="m", base_url=simulator_url)
        try:
            await relay.start(run_id, stream_request(streamcore.Request([Message("user", run_id)]), provider=provider))
        except RunExists as error:
            raise HTTPException(409, str(error)) from error

    @app.get("/running")
    async def running() -> int:
        return relay.running

    @app.get("/{run_id}")
    async def read(request: Request, run_id: str, format: Format) -> Response:  # noqa: A002  the query's name
        last_id = request.headers.get("last-event-id")
        try:
            return await run_response(relay, run_id, read_place(last_id) if last_id else None, format)
        except RunNotFound as error:
            raise HTTPException(404) from error

    @app.post("/{run_id}/{command}")
    async def end(run_id: str, command: str) -> Any:
        return await (relay.stop if command == "stop" else relay.cancel)(run_id)

    return app


if __name__ == "__main__":
    port, redis_url, simulator_url, lease, grace = sys.argv[1:]
    uvicorn.run(
        make_app(redis_url, simulator_url, float(lease), float(grace)),
        host="127.0.0.1",
        port=int(port),
        log_level="error",
        loop="asyncio",
        timeout_graceful_shutdown=2,
    )
