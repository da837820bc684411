"""Stream an answer to a browser with FastAPI and EventSource; see fastapi_sse.md.

python examples/fastapi_sse.py [--port 8000]      STREAMCORE_PROVIDER says whom to ask; without it, demo
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from fastapi import FastAPI, Query
from fastapi.responses import FileResponse, Response

import streamcore
from streamcore import stream_prompt
from streamcore.sse import sse_response

HERE = Path(__file__).resolve().parent
PROMPTS = HERE.parent / "prompts"

app = FastAPI(lifespan=streamcore.lifespan)


@app.get("/stream")
async def stream(
    prompt: Annotated[str, Query(max_length=4000)],
    format: Literal["text", "json"] = "text",  # noqa: A002
) -> Response:
    """Answer a question, token by token."""
    provider = os.environ.get("STREAMCORE_PROVIDER", "demo")
    answer = stream_prompt("chat", {"query": prompt}, provider=provider, prompts_dir=PROMPTS)
    return sse_response(answer, format)


@app.get("/")
async def page() -> Response:
    """Show the page."""
    return FileResponse(HERE / "fastapi_sse.html")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Stream answers to a page on http://127.0.0.1:PORT/")
    arguments.add_argument("--port", type=int, default=8000)
    # Open streams get their end when the server is told to stop; who does not take it is cut after 5 seconds.
    uvicorn.run(app, host="127.0.0.1", port=arguments.parse_args().port, timeout_graceful_shutdown=5)
