"""Test what observers receive of one answer, whatever its end, and that they cannot disturb it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import anyio
import pytest

from streamcore import Chunk, ConfigError, Message, Request, Stream, StreamcoreError, Usage, stream_request
from streamcore.errors import BadRequestError, OverloadedError
from streamcore.observe import (
    AnswerEnded,
    AttemptEnded,
    ChunksArrived,
    Event,
    FellBack,
    FirstContent,
    Outcome,
    Retried,
    add_observer,
    observe,
    remove_observer,
)
from streamcore.provider import Provider, get_provider
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Script, Step

pytestmark = pytest.mark.anyio

ASK = Request([Message("user", "Hello")], model="large")
USAGE = Chunk("usage", usage=Usage(input_tokens=3, output_tokens=2))
WHOLE: list[Step] = [Chunk("start", id="r", model="large-1"), "Hello ", "World", FINISH, USAGE]
BUSY = OverloadedError("busy", retryable=True, retry_after=0.0)


@dataclass
class Seen:
    """An observer that keeps what it receives."""

    events: list[Event] = field(default_factory=list[Event])

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    @property
    def end(self) -> AnswerEnded:
        (end,) = [event for event in self.events if isinstance(event, AnswerEnded)]
        assert self.events[-1] is end
        return end


async def read(stream: Stream) -> None:
    await stream.collect()


async def stop(stream: Stream) -> None:
    async for chunk in stream:
        if chunk.kind == "text":
            stream.stop()


async def leave(stream: Stream) -> None:
    async with stream:
        async for chunk in stream:
            if chunk.kind == "text":
                return


async def cancel(stream: Stream) -> None:
    with anyio.CancelScope() as scope:
        async for chunk in stream:
            if chunk.kind == "text":
                scope.cancel()


@dataclass(frozen=True)
class Ending:
    """One way in which an answer ends, and what an observer receives of it."""

    name: str
    answers: Sequence[Script]
    outcome: Outcome
    between: tuple[str, ...] = ("FirstContent",)
    """The events between the first start and the last end of an attempt."""
    reader: Callable[[Stream], Awaitable[None]] = read
    timeouts: Mapping[str, float] | None = None
    fallback: Sequence[Provider] = ()
    on_interrupt: Literal["raise", "restart"] = "raise"


def open_ended() -> list[Step]:
    return [USAGE, "a", anyio.sleep_forever]


AGAIN = ("AttemptStarted", "FirstContent")
REFUSAL: list[Step] = ["No.", Chunk("finish", finish_reason="refusal", raw_finish_reason="refusal")]
CUT: list[Step] = [USAGE, "a", BUSY]
ENDINGS = [
    Ending("finished", [WHOLE], "finished"),
    Ending("refused", [REFUSAL], "refused"),
    Ending("stopped", [open_ended()], "stopped", reader=stop),
    Ending("closed", [open_ended()], "closed", reader=leave),
    Ending("cancelled", [open_ended()], "cancelled", reader=cancel),
    Ending("cut", [CUT[:2]], "interrupted"),
    Ending("stalled", [open_ended()], "timed_out", timeouts={"stall": 0.05}),
    Ending("bad request", [BadRequestError("no")], "failed", ()),
    Ending("retried", [BUSY, WHOLE], "finished", ("AttemptEnded", "Retried", *AGAIN)),
    Ending(
        "fallback",
        *([BadRequestError("no")], "finished", ("AttemptEnded", "FellBack", *AGAIN)),
        fallback=[ScriptedProvider(WHOLE, name="second")],
    ),
    Ending(
        "restarted",
        *([CUT, WHOLE], "finished", ("FirstContent", "AttemptEnded", "Retried", "Restarted", *AGAIN)),
        on_interrupt="restart",
    ),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
async def test_every_ending_is_reported_once(ending: Ending) -> None:
    seen = Seen()
    stream = stream_request(
        ASK,
        provider=ScriptedProvider(*ending.answers),
        observer=seen,
        timeouts=ending.timeouts,
        fallback=ending.fallback,
        on_interrupt=ending.on_interrupt,
    )
    error: StreamcoreError | None = None
    try:
        await ending.reader(stream)
    except StreamcoreError as raised:
        error = raised
    assert seen.names == ["AnswerStarted", "AttemptStarted", *ending.between, "AttemptEnded", "AnswerEnded"]
    end = seen.end
    assert end.outcome == ending.outcome
    assert end.error is error
    assert len({event.operation for event in seen.events}) == 1
    assert (end.operation.kind, end.operation.name, end.operation.parent) == ("answer", "large", None)
    assert end.completion.complete is stream.partial.complete
    assert end.completion.text == stream.partial.text
    assert (end.first_content is not None) is ("FirstContent" in ending.between)
    attempts = [event for event in seen.events if isinstance(event, AttemptEnded)]
    assert [event.number for event in attempts] == list(range(1, len(attempts) + 1))


@pytest.mark.parametrize("reader", [stop, leave, cancel])
async def test_usage_that_arrived_is_reported_without_a_proper_end(reader: Callable[[Stream], Awaitable[None]]) -> None:
    seen = Seen()
    stream = stream_request(ASK, provider=ScriptedProvider([USAGE, "a", anyio.sleep_forever]), observer=seen)
    await reader(stream)
    assert seen.end.completion.usage == USAGE.usage
    assert seen.end.completion.text == "a"


async def test_the_fallback_and_the_pause_are_named() -> None:
    seen = Seen()
    second = ScriptedProvider(WHOLE, name="second")
    provider = ScriptedProvider(BUSY, BadRequestError("no"))
    await stream_request(ASK, provider=provider, fallback=[second], observer=seen).collect()
    (retried,) = [event for event in seen.events if isinstance(event, Retried)]
    (fell,) = [event for event in seen.events if isinstance(event, FellBack)]
    assert (retried.provider, retried.error, retried.pause) == ("scripted", BUSY, 0.0)
    assert (fell.provider, type(fell.error)) == ("second", BadRequestError)
    assert seen.end.provider == "second"


async def test_a_stream_that_is_never_read_is_not_reported() -> None:
    seen = Seen()
    async with stream_request(ASK, provider=ScriptedProvider(WHOLE), observer=seen):
        pass
    assert seen.events == []


async def test_an_error_that_the_reader_handles_meanwhile_is_not_that_of_the_answer() -> None:
    seen = Seen()
    try:
        int("of the caller")
    except ValueError:
        await stream_request(ASK, provider=ScriptedProvider(WHOLE), observer=seen).collect()
    assert (seen.end.outcome, seen.end.error) == ("finished", None)


async def test_observers_of_all_sources_receive_each_event_once() -> None:
    call, context, process, provider = Seen(), Seen(), Seen(), Seen()
    scripted = ScriptedProvider(WHOLE)
    scripted.observer = provider  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    add_observer(process)
    try:
        with observe(context, call):
            await stream_request(ASK, provider=scripted, observer=call).collect()
    finally:
        remove_observer(process)
    await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()
    assert call.names == context.names == process.names == provider.names
    assert call.names.count("AnswerEnded") == 1


async def test_tasks_inherit_an_observer() -> None:
    seen = Seen()

    async def ask() -> None:
        await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()

    with observe(seen):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
    assert seen.names.count("AnswerEnded") == 2


async def test_an_observer_that_raises_is_logged_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("broken")

    seen = Seen()
    with caplog.at_level(logging.ERROR, "streamcore"), observe(broken, seen):
        for _ in range(2):
            answer = await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()
            assert answer.text == "Hello World"
    assert [record.message for record in caplog.records if "observer" in record.message] == [
        f"the observer {broken.__qualname__} failed at AnswerStarted"
    ]
    assert seen.names.count("AnswerEnded") == 2


async def test_chunks_are_shown_to_those_alone_that_want_them() -> None:
    class Chunks(Seen):
        wants_chunks = True

    wanting, other = Chunks(), Seen()
    with observe(wanting, other):
        await stream_request(ASK, provider=ScriptedProvider(WHOLE)).collect()
    texts = [
        chunk.text
        for event in wanting.events
        if isinstance(event, ChunksArrived)
        for chunk in event.chunks
        if chunk.text
    ]
    assert texts == ["Hello ", "World"]
    assert "ChunksArrived" not in other.names


async def test_the_first_content_is_not_the_start() -> None:
    seen = Seen()
    script: list[Step] = [Chunk("start", id="r"), Chunk("ping"), 0.02, "a", "b", FINISH]
    await stream_request(ASK, provider=ScriptedProvider(script), observer=seen).collect()
    (first,) = [event for event in seen.events if isinstance(event, FirstContent)]
    assert first.seconds >= 0.02
    assert seen.end.first_content == first.seconds <= seen.end.seconds


async def test_a_provider_made_with_an_observer_has_it() -> None:
    seen = Seen()
    provider = get_provider("demo", observer=seen)
    await stream_request(ASK, provider=provider).collect()
    assert seen.end.provider == "demo"


class Narrow:
    """A provider whose class has no other attributes."""

    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = "narrow"

    def stream(self, request: Request) -> object: ...

    async def aclose(self) -> None: ...


def test_a_provider_that_takes_no_observer_says_so() -> None:
    with pytest.raises(ConfigError, match="takes no observer"):
        get_provider(f"{__name__}:Narrow", observer=Seen())
