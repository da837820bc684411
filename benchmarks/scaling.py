"""Measure how the CPU of ordinary work grows: 1x, 2x, 4x, 8x the tokens, streams, tool calls, steps, turns, readers.

Everything runs in this process, over the openai provider, with answers that need no network, so that only streamcore,
the SDK and httpx2 are measured. Each figure is the median of several runs that take turns. The exponent is that of the
growth from 1x to 8x: 1 is linear, 2 quadratic, below 1 has a fixed part. `benchmarks/growth.py` does the same for
hostile input.

    python benchmarks/scaling.py [--rounds 5]    writes its section of docs/benchmarks.md, and docs/img/growth.svg
    python benchmarks/scaling.py --quick         two rounds; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import httpx2

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.sections import Target, about, table, target_table, write_section  # noqa: E402
from streamcore import Message, Provider, Request, get_provider, stream_agent, stream_request  # noqa: E402
from streamcore.relay import MemoryLog, Relay  # noqa: E402
from streamcore.tools import tool  # noqa: E402

FACTORS = (1, 2, 4, 8)
LINEAR = 1.15
"""The exponent up to which growth counts as linear."""
PICTURE = Path("img") / "growth.svg"
QUESTION = Message("user", "Count.")


def event(**delta: object) -> bytes:
    """Return one event of a chat answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return b"data: " + json.dumps({"id": "a", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def ended(reason: str) -> bytes:
    """Return the last events of a chat answer."""
    last: dict[str, object] = {"id": "a", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"


def text(tokens: int) -> bytes:
    """Return an answer of text."""
    return b"".join(event(content=f"token{number} ") for number in range(tokens)) + ended("stop")


def calls(count: int, step: int = 0) -> bytes:
    """Return an answer that calls a tool so many times."""
    made = [
        {"index": n, "id": f"call-{step}-{n}", "function": {"name": "double", "arguments": json.dumps({"number": n})}}
        for n in range(count)
    ]
    return b"".join(event(tool_calls=[one]) for one in made) + ended("tool_calls")


def provider(bodies: Sequence[bytes]) -> Provider:
    """Return a provider that gives these answers in turn, the last one again and again."""
    left = list(bodies)

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return get_provider("openai", api_key="k", model="m", http_client=client)


@tool
async def double(number: int) -> int:
    """Double a number."""
    return 2 * number


async def length(size: int) -> None:
    """Read one answer."""
    await stream_request(Request([QUESTION]), provider=provider([text(size)])).collect()


async def streams(size: int) -> None:
    """Read many answers at once."""
    found = provider([text(50)])
    await asyncio.gather(*[stream_request(Request([QUESTION]), provider=found).collect() for _ in range(size)])


async def tool_calls(size: int) -> None:
    """Run the calls of one answer."""
    found = provider([calls(size), text(5)])
    await stream_agent(Request([QUESTION]), tools=[double], provider=found, max_tool_calls=size).collect()


async def steps(size: int) -> None:
    """Run an agent whose every step calls a tool once."""
    found = provider([*(calls(1, number) for number in range(size)), text(5)])
    await stream_agent(
        Request([QUESTION]), tools=[double], provider=found, max_steps=size + 1, max_tool_calls=size
    ).collect()


async def turns(size: int) -> None:
    """Ask with the previous turns of a conversation."""
    before = [Message("user" if number % 2 == 0 else "assistant", f"turn {number} " * 20) for number in range(size)]
    await stream_request(Request([*before, QUESTION]), provider=provider([text(5)])).collect()


async def readers(size: int) -> None:
    """Read one run of the relay many times at once."""
    async with Relay(MemoryLog()) as relay:
        await relay.start("run", stream_request(Request([QUESTION]), provider=provider([text(100)])))

        async def read() -> None:
            async for _ in relay.read("run"):
                pass

        await asyncio.gather(*[read() for _ in range(size)])


@dataclass(frozen=True, slots=True)
class Case:
    """Name what grows, its size at 1x, and how it is measured."""

    title: str
    size: int
    run: Callable[[int], Awaitable[None]]
    remark: str = ""


CASES = (
    Case("tokens of an answer", 1000, length),
    Case("parallel streams", 25, streams),
    Case("tool calls of an answer", 25, tool_calls),
    Case("steps of an agent", 8, steps, "each step sends the whole conversation again, as every API wants it"),
    Case("turns of a conversation", 100, turns),
    Case("readers of a run", 10, readers),
)


def cost(case: Case, factor: int) -> float:
    """Return the seconds of CPU of one run."""
    gc.collect()
    begin = time.process_time()
    asyncio.run(_await(case.run, case.size * factor))
    return time.process_time() - begin


async def _await(run: Callable[[int], Awaitable[None]], size: int) -> None:
    await run(size)


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the medians of each case at 1x, 2x, 4x and 8x."""
    taken: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for case in CASES:
            for factor in FACTORS:
                seconds = cost(case, factor)
                if number:  # the first round imports
                    taken.setdefault((case.title, factor), []).append(seconds)
    return {case.title: [statistics.median(taken[case.title, factor]) for factor in FACTORS] for case in CASES}


def exponent(costs: Sequence[float]) -> float:
    """Return the exponent of the growth from 1x to 8x."""
    return math.log(costs[-1] / costs[0]) / math.log(FACTORS[-1] / FACTORS[0])


def plot(found: Mapping[str, Sequence[float]]) -> str:
    """Return an SVG with one small chart for each case: cost as a multiple of 1x, and a line for linear growth."""
    ink, blue, columns, width, high = "#6b7280", "#2563eb", 3, 280, 220
    rows, font = math.ceil(len(found) / columns), f'font-family="system-ui, sans-serif" font-size="12" fill="{ink}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * width} {rows * high}" role="img" {font}>',
        "<title>CPU at 1x, 2x, 4x and 8x, as a multiple of 1x; the dashed line is linear growth</title>",
    ]
    for number, (title, costs) in enumerate(found.items()):
        left, top = number % columns * width + 40, number // columns * high + 30
        parts.extend(_chart(title, [one / costs[0] for one in costs], left, top, ink, blue))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _chart(title: str, ratios: Sequence[float], left: int, top: int, ink: str, blue: str) -> Iterator[str]:
    size, most = 150, max(8.0, *ratios) * 1.05

    def at(factor: float, ratio: float) -> str:
        return f"{left + factor / 8 * size * 1.3:.1f},{top + size - ratio / most * size:.1f}"

    yield f'<text x="{left}" y="{top - 10}" font-weight="600">{escape(title)}</text>'
    yield f'<path d="M{left} {top}V{top + size}H{left + size * 1.35:.0f}" fill="none" stroke="{ink}"/>'
    for tick in FACTORS:
        x, y = at(tick, 0).split(",")
        yield f'<text x="{x}" y="{float(y) + 16:.1f}" text-anchor="middle">{tick}x</text>'
        x, y = at(0, tick).split(",")
        yield f'<text x="{float(x) - 6:.1f}" y="{float(y) + 4:.1f}" text-anchor="end">{tick}</text>'
    yield f'<polyline points="{at(1, 1)} {at(8, 8)}" fill="none" stroke="{ink}" stroke-dasharray="4 4"/>'
    points = [at(factor, ratio) for factor, ratio in zip(FACTORS, ratios, strict=True)]
    yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{blue}" stroke-width="2"/>'
    for point in points:
        x, y = point.split(",")
        yield f'<circle cx="{x}" cy="{y}" r="3.5" fill="{blue}"/>'


_BODY = """\
## How the cost grows

Milliseconds of CPU at 1x, 2x, 4x and 8x, medians of {rounds} runs, in one process without a network: streamcore, the
`openai` SDK and httpx2. An exponent of 1 is linear growth, 2 quadratic; below 1, a part of the cost is fixed.
{about}

![CPU at 1x, 2x, 4x and 8x]({picture})

{growth}

{targets}
"""


def main() -> None:
    """Measure and write; exit 1 if something grows faster than it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two rounds; writes nothing")
    options = parser.parse_args()
    begin = time.monotonic()
    rounds = 2 if options.quick else options.rounds
    found = measure(rounds)
    rows: list[list[str]] = []
    for case in CASES:
        costs = found[case.title]
        cells = [f"{one * 1000:.1f}" for one in costs]
        rows.append([case.title, str(case.size), *cells, f"{exponent(costs):.2f}", case.remark])
    growth = table(["", "at 1x", "1x", "2x", "4x", "8x", "exponent", ""], rows)
    targets = [Target(f"exponent, {case.title}", exponent(found[case.title]), LINEAR) for case in CASES]
    print(f"{growth}\n\n{target_table(targets)}")
    if not options.quick:
        (ROOT / "docs" / PICTURE).write_text(plot(found), "utf-8")
        ran = about("python benchmarks/scaling.py", time.monotonic() - begin)
        body = _BODY.format(rounds=rounds, about=ran, picture=PICTURE, growth=growth, targets=target_table(targets))
        write_section("growth", "benchmarks/scaling.py", body)
    sys.exit(0 if all(target.met for target in targets) else 1)


if __name__ == "__main__":
    main()
