"""Measure the CPU time of the first call in a fresh process, stage by stage, and that of the second call.

Each figure is the median of several fresh processes that take turns, in milliseconds of their CPU. The server is the
simulator in its own process. A first call goes through these stages, one after another:

    python     the interpreter's own start
    streamcore `import streamcore`
    provider   `get_provider`: finding and importing the provider's package
    prompt     reading a prompt file and filling its template in: pydantic, YAML, Jinja2 are imported here
    SDK        importing the vendor's SDK
    client     making the SDK's client and its request: up to the moment in which the request goes out
    head       connecting, sending, and receiving the head of the response
    token      from there to the first token
    rest       the rest of the answer, and closing

    python benchmarks/cold.py [--rounds 7] [--quick]      exits 1 if a limit is missed
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

SDKS = {"anthropic": "anthropic", "openai": "openai", "openai-responses": "openai", "mistral": "mistralai.client"}
BASE_PATHS = {"anthropic": "", "mistral": "/mistral"}  # of the simulator, which is not to be imported here
TRANSPORTS = ("httpx2", "aiohttp")
STAGES = ("python", "streamcore", "provider", "prompt", "SDK", "client", "head", "token", "rest")
OURS = ("streamcore", "provider", "prompt")
SHARE_LIMIT = 0.6
"""Our own stages may cost this share of the SDK's import and client."""
AGAIN_LIMIT = 0.05
"""A second call may cost this share of the first one: clients and templates are kept."""


class Stopwatch:
    """Record the CPU time of each stage, and how many modules it loaded."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[float, int]] = {}
        self._cpu, self._modules = 0.0, 0

    def lap(self, stage: str) -> None:
        """End a stage; the next one begins."""
        cpu, modules = time.process_time(), len(sys.modules)
        self.stages[stage] = ((cpu - self._cpu) * 1000, modules - self._modules)
        self._cpu, self._modules = time.process_time(), len(sys.modules)


async def call(watch: Stopwatch, provider: Any, prompts: Path) -> None:
    """Stream one prompt, and end a stage when the request is sent, when the head is received, and so on."""
    import httpx2

    from streamcore import execute_prompt_streaming

    send = httpx2.AsyncClient.send

    async def watched(self: httpx2.AsyncClient, *given: Any, **settings: Any) -> httpx2.Response:
        watch.lap("client")
        response = await send(self, *given, **settings)
        watch.lap("head")
        return response

    cast("Any", httpx2.AsyncClient).send = watched
    begun = False
    try:
        async for _ in execute_prompt_streaming("count", {"what": "sheep"}, provider=provider, prompts_dir=prompts):
            if not begun:
                watch.lap("token")
                begun = True
    finally:
        cast("Any", httpx2.AsyncClient).send = send
    watch.lap("rest")


def first(name: str, transport: str, url: str, prompts: Path) -> None:
    """Run all stages in this process, which does nothing else, and print them."""
    watch = Stopwatch()
    watch.lap("python")
    importlib.import_module("streamcore")
    watch.lap("streamcore")
    from streamcore import get_provider

    base = url + BASE_PATHS.get(name, "/v1")
    provider = get_provider(name, api_key="k", base_url=base, model="m", transport=transport)
    watch.lap("provider")
    from streamcore.prompts.prompt_file import load_prompt

    load_prompt("count", prompts_dir=prompts).render({"what": "sheep"}, {})
    watch.lap("prompt")
    importlib.import_module(SDKS[name])
    watch.lap("SDK")

    async def twice() -> float:
        await call(watch, provider, prompts)
        start = time.process_time()
        await call(Stopwatch(), provider, prompts)
        return (time.process_time() - start) * 1000

    print(json.dumps({"stages": watch.stages, "again": asyncio.run(twice())}))


def fresh(name: str, transport: str, url: str, prompts: Path) -> dict[str, Any]:
    """Run the first call in a fresh process and return its output."""
    command = [
        sys.executable,
        __file__,
        "--first",
        name,
        "--transport",
        transport,
        "--url",
        url,
        "--prompts",
        str(prompts),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=_environment())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def measure(url: str, rounds: int, transports: tuple[str, ...], prompts: Path) -> bool:
    """Print a row for each transport and provider; return True if no limit is exceeded."""
    rows = [(name, transport) for transport in transports for name in SDKS]
    taken: dict[tuple[str, str], list[dict[str, Any]]] = {row: [] for row in rows}
    for number in range(rounds + 1):
        for row in rows:
            said = fresh(*row, url, prompts)
            if number:  # the first round compiles and warms the disk's cache
                taken[row].append(said)
    print(f"milliseconds of CPU, median of {rounds} fresh processes; in brackets the modules that were loaded")
    print(f"{'':26}" + "".join(f"{stage:>14}" for stage in STAGES) + f"{'all':>9}{'again':>8}")
    good = True
    for (name, transport), calls in taken.items():
        cost = {stage: statistics.median([float(one["stages"][stage][0]) for one in calls]) for stage in STAGES}
        again, whole = statistics.median([float(one["again"]) for one in calls]), sum(cost.values())
        cells = "".join(f"{cost[stage]:.1f} ({calls[0]['stages'][stage][1]})".rjust(14) for stage in STAGES)
        print(f"{name + ', ' + transport:26}{cells}{whole:9.0f}{again:8.1f}")
        ours, theirs = sum(cost[stage] for stage in OURS), cost["SDK"] + cost["client"]
        good = good and ours <= SHARE_LIMIT * theirs and again <= AGAIN_LIMIT * whole
    print(
        f"limits: {', '.join(OURS)} at most {SHARE_LIMIT} of SDK and client; a second call {AGAIN_LIMIT} of the first"
    )
    return good


def main() -> None:
    """Start the simulator and measure; exit 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two rounds, over httpx2")
    parser.add_argument("--first", choices=list(SDKS), help=argparse.SUPPRESS)
    parser.add_argument("--transport", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--prompts", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.first:
        first(options.first, options.transport, options.url, options.prompts)
        return
    command = [sys.executable, "-m", "streamcore.testing", "--tokens", "20"]
    with tempfile.TemporaryDirectory() as home, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        (Path(home) / "count.yaml").write_text("system: You count.\nuser: Count {{ what }}.\n", "utf-8")
        try:
            url = cast("Any", server.stdout).readline().strip()
            rounds, transports = (2, TRANSPORTS[:1]) if options.quick else (options.rounds, TRANSPORTS)
            good = measure(url, rounds, transports, Path(home))
        finally:
            server.terminate()
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
