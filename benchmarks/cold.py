"""Measure the CPU time of a first answer: a fresh process that asks once, next to one that makes the SDK's raw call.

Every process imports what it needs, makes its client, reads an answer of 20 tokens from the simulator, closes the
client and ends. The figure is all of its CPU, less that of a Python that does nothing. Compiled files are kept in a
folder of their own, so that nothing is compiled again. The processes take turns; figures are medians, and ratios are
those of each turn.

    raw       the SDK's raw response, whose bytes are read and not decoded
    request   `stream_request`
    prompt    `execute_prompt_streaming`, which also reads a prompt file

A second table has the stages of a first answer, in the order in which they happen:

    streamcore   `import streamcore`
    provider     `get_provider`: finding and importing the provider's package
    prompt       reading a prompt file and filling its template in: pydantic and YAML are imported here
    SDK          importing the vendor's SDK
    client       making the SDK's client and its request
    answer       from there to the end of the answer

    python benchmarks/cold.py [--rounds 7]      writes its section of docs/benchmarks.md; exits 1 if a limit is missed
    python benchmarks/cold.py --quick           three rounds, two vendors; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers.readers import sdk  # noqa: E402
from benchmarks.peers.wires import KEY, MODEL, PROMPTS, QUESTION, root, versioned  # noqa: E402
from benchmarks.sections import Target, about, table, target_table, write_section  # noqa: E402

SDKS = {"openai": "openai", "openai-responses": "openai", "anthropic": "anthropic", "mistral": "mistralai.client"}
TRANSPORTS = ("httpx2", "aiohttp")
STAGES = ("streamcore", "provider", "prompt", "SDK", "client", "answer")
LIMIT = 1.08
"""What a first answer may cost, as a multiple of the SDK's raw call."""
AGAIN_LIMIT = 0.05
"""A second call may cost this share of the first one: clients and templates are kept."""


def base_url(wire: str, url: str) -> str:
    """Return the base URL that a provider takes."""
    return root(wire, url) if wire in ("anthropic", "mistral") else versioned(wire, url)


def raw(wire: str, url: str) -> None:
    """Make the SDK's raw call."""
    asyncio.run(cast("Any", sdk.open_reader("raw", wire, url)(lambda _: None)))


def ours(wire: str, url: str, transport: str, *, prompt: bool) -> None:
    """Ask once through streamcore, as a program that does nothing else."""
    import streamcore

    settings: dict[str, Any] = {"transport": transport}
    provider = streamcore.get_provider(wire, api_key=KEY, base_url=base_url(wire, url), model=MODEL, **settings)

    async def ask() -> None:
        if prompt:
            async for _ in streamcore.execute_prompt_streaming("count", provider=provider, prompts_dir=PROMPTS):
                pass
        else:
            request = streamcore.Request([streamcore.Message("user", QUESTION)])
            async for _ in streamcore.stream_request(request, provider=provider):
                pass
        await streamcore.aclose_providers()

    asyncio.run(ask())


def stages(wire: str, url: str, transport: str) -> None:
    """Go through the stages of a first answer one by one, and print the CPU of each, and of a second answer."""
    spent: dict[str, float] = {}
    last = time.process_time()

    def end(stage: str) -> None:
        nonlocal last
        spent[stage] = (time.process_time() - last) * 1000
        last = time.process_time()

    streamcore = importlib.import_module("streamcore")
    end("streamcore")
    provider = streamcore.get_provider(
        wire, api_key=KEY, base_url=base_url(wire, url), model=MODEL, transport=transport
    )
    end("provider")
    importlib.import_module("streamcore.prompts.prompt_file").load_prompt("count", prompts_dir=PROMPTS).render({}, {})
    end("prompt")
    importlib.import_module(SDKS[wire])
    end("SDK")
    import httpx2

    send = httpx2.AsyncClient.send

    async def watched(self: httpx2.AsyncClient, *given: Any, **settings: Any) -> httpx2.Response:
        if "client" not in spent:
            end("client")
        return await send(self, *given, **settings)

    async def ask() -> None:
        async for _ in streamcore.execute_prompt_streaming("count", provider=provider, prompts_dir=PROMPTS):
            pass

    async def twice() -> None:
        cast("Any", httpx2.AsyncClient).send = watched
        await ask()
        end("answer")
        await ask()
        end("again")

    asyncio.run(twice())
    print(json.dumps(spent))


KINDS: dict[str, Callable[[str, str, str], None]] = {
    "nothing": lambda wire, url, transport: None,
    "raw": lambda wire, url, transport: raw(wire, url),
    "request": partial(ours, prompt=False),
    "prompt": partial(ours, prompt=True),
    "stages": stages,
}


def fresh(kind: str, wire: str, url: str, transport: str, cache: str) -> tuple[float, str]:
    """Run one kind in a fresh process; return the milliseconds of its CPU, and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = cache
    command = [sys.executable, __file__, "--kind", kind, "--wire", wire, "--url", url, "--transport", transport]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000, done.stdout


def measure(url: str, rounds: int, wires: list[str], cache: str) -> tuple[str, list[Target]]:
    """Return the tables, and the targets."""
    taken: dict[tuple[str, str, str], list[float]] = {}
    spent: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(rounds + 1):
        nothing = fresh("nothing", wires[0], url, TRANSPORTS[0], cache)[0]
        for wire in wires:
            kinds = [("raw", "httpx2"), *((kind, over) for kind in ("request", "prompt") for over in TRANSPORTS)]
            for kind, over in kinds:
                cost = fresh(kind, wire, url, over, cache)[0] - nothing
                if number:  # the first round compiles and warms the disk's cache
                    taken.setdefault((wire, kind, over), []).append(cost)
            if number:
                for over in TRANSPORTS:
                    spent.setdefault((wire, over), []).append(json.loads(fresh("stages", wire, url, over, cache)[1]))
    return _tables(wires, taken, spent)


def _tables(
    wires: list[str],
    taken: dict[tuple[str, str, str], list[float]],
    spent: dict[tuple[str, str], list[dict[str, float]]],
) -> tuple[str, list[Target]]:
    rows: list[list[str]] = []
    targets: list[Target] = []
    for wire in wires:
        base = taken[wire, "raw", "httpx2"]
        row = [wire, f"{statistics.median(base):.0f}"]
        for over in TRANSPORTS:
            for kind in ("request", "prompt"):
                costs = taken[wire, kind, over]
                ratio = statistics.median([cost / raw for cost, raw in zip(costs, base, strict=True)])
                row.append(f"{statistics.median(costs):.0f} ({ratio:.2f}x)")
                if over == "httpx2":
                    targets.append(Target(f"first answer, {wire}, {kind} / the SDK's raw call", ratio, LIMIT, unit="x"))
        rows.append(row)
    head = ["", "the SDK's raw call", *(f"{kind}, {over}" for over in TRANSPORTS for kind in ("request", "prompt"))]
    stage_rows: list[list[str]] = []
    for (wire, over), found in spent.items():
        cost = {stage: statistics.median([one[stage] for one in found]) for stage in (*STAGES, "again")}
        stage_rows.append([f"{wire}, {over}", *(f"{cost[stage]:.1f}" for stage in (*STAGES, "again"))])
        share = cost["again"] / sum(cost[stage] for stage in STAGES)
        targets.append(Target(f"second answer, {wire}, {over} / the first", share, AGAIN_LIMIT, unit="x"))
    return f"{table(head, rows)}\n\n{_STAGES}\n\n{table(['', *STAGES, 'again'], stage_rows)}", targets


_STAGES = """\
The stages of a first answer, in the order in which they happen, and a second answer of the same process. A package that
two stages need counts for the first of them: `streamcore` includes anyio and msgspec, `prompt` pydantic and YAML, and
`client` httpx2 and what the SDK imports with its client."""

_BODY = """\
## The first answer of a process

Milliseconds of CPU of a fresh process that asks once, less those of a Python that does nothing; medians of {rounds}
processes of each kind, which take turns. *Request* is `stream_request`, *prompt* a prompt file. The SDKs import httpx2
whatever the transport, so aiohttp is an addition for them, too. {about}

{tables}

{targets}
"""


def main() -> None:
    """Start the simulator and measure; exit 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three rounds, two vendors; writes nothing")
    parser.add_argument("--kind", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--wire", choices=list(SDKS), default="openai", help=argparse.SUPPRESS)
    parser.add_argument("--transport", default="httpx2", help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        KINDS[options.kind](options.wire, options.url, options.transport)
        return
    rounds, wires = (3, ["openai", "mistral"]) if options.quick else (options.rounds, list(SDKS))
    start = time.monotonic()
    command = [sys.executable, "-m", "streamcore.testing", "--tokens", "20"]
    with (
        tempfile.TemporaryDirectory() as cache,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            url = cast("Any", server.stdout).readline().strip()
            tables, targets = measure(url, rounds, wires, cache)
        finally:
            server.terminate()
    print(f"{tables}\n\n{target_table(targets)}")
    if not options.quick:
        ran = about("python benchmarks/cold.py", time.monotonic() - start)
        body = _BODY.format(rounds=rounds, about=ran, tables=tables, targets=target_table(targets))
        write_section("cold", "benchmarks/cold.py", body)
    sys.exit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
