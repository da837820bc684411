"""Stream an answer to a browser with FastAPI and EventSource, over lost connections; see fastapi_sse.md.

python examples/fastapi_sse.py [--port 8000]      STREAMCORE_PROVIDER names the provider; default: demo
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from fastapi import FastAPI, Header, Query
from fastapi.responses import FileResponse, Response

import streamcore
from streamcore import stream_prompt
from streamcore.relay import Relay, open_log, relay_response

HERE = Path(__file__).resolve().parent
PROMPTS = HERE.parent / "prompts"

# An answer continues when its reader's connection breaks. With RELAY=redis://... any worker has the rest.
relay = Relay(open_log(os.environ.get("RELAY")), grace=float(os.environ.get("GRACE", "30")))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keep the relay and the vendors' connections open while the service runs."""
    async with streamcore.lifespan(app), relay:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/stream")
async def stream(
    prompt: Annotated[str, Query(max_length=4000)],
    format: Literal["text", "json"] = "text",  # noqa: A002
    again: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Answer a question, token by token; or send the rest of the answer to a browser that reconnects."""
    provider = os.environ.get("STREAMCORE_PROVIDER", "demo")
    return await relay_response(
        relay,
        lambda: stream_prompt("chat", {"query": prompt}, provider=provider, prompts_dir=PROMPTS),
        last_event_id or again,
        format,
    )


@app.get("/")
async def page() -> Response:
    """Show the page."""
    return FileResponse(HERE / "fastapi_sse.html")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Stream answers to a page on http://127.0.0.1:PORT/")
    arguments.add_argument("--port", type=int, default=8000)
    # Open streams get their end when the server stops; clients that do not read it are disconnected after 5 seconds.
    uvicorn.run(app, host="127.0.0.1", port=arguments.parse_args().port, timeout_graceful_shutdown=5)
