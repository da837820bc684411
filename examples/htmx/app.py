"""Stream an answer into a page with htmx 2 or htmx 4; see README.md in this folder.

python examples/htmx/app.py [--port 8000]      STREAMCORE_PROVIDER names the provider; default: demo
"""

from __future__ import annotations

import argparse
import html
import os
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Header, Query
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

import streamcore
from streamcore import stream_prompt
from streamcore.relay import Relay, open_log, relay_response

HERE = Path(__file__).resolve().parent
PROMPTS = HERE.parent.parent / "prompts"
Question = Annotated[str, Query(max_length=4000)]
Version = Literal["htmx2", "htmx4"]

ANSWERS: dict[Version, str] = {
    "htmx2": """<article hx-ext="sse" sse-connect="{url}" sse-close="done">
<h2>{question}</h2>
<div class="answer" sse-swap="message" hx-swap="beforeend"></div>
<div class="error" sse-swap="stream-error"></div>
</article>""",
    "htmx4": """<article>
<h2>{question}</h2>
<div class="answer" hx-sse:connect="{url}" hx-sse:close="done" hx-swap="beforeend"></div>
<div class="error"></div>
</article>""",
}

# An answer continues when its reader's connection breaks. With RELAY=redis://... any worker has the rest.
relay = Relay(open_log(os.environ.get("RELAY")), grace=float(os.environ.get("GRACE", "30")))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keep the relay and the vendors' connections open while the service runs."""
    async with streamcore.lifespan(app), relay:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/vendor", StaticFiles(directory=HERE / "vendor"))


@app.get("/stream")
async def stream(
    prompt: Question, run: str, again: str | None = None, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """Answer a question in fragments of HTML, each escaped; or send the rest to a page that reconnects."""
    provider = os.environ.get("STREAMCORE_PROVIDER", "demo")
    return await relay_response(
        relay,
        lambda: stream_prompt("chat", {"query": prompt}, provider=provider, prompts_dir=PROMPTS),
        last_event_id or again,
        "html",
        run_id=run,
    )


@app.get("/ask/{version}")
async def ask(version: Version, prompt: Question) -> Response:
    """Return the element into which the answer streams."""
    run = secrets.token_urlsafe(12)  # a second request for the same run gets the same answer
    url = html.escape(f"/stream?run={run}&prompt={quote(prompt)}")
    return HTMLResponse(ANSWERS[version].format(url=url, question=html.escape(prompt)))


@app.get("/")
async def index() -> Response:
    """Go to the page for htmx 4."""
    return RedirectResponse("/htmx4")


@app.get("/{version}")
async def page(version: Version) -> Response:
    """Show a page."""
    return FileResponse(HERE / f"{version}.html")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Stream answers to pages on http://127.0.0.1:PORT/htmx2 and /htmx4")
    arguments.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, host="127.0.0.1", port=arguments.parse_args().port, timeout_graceful_shutdown=5)
