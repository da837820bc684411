"""Run thousands of random streams, many at once, and check after each that no text is lost and nothing stays open.

    python -W error tests/stress.py [--streams 10000] [--seed N] [--backend asyncio|trio]

Half of them come through the vendors' SDKs from a simulator over sockets, half from a script in memory that can also
fail, stall and overload. Readers read to the end, break, raise, are cancelled, stop, read slowly, or drop the stream;
smoothing is on or off. A failure prints the seed and number of its stream, which reproduce it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import random
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from streamcore import (
    Message,
    OverloadedError,
    Request,
    ServerError,
    Stream,
    StreamError,
    StreamInterrupted,
    StreamTimeout,
    get_provider,
    stream_request,
)
from streamcore.concurrency.resources import known_resources
from streamcore.pipeline import retry
from streamcore.provider import Provider
from streamcore.testing import FINISH, Answer, ScriptedProvider, Simulator
from streamcore.testing.scripted import Step
from streamcore.testing.simulator.answers import Asked

AT_ONCE = 50
ROUND = 500
VENDORS = {
    "asyncio": ("anthropic", "openai", "openai-responses", "mistral"),
    "trio": ("anthropic", "openai", "openai-responses"),
}
PIECES = (
    "a",
    " word",
    "\n",
    "\r\n",
    "  ",
    "你好",
    "👩\u200d🔬",
    "é",
    "🇨🇭",
    "data: x",
    "[DONE]",
    "a long piece of text, ",
)
HANG = 3.0
"""The timeout, in seconds, of a source that hangs; the pauses of one that streams stay below it on a busy machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One stream: what the source does and what its reader does."""

    seed: str
    source: str
    tokens: list[str]
    ending: str  # mark, cut, error, hang
    end_at: int
    first_fails: bool
    reader: str  # all, break, break_bare, raise, cancel, stop, drop
    read: int
    slow: bool
    api: str  # chunks, text, collect
    options: dict[str, Any] | None

    @classmethod
    def of(cls, seed: str, backend: str) -> Plan:
        """Return the plan of a seed."""
        rng = random.Random(seed)
        tokens = [rng.choice(PIECES) for _ in range(rng.choice((0, 1, 3, 20, 60)))]
        memory = rng.random() < 0.5
        return cls(
            seed=seed,
            source="memory" if memory else rng.choice(VENDORS[backend]),
            tokens=tokens,
            ending=rng.choice(("mark", "mark", "cut", "error", "hang") if memory else ("mark", "mark", "cut")),
            end_at=rng.randint(0, len(tokens)),
            first_fails=memory and rng.random() < 0.2,
            reader=rng.choice(("all", "all", "break", "break_bare", "raise", "cancel", "stop", "drop")),
            read=rng.randint(0, 10),
            slow=rng.random() < 0.2,
            api=rng.choice(("chunks", "text", "collect")),
            options=rng.choice(
                (
                    None,
                    None,
                    {"buffer_size": rng.randint(0, 30)},
                    {"buffer_size": rng.randint(0, 30), "emit_interval": rng.choice((0, 2, 20)), "boundary": "word"},
                    {"emit_interval": 1, "boundary": "line", "first": "buffered"},
                )
            ),
        )

    @property
    def sent(self) -> str:
        """The text that the source really sends."""
        return "".join(self.tokens if self.ending == "mark" else self.tokens[: self.end_at])


def scripted(plan: Plan) -> ScriptedProvider:
    """Return a provider that does what a plan says, from memory: a few tokens in each read, pauses, and the ending."""
    rng = random.Random(plan.seed + "reads")

    def steps(request: Request) -> Iterator[Step]:
        tokens = list(plan.tokens if plan.ending == "mark" else plan.tokens[: plan.end_at])
        while tokens:
            size = rng.choice((0, 1, 1, 1, 5))
            yield tokens[:size]
            del tokens[:size]
            if rng.random() < 0.3:
                yield rng.choice((0, 0, 0.001))
        if plan.ending == "error":
            yield ServerError("broken", retryable=False)
        if plan.ending == "hang":
            yield anyio.sleep_forever
        if plan.ending == "mark":
            yield FINISH

    if plan.first_fails:
        return ScriptedProvider(OverloadedError("busy"), steps, name="script")
    return ScriptedProvider(steps, name="script")


def answer(asked: Asked) -> Answer:
    """Return the simulator's answer to the stream whose seed the request has; a cut counts events of content."""
    plan = Plan.of(asked.text, asked.model)
    return Answer(plan.tokens, model=asked.model, cut=None if plan.ending == "mark" else plan.end_at)


class Failed(AssertionError):  # noqa: N818
    """A stream broke a guarantee."""


async def run_one(plan: Plan, backend: str, simulator: Simulator) -> None:
    """Run one stream as planned and check its result."""
    script = scripted(plan)
    provider: Provider = (
        script
        if plan.source == "memory"
        else get_provider(plan.source, api_key="sk-stress", base_url=simulator.base_url(plan.source), model=backend)
    )
    stream = stream_request(
        Request([Message("user", plan.seed)]),
        provider=provider,
        stream_options=plan.options,
        timeouts={"stall": HANG, "first_token": HANG} if plan.ending == "hang" else {"stall": 60, "first_token": 60},
        max_retries=1 if plan.first_fails else 0,
    )
    seen: list[str] = []
    error: Exception | None = None
    try:
        await _READERS[plan.reader](plan, stream, seen)
    except (StreamError, ServerError, ZeroDivisionError) as raised:
        error = raised
    partial, read = stream.partial, "".join(seen)
    _check(plan, stream, read, error)
    del stream
    for _ in range(50):
        if not script.open:
            break
        await anyio.lowlevel.checkpoint()
    if script.open:
        raise Failed("the source is still open")
    if not plan.sent.startswith(partial.text):
        raise Failed(f"partial {partial.text!r} is not the beginning of {plan.sent!r}")


def _check(plan: Plan, stream: Stream, read: str, error: Exception | None) -> None:
    partial = stream.partial
    if not partial.text.startswith(read):
        raise Failed(f"read {read!r}, but partial has {partial.text!r}")
    if partial.complete and (plan.ending != "mark" or partial.text != plan.sent):
        raise Failed(f"a stream that ended in {plan.ending} looks complete, with {partial.text!r}")
    if plan.reader != "all":
        return
    if read != plan.sent or partial.text != plan.sent:
        raise Failed(f"read {read!r} and kept {partial.text!r} of {plan.sent!r}")
    expected = {"mark": type(None), "cut": StreamInterrupted, "error": ServerError, "hang": StreamTimeout}[plan.ending]
    if type(error) is not expected:
        raise Failed(f"ended in {error!r}, not in {expected.__name__}")


async def _pieces(plan: Plan, stream: Stream) -> AsyncGenerator[str]:
    """Yield the text of the stream through the plan's function."""
    if plan.api == "collect":
        try:
            yield (await stream.collect()).text
        except (StreamError, ServerError) as error:
            yield error.partial.text if error.partial else ""
            raise
        return
    if plan.api == "text":
        async for text in stream.text():
            yield text
        return
    async for chunk in stream:
        yield chunk.text


async def _read(plan: Plan, stream: Stream, seen: list[str], most: int | None = None) -> None:
    async with contextlib.aclosing(_pieces(plan, stream)) as pieces:
        if most == 0:
            return
        async for text in pieces:
            seen.append(text)
            if plan.slow:
                await anyio.sleep(0.001)
            if len(seen) == most:
                return


async def _read_all(plan: Plan, stream: Stream, seen: list[str]) -> None:
    await _read(plan, stream, seen)


async def _break(plan: Plan, stream: Stream, seen: list[str]) -> None:
    async with stream:
        await _read(plan, stream, seen, plan.read)


async def _break_bare(plan: Plan, stream: Stream, seen: list[str]) -> None:
    await _read(plan, stream, seen, plan.read)


async def _raise(plan: Plan, stream: Stream, seen: list[str]) -> None:
    async with stream:
        await _read(plan, stream, seen, plan.read)
        raise ZeroDivisionError


async def _cancel(plan: Plan, stream: Stream, seen: list[str]) -> None:
    with anyio.move_on_after(plan.read / 1000):
        await _read(plan, stream, seen)


async def _stop(plan: Plan, stream: Stream, seen: list[str]) -> None:
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            await anyio.sleep(plan.read / 1000)
            stream.stop()

        tasks.start_soon(stop)
        with contextlib.suppress(StreamError, ServerError):  # it may have ended before
            await _read(plan, stream, seen)


async def _drop(plan: Plan, stream: Stream, seen: list[str]) -> None:
    for _ in range(plan.read):
        chunk = await anext(stream, None)
        if chunk is None:
            break
        seen.append(chunk.text)


_READERS = {
    "all": _read_all,
    "break": _break,
    "break_bare": _break_bare,
    "raise": _raise,
    "cancel": _cancel,
    "stop": _stop,
    "drop": _drop,
}


async def run_many(streams: int, seed: int, backend: str, report: Callable[[str], object] = print) -> None:
    """Run this many streams; after each round nothing may be open, and the number of objects must not grow.

    Raises:
        Failed: if a stream broke a guarantee; the message has its seed.
    """
    sizes: list[int] = []
    before = _tasks()
    with _listening(backend) as reported, Simulator(answer) as simulator:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        for begin in range(0, streams, ROUND):
            async with anyio.create_task_group() as tasks:
                for number in range(begin, min(begin + ROUND, streams)):
                    tasks.start_soon(_limited, limiter, f"{seed}/{number}", backend, simulator)
            await _settle(simulator, before)
            sizes.append(_objects())
            simulator.requests.clear()
            memory, files = resident() / 2**20, descriptors()
            done = min(begin + ROUND, streams)
            report(f"{done} streams: {sizes[-1]} objects, {memory:.1f} MiB, {files} open descriptors")
            if reported:
                raise Failed(f"seed {seed}: the event loop reported: {reported}")
    if len(sizes) > 2 and sizes[-1] > sizes[1] * 1.02:
        raise Failed(f"seed {seed}: memory grows: {sizes}")


async def _limited(limiter: anyio.CapacityLimiter, seed: str, backend: str, simulator: Simulator) -> None:
    async with limiter:
        plan = Plan.of(seed, backend)
        try:
            with anyio.fail_after(60):
                await run_one(plan, backend, simulator)
        except Exception as error:
            raise Failed(f"seed {seed}: {plan}: {error!r}") from error


async def _settle(simulator: Simulator, tasks: int) -> None:
    """Wait until the simulator has seen every abandoned connection close, and no more tasks run than before."""
    resources = known_resources()
    gc.collect()  # an error that was caught may keep its stream in a cycle
    with anyio.move_on_after(10):
        while simulator.open or (resources is not None and resources.streams):  # noqa: ASYNC110  another thread's facts
            await anyio.sleep(0.001)
        while _tasks() > tasks:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        return
    raise Failed(f"open: {simulator.open} answers, {resources and resources.streams} streams, {_tasks()} tasks")


def _tasks() -> int:
    """Count the tasks of the running loop, system tasks included."""
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        return len(asyncio.all_tasks())
    waiting, count = [trio.lowlevel.current_root_task()], 0
    while waiting:
        task = waiting.pop()
        count += 1
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def resident() -> int:
    """Return the resident memory of this process in bytes; 0 where the system does not report it."""
    status = Path("/proc/self/status")
    return int(status.read_text("utf-8").partition("VmRSS:")[2].split()[0]) * 1024 if status.exists() else 0


def descriptors() -> int:
    """Return how many descriptors this process has open; 0 where the system does not report it."""
    open_files = Path("/proc/self/fd")
    return len([*open_files.iterdir()]) if open_files.exists() else 0


@contextlib.contextmanager
def _listening(backend: str) -> Generator[list[str]]:
    """Collect the errors that hooks would write to stderr; retry without a pause."""
    reported: list[str] = []
    hook, pause = sys.unraisablehook, retry.FIRST_PAUSE
    sys.unraisablehook = lambda unraisable: reported.append(f"{unraisable.err_msg}: {unraisable.exc_value!r}")
    retry.FIRST_PAUSE = 0.0
    if backend == "asyncio":
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(str(context)))
    try:
        yield reported
    finally:
        sys.unraisablehook, retry.FIRST_PAUSE = hook, pause


def main() -> None:
    """Run on one backend or both, until the first failure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--backend", choices=list(VENDORS))
    options = parser.parse_args()
    backends = [options.backend] if options.backend else list(VENDORS)
    for backend in backends:
        start = time.monotonic()
        print(f"{backend}: {options.streams // len(backends)} streams, seed {options.seed}")
        anyio.run(run_many, options.streams // len(backends), options.seed, backend, backend=backend)
        print(f"{backend}: all as promised, in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
