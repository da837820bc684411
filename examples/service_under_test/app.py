"""Serve a greeting token by token: a service to be tested.

Run it with `uvicorn examples.service_under_test.app:app`, with STREAMCORE_PROVIDER and that provider's key set.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse

from streamcore import ConfigError, StreamcoreError, TextStream, lifespan, stream_prompt

PROMPTS = Path(__file__).with_name("prompts")

app = FastAPI(lifespan=lifespan)


@app.get("/greet")
async def greet(name: str) -> StreamingResponse:
    """Stream a greeting; an error before the first token becomes the status."""
    tokens = stream_prompt("greet", {"name": name}, prompts_dir=PROMPTS).text()
    try:
        first = await anext(tokens, "")
    except ConfigError:
        raise
    except StreamcoreError as error:
        raise HTTPException(502, f"the model gave no answer ({type(error).__name__})") from error
    return StreamingResponse(_body(first, tokens), media_type="text/plain; charset=utf-8")


async def _body(first: str, tokens: TextStream) -> AsyncIterator[str]:
    yield first
    try:
        async for token in tokens:
            yield token
    except StreamcoreError as error:  # a cut answer must not look like a whole one
        yield f"\n[the answer broke off: {type(error).__name__}]"
