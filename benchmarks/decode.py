"""Measure the CPU that a chunk costs over httpx2 and aiohttp, next to the SDK's typed stream and to bare reading.

Loopback TCP, the server in its own process, one HTTP chunk per event. Every figure is the process's own CPU time, in
microseconds per token, the median of several rounds that take turns, so that the ratios hold on a noisy machine.

    python benchmarks/decode.py [--tokens 2000] [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import anthropic
import botocore.session
import httpx2
import msgspec
import openai
from google import genai
from google.genai.types import HttpOptions
from mistralai.client import Mistral

from streamcore import (
    Message,
    Request,
    aclose_providers,
    execute_prompt_streaming,
    get_provider,
    stream_request,
)
from streamcore.testing.simulator.received import BASE_PATHS

PROVIDERS = ("anthropic", "openai", "openai-responses", "mistral", "google", "bedrock")
TARGETS = {"anthropic": 2.0, "openai": 6.0, "openai-responses": 6.0, "mistral": 25.0, "google": 6.0, "bedrock": 1.3}
TRANSPORTS = ("httpx2", "aiohttp")
BARE_TARGETS = {"httpx2": 1.4, "aiohttp": 0.5}
BINARY_TARGETS = {"httpx2": 1.5, "aiohttp": 0.6}
"""The same for frames with checksums."""
QUESTION = "Count."
Run = Callable[[], Awaitable[int]]


def base_url(root: str, provider: str) -> str:
    """Return the URL of the simulator for a provider."""
    return root + BASE_PATHS.get(provider, "/v1")


def bare(client: httpx2.AsyncClient, root: str, provider: str) -> Run:
    """Read the bytes of the response and do nothing with them."""
    paths = {
        "anthropic": "/v1/messages",
        "openai": "/v1/chat/completions",
        "openai-responses": "/v1/responses",
        "mistral": "/mistral/v1/chat/completions",
        "google": "/v1/models/m:streamGenerateContent?alt=sse",
        "bedrock": "/model/m/converse-stream",
    }
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": QUESTION}]})
    if provider == "google":
        body = msgspec.json.encode({"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]})

    async def run() -> int:
        size = 0
        async with (
            client.stream("POST", root + paths[provider], content=body) as response,
            aclosing(response.aiter_bytes()) as reads,
        ):
            async for data in reads:
                size += len(data)
        return size

    return run


def chunks(root: str, provider: str, transport: str) -> Run:
    """Read `stream_request`, chunk by chunk."""
    found = get_provider(provider, api_key="k", base_url=base_url(root, provider), model="m", transport=transport)
    request = Request([Message("user", QUESTION)])

    async def run() -> int:
        count = 0
        async with stream_request(request, provider=found) as stream:
            async for chunk in stream:
                count += chunk.kind == "text"
        return count

    return run


def texts(root: str, provider: str, transport: str, prompts: str) -> Run:
    """Read `execute_prompt_streaming`."""
    found = get_provider(provider, api_key="k", base_url=base_url(root, provider), model="m", transport=transport)

    async def run() -> int:
        count = 0
        async for _ in execute_prompt_streaming("count", provider=found, prompts_dir=prompts):
            count += 1
        return count

    return run


def typed(root: str, provider: str) -> tuple[Run, Callable[[], Awaitable[Any]]]:
    """Read the SDK's own typed stream; return also the function that closes its client."""
    messages: Any = [{"role": "user", "content": QUESTION}]
    url = base_url(root, provider)
    if provider == "anthropic":
        claude = anthropic.AsyncAnthropic(api_key="k", base_url=url)

        async def run_anthropic() -> int:
            count = 0
            async with claude.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                async for event in stream:
                    count += event.type == "text"
            return count

        return run_anthropic, claude.close
    if provider == "mistral":
        mistral: Any = Mistral(api_key="k", server_url=url)

        async def run_mistral() -> int:
            count = 0
            async with await mistral.chat.stream_async(model="m", messages=messages) as stream:
                async for event in stream:
                    count += bool(event.data.choices and event.data.choices[0].delta.content)
            return count

        return run_mistral, lambda: mistral.__aexit__(None, None, None)
    if provider == "bedrock":  # its SDK is synchronous, so it reads in a thread
        session: Any = botocore.session.Session()
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k"}
        runtime = session.create_client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, **keys)
        asked: Any = [{"role": "user", "content": [{"text": QUESTION}]}]

        def read_bedrock() -> int:
            events = runtime.converse_stream(modelId="m", messages=asked)["stream"]
            return sum("text" in event.get("contentBlockDelta", {}).get("delta", {}) for event in events)

        return lambda: asyncio.to_thread(read_bedrock), lambda: asyncio.to_thread(runtime.close)
    if provider == "google":
        http = httpx2.AsyncClient()  # else the SDK sends over aiohttp, which is installed
        gemini = genai.Client(api_key="k", http_options=HttpOptions(base_url=url, httpx_async_client=http))
        models: Any = gemini.aio.models

        async def run_google() -> int:
            count = 0
            async for event in await models.generate_content_stream(model="m", contents=QUESTION):
                count += bool(event.text)
            return count

        return run_google, http.aclose
    client = openai.AsyncOpenAI(api_key="k", base_url=url)

    async def run_openai() -> int:
        count = 0
        async for event in await client.chat.completions.create(model="m", messages=messages, stream=True):
            count += bool(event.choices and event.choices[0].delta.content)
        return count

    async def run_responses() -> int:
        count = 0
        async for event in await client.responses.create(model="m", input=messages, stream=True):
            count += event.type == "response.output_text.delta"
        return count

    return (run_openai if provider == "openai" else run_responses), client.close


async def cost(run: Run, tokens: int) -> float:
    """Return microseconds of this process's CPU per token for one stream."""
    gc.collect()
    start = time.process_time()
    await run()
    return (time.process_time() - start) / tokens * 1e6


def shown(figures: list[float]) -> str:
    """Return the median and the range."""
    return f"{statistics.median(figures):.1f} ({min(figures):.1f}-{max(figures):.1f})".rjust(18)


async def measure(root: str, tokens: int, rounds: int, prompts: str) -> bool:
    """Print the table; return whether every target is met."""
    print(f"CPU per token, microseconds: median of {rounds} (min-max), {tokens} tokens, {sys.version.split()[0]}")
    columns = ("bare httpx2", *(f"{what}, {over}" for over in TRANSPORTS for what in ("chunks", "text")), "SDK typed")
    print(f"{'':17}{''.join(column.rjust(18) for column in columns)}   to bare: httpx2, aiohttp; typed/chunks")
    good = True
    async with httpx2.AsyncClient(timeout=60) as client:
        for provider in PROVIDERS:
            slow, close = typed(root, provider)
            runs: list[Run] = [bare(client, root, provider)]
            for over in TRANSPORTS:
                runs += [chunks(root, provider, over), texts(root, provider, over, prompts)]
            runs.append(slow)
            for run in runs:
                await run()  # connections, caches
            taken: list[list[float]] = [[] for _ in runs]
            for _ in range(rounds):
                for figures, run in zip(taken, runs, strict=True):
                    figures.append(await cost(run, tokens))
            await close()
            read, *ours, sdk = map(statistics.median, taken)
            to_bare = {"httpx2": max(ours[:2]) / read, "aiohttp": max(ours[2:]) / read}
            limits = BINARY_TARGETS if provider == "bedrock" else BARE_TARGETS
            met = sdk / ours[0] >= TARGETS[provider] and all(to_bare[over] <= limits[over] for over in TRANSPORTS)
            good = good and met
            ratios = f"{to_bare['httpx2']:11.2f}{to_bare['aiohttp']:9.2f}{sdk / ours[0]:11.1f}"
            print(f"{provider:17}{''.join(map(shown, taken))}{ratios}{'' if met else '  MISSED'}")
    print(
        f"targets: to bare at most {BARE_TARGETS}, of binary frames {BINARY_TARGETS}; typed/chunks at least {TARGETS}"
    )
    await aclose_providers()
    return good


def main() -> None:
    """Start the server in its own process and measure against it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.rounds = 2000, 3
    command = [sys.executable, "-m", "streamcore.testing", "--tokens", str(options.tokens)]
    with TemporaryDirectory() as prompts, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        (Path(prompts) / "count.yaml").write_text(f"user: {QUESTION}\n", "utf-8")
        try:
            root = cast("Any", server.stdout).readline().strip()
            good = asyncio.run(measure(root, options.tokens, options.rounds, prompts))
        finally:
            server.terminate()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
