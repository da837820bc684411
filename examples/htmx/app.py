"""Stream an answer into a page with htmx 2 or htmx 4; see README.md beside this file.

python examples/htmx/app.py [--port 8000]      STREAMCORE_PROVIDER says whom to ask; without it, demo
"""

from __future__ import annotations

import argparse
import html
import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Query
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

import streamcore
from streamcore import stream_prompt
from streamcore.sse import sse_response

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
<div class="answer" hx-sse:connect="{url}" hx-sse:close="done" hx-swap="beforeend"
     hx-config='{{"sse": {{"pauseOnBackground": false}}}}'></div>
<div class="error"></div>
</article>""",
}

app = FastAPI(lifespan=streamcore.lifespan)
app.mount("/vendor", StaticFiles(directory=HERE / "vendor"))


@app.get("/stream")
async def stream(prompt: Question) -> Response:
    """Answer a question in fragments of HTML, each escaped."""
    provider = os.environ.get("STREAMCORE_PROVIDER", "demo")
    answer = stream_prompt("chat", {"query": prompt}, provider=provider, prompts_dir=PROMPTS)
    return sse_response(answer, "html")


@app.get("/ask/{version}")
async def ask(version: Version, prompt: Question) -> Response:
    """Return the place into which the answer will stream."""
    url = html.escape(f"/stream?prompt={quote(prompt)}")
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
