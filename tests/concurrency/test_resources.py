"""End the event loop, or the interpreter, under open streams: all is closed, and nothing is written to stderr."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from streamcore import Chunk, Request, Stream, stream_request
from streamcore.concurrency.resources import known_resources
from streamcore.testing import Answer, ScriptedProvider, Simulator
from streamcore.testing.scripted import Step
from tests.loop_endings import ENDINGS
from tests.support import BACKENDS, RUNS, ask, eventually, wait_until

SCRIPT = Path(__file__).resolve().parents[1] / "loop_endings.py"


@pytest.mark.long
@pytest.mark.parametrize("backend", [*BACKENDS, pytest.param("uvloop", marks=pytest.mark.long)])
def test_a_loop_that_ends_closes_open_resources_without_warnings(backend: str, simulator: Simulator) -> None:
    simulator.decide = lambda asked: Answer.of("word " * 500)
    simulator.rate = 500
    names = [name for ran_on, name in RUNS if ran_on == ("asyncio" if backend == "uvloop" else backend)]
    result = subprocess.run(
        [
            *(sys.executable, "-W", "error", SCRIPT, backend),
            *(f"{name}={simulator.base_url(name)}" for name in names),
        ],
        capture_output=True,
        text=True,
        timeout=300,  # against a hang; a loaded machine takes a minute
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [f"{name} {ending.__name__}" for name in names for ending in ENDINGS]
    assert result.returncode == 0
    wait_until(lambda: simulator.open == 0, "every answer was given up")


EXITS = [
    ("plain", "asyncio", "anthropic"),
    ("thread", "trio", "openai"),
    *(pytest.param(how, "uvloop", "anthropic", marks=pytest.mark.long) for how in ("plain", "thread")),
    *(
        pytest.param(how, backend, name, marks=pytest.mark.long)
        for how in ("plain", "smoothed", "sync", "thread")
        for backend, name in (("asyncio", "anthropic"), ("trio", "openai"), ("asyncio", "mistral"))
        if (how, backend) not in {("plain", "asyncio"), ("thread", "trio")} or name == "mistral"
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(("how", "backend", "name"), EXITS)
def test_an_interpreter_that_exits_in_a_stream_does_so_in_silence(
    how: str, backend: str, name: str, simulator: Simulator
) -> None:
    simulator.decide = lambda asked: Answer.of("word " * 500)
    simulator.rate = 500
    script = Path(__file__).resolve().parents[1] / "interpreter_exits.py"
    result = subprocess.run(
        [sys.executable, "-W", "error", script, how, backend, name, simulator.base_url(name)],
        capture_output=True,
        text=True,
        timeout=300,  # against a hang; a loaded machine takes a minute
        check=False,
    )
    assert (result.returncode, result.stderr) == (3, "")
    wait_until(lambda: simulator.open == 0, "the answer was given up")


def endless(request: Request) -> Iterator[Step]:
    yield Chunk("start")
    yield from itertools.repeat("word ")


@pytest.mark.anyio
async def test_nothing_is_kept_of_streams_that_ended_failed_or_were_dropped() -> None:
    provider = ScriptedProvider(endless)
    for _ in range(3):
        async for _chunk in stream_request(ask(), provider=provider):
            break
        async with stream_request(ask(), provider=provider) as stream:
            await anext(stream)
        reader = stream_request(ask(), provider=provider)
        with anyio.move_on_after(0.01):
            await reader.collect()
        async with stream_request(ask(), provider=provider):
            pass  # opened and never read
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert provider.open == 0
    resources = known_resources()
    assert resources is not None
    assert resources.streams == set()


@pytest.mark.anyio
async def test_a_reader_that_is_cancelled_between_two_reads_still_closes_to_the_end() -> None:
    provider = ScriptedProvider([Chunk("start"), anyio.sleep_forever])
    with anyio.move_on_after(0.01) as scope:
        async with stream_request(ask(), provider=provider) as stream:
            await anext(stream)
            await anyio.sleep_forever()  # the caller's own work
    assert scope.cancelled_caught
    assert provider.open == 0


@pytest.mark.anyio
async def test_a_stream_dropped_in_another_thread_is_closed_on_its_own_loop() -> None:
    provider = ScriptedProvider(endless)
    kept = [stream_request(ask(), provider=provider)]
    await anext(kept[0])
    await anyio.to_thread.run_sync(kept.clear)
    # Closing has begun: a collection of garbage here could last as long as closing may, on a busy machine.
    await eventually(lambda: provider.open == 0, "the stream was closed")


def test_dropping_a_stream_after_its_loop_has_ended_is_silent() -> None:
    provider = ScriptedProvider(endless)
    kept: list[Stream] = []

    async def main() -> None:
        kept.append(stream_request(ask(), provider=provider))
        await anext(kept[0])

    asyncio.run(main())
    assert provider.open == 0
    kept.clear()
    gc.collect()
