"""Test clocks, retries, fallback, restart, stop and smoothing on whole streams, on asyncio and on trio."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator
from typing import Any, cast

import anyio
import pytest

from streamcore import (
    AnswerTooLarge,
    AuthenticationError,
    Chunk,
    Completion,
    ConfigError,
    MalformedStream,
    Message,
    MissingAPIKey,
    OverloadedError,
    RateLimitError,
    Request,
    StreamcoreError,
    StreamInterrupted,
    StreamTimeout,
    Timeouts,
    stream_prompt,
    stream_request,
)
from streamcore.chunk import Opaque, ToolCall
from streamcore.pipeline.clocks import Clocks
from streamcore.pipeline.smooth import MOST_BYTES
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Step
from tests.support import eventually, patient

pytestmark = pytest.mark.anyio

ASK = Request([Message("user", "Hello")])
PING = Chunk("ping")
FOREVER = 3600.0


async def failure(provider: ScriptedProvider, **options: Any) -> StreamcoreError:
    with pytest.raises(StreamcoreError) as caught:
        await stream_request(ASK, provider=provider, **options).collect()
    assert provider.open == 0
    return caught.value


def text_of(error: StreamcoreError) -> str:
    assert isinstance(error.partial, Completion)
    assert not error.partial.complete
    return error.partial.text


# Clocks


@pytest.mark.parametrize(
    ("script", "timeouts", "clock"),
    [
        ([FOREVER], {"first_token": 0.02}, "first_token"),
        ([PING, FOREVER], {"first_token": 0.02}, "first_token"),
        (["Hel", "lo", FOREVER], {"stall": 0.02}, "stall"),
        (["Hel", "lo", *[PING, 0.01] * 100], {"stall": 0.05}, "stall"),  # keep-alives do not defeat it
        (["Hel", "lo", FOREVER], {"silence": 0.02}, "silence"),
        (["Hel", "lo", *[".", 0.01] * 100], {"total": 0.05}, "total"),
    ],
)
@patient
async def test_the_error_names_the_clock(
    script: list[Step], timeouts: dict[str, float], clock: str, pace: float
) -> None:
    script = [step * pace if isinstance(step, float) else step for step in script]
    timeouts = {name: seconds * pace for name, seconds in timeouts.items()}
    error = await failure(ScriptedProvider(script), timeouts=timeouts, max_retries=0)
    assert isinstance(error, StreamTimeout)
    assert (error.clock, error.seconds) == (clock, timeouts[clock])
    assert f"{timeouts[clock]:g} s (clock {clock!r})" in str(error)
    assert text_of(error).startswith("Hello" if "Hel" in script else "")
    received = f"{len(text_of(error))} characters of text" if text_of(error) else "nothing"
    assert str(error).endswith(f"; received before: {received}")


async def test_pings_reset_silence_and_a_longer_stall_allows_for_reasoning() -> None:
    pings: list[Step] = [PING, 0.02] * 5
    provider = ScriptedProvider(["Hm", *pings, "!", FINISH])
    answer = await stream_request(ASK, provider=provider, timeouts={"stall": 30, "silence": 5}).collect()
    assert (answer.text, answer.complete) == ("Hm!", True)


@patient
async def test_no_timeout_counts_the_readers_own_time(pace: float) -> None:
    provider = ScriptedProvider(["a", "b", "c", FINISH])
    timeouts = {"stall": 0.2 * pace, "silence": 0.2 * pace, "total": 0.4 * pace}
    stream = stream_request(ASK, provider=provider, timeouts=timeouts)
    async for _ in stream:
        await anyio.sleep(0.25 * pace)
    assert stream.partial.complete


async def test_a_cancellation_is_not_mistaken_for_a_timeout() -> None:
    provider = ScriptedProvider(["a", FOREVER])
    stream = stream_request(ASK, provider=provider, timeouts={"stall": 30})
    with anyio.move_on_after(0.02) as scope:
        await stream.collect()
    assert scope.cancelled_caught
    assert provider.open == 0
    with pytest.raises(StreamInterrupted):
        await stream.collect()


def test_clocks_by_arithmetic() -> None:
    clocks = Clocks(Timeouts(first_token=10, stall=4, silence=6, total=20))
    assert clocks.limit == 6
    clocks.read([PING], 5)
    assert clocks.limit == 5  # of first_token, 5 are left
    clocks.read([Chunk("text", "a")], 4)
    assert clocks.limit == 4
    clocks.read([PING], 3)
    assert clocks.limit == 1
    clocks.read([Chunk("text", "a")], 1)
    clocks.spend(5)
    clocks.restart()
    assert clocks.limit == 2  # of total, 2 are left


@pytest.mark.parametrize("timeouts", [{"stal": 1}, {"stall": 0}, {"stall": -1}, {"stall": "1"}, {"total": True}])
async def test_invalid_timeouts_raise(timeouts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="timeouts: "):
        await stream_request(ASK, provider=ScriptedProvider([FINISH]), timeouts=timeouts).collect()


# Retry and fallback


@pytest.mark.parametrize(
    "error",
    [OverloadedError("busy"), RateLimitError("slow down", retry_after=0.001), StreamInterrupted("reset"), None],
    ids=["overloaded", "rate limit", "cut before content", "late first token"],
)
@patient
async def test_temporary_errors_are_retried(error: Exception | None, pace: float) -> None:
    provider = ScriptedProvider([FOREVER if error is None else error], ["Hello", FINISH])
    answer = await stream_request(ASK, provider=provider, timeouts={"first_token": 0.3 * pace}).collect()
    assert (answer.text, answer.complete) == ("Hello", True)
    first, second = answer.attempts
    assert first.error is not None
    assert second.error is None


async def test_retries_are_limited_by_max_retries() -> None:
    provider = ScriptedProvider([OverloadedError("busy")])
    error = await failure(provider, max_retries=3)
    assert isinstance(error, OverloadedError)
    assert len(provider.requests) == len(error.attempts) == 4


@pytest.mark.parametrize("error", [AuthenticationError("no"), MalformedStream("a page"), ConfigError("wrong")])
async def test_permanent_errors_are_not_retried(error: StreamcoreError) -> None:
    provider = ScriptedProvider([error])
    assert await failure(provider) is error
    assert len(provider.requests) == 1


async def test_after_content_nothing_is_repeated() -> None:
    provider = ScriptedProvider(["Hel", OverloadedError("busy")], ["again", FINISH])
    error = await failure(provider, fallback=[ScriptedProvider(["other", FINISH])])
    assert (type(error), text_of(error), len(provider.requests)) == (OverloadedError, "Hel", 1)


async def test_a_pause_exceeds_neither_total_nor_a_minute() -> None:
    for pause, timeouts in ((5.0, {"total": 2}), (3600.0, {})):
        provider = ScriptedProvider([RateLimitError("wait", retry_after=pause)], ["Hello", FINISH])
        error = await failure(provider, timeouts=timeouts)
        assert isinstance(error, RateLimitError)
        assert (error.retry_after, len(provider.requests)) == (pause, 1)


async def test_fallbacks_are_used_in_order() -> None:
    first, second, third = (
        ScriptedProvider([AuthenticationError("no")]),
        ScriptedProvider([OverloadedError("x")]),
        ScriptedProvider(["Hi", FINISH]),
    )
    request = Request(ASK.messages, model="only-the-first-knows-it")
    answer = await stream_request(request, provider=first, fallback=[second, third], max_retries=1).collect()
    assert answer.text == "Hi"
    assert [len(provider.requests) for provider in (first, second, third)] == [1, 2, 1]
    assert third.requests[0].model is None
    assert len(answer.attempts) == 4


async def test_fallback_by_name_model_and_mapping() -> None:
    failing = ScriptedProvider([AuthenticationError("no")])
    for entry, model in (("demo", "demo"), ("demo/m-1", "m-1"), ({"provider": "demo", "model": "m-2"}, "m-2")):
        answer = await stream_request(ASK, provider=failing, fallback=[entry]).collect()
        assert (answer.complete, answer.model) == (True, model)


async def test_the_error_of_a_fallback_without_a_key_has_the_first_error_as_its_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "p.yaml").write_text("user: x\nfallback: [openai]\n")
    for in_prompt in (False, True):
        busy = OverloadedError("busy")
        provider = ScriptedProvider([busy])
        if in_prompt:
            stream = stream_prompt("p", {}, provider=provider, prompts_dir=tmp_path, max_retries=0)
        else:
            stream = stream_request(ASK, provider=provider, fallback=["openai"], max_retries=0)
        with pytest.raises(MissingAPIKey) as caught:
            await stream.collect()
        error = caught.value
        assert error.__cause__ is busy
        assert [attempt.provider for attempt in error.attempts] == [provider.name, "openai"]
        assert "busy" in str(error.attempts[0].error)
        assert error.partial.attempts == error.attempts


async def test_a_config_error_of_the_first_provider_has_no_cause_and_one_attempt() -> None:
    error = await failure(ScriptedProvider([ConfigError("wrong")]), fallback=["demo"])
    assert isinstance(error, ConfigError)
    assert error.__cause__ is None
    assert len(error.attempts) == 1
    assert ConfigError("wrong").attempts == ()


@pytest.mark.parametrize("entry", ["nobody", {"model": "m"}, {"provider": "demo", "colour": 1}])
async def test_an_invalid_fallback_raises_before_anything_is_sent(entry: Any) -> None:
    provider = ScriptedProvider(["Hello", FINISH])
    with pytest.raises(ConfigError):
        await stream_request(ASK, provider=provider, fallback=[entry]).collect()
    assert provider.requests == []


async def test_a_prompt_may_say_it_all(tmp_path: Any) -> None:
    (tmp_path / "p.yaml").write_text(
        "user: x\ntimeouts: {first_token: 0.5, stall: null}\nfallback: [demo/m-9]\nstream_options: {buffer_size: 5}\n"
    )
    provider = ScriptedProvider([FOREVER])
    answer = await stream_prompt("p", prompts_dir=tmp_path, provider=provider, max_retries=0).collect()
    assert answer.model == "m-9"
    assert "first_token" in str(answer.attempts[0].error)


# Restart and stop


async def test_restart_discards_the_received_text() -> None:
    provider = ScriptedProvider(["Hel", StreamInterrupted("cut")], ["Good", " day", FINISH])
    stream = stream_request(ASK, provider=provider, on_interrupt="restart")
    assert [(chunk.kind, chunk.text) async for chunk in stream] == [
        ("text", "Hel"),
        ("restart", ""),
        ("text", "Good"),
        ("text", " day"),
        ("finish", ""),
    ]
    assert (stream.partial.text, stream.partial.complete, len(stream.partial.attempts)) == ("Good day", True, 2)


async def test_text_cannot_represent_a_restart() -> None:
    with pytest.raises(ConfigError, match="restart"):
        stream_request(ASK, provider=ScriptedProvider([FINISH]), on_interrupt="restart").text()


@pytest.mark.parametrize("options", [None, {"buffer_size": 100}])
async def test_stop_ends_without_an_error_and_keeps_the_received_text(options: dict[str, Any] | None) -> None:
    provider = ScriptedProvider(["Hello", " you", FOREVER])
    stream = stream_request(ASK, provider=provider, stream_options=options)
    seen: list[str] = []
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            await eventually(lambda: stream.partial.text == "Hello you", "the text came")
            stream.stop()

        tasks.start_soon(stop)
        seen += [chunk.text async for chunk in stream]
    assert "".join(seen) == stream.partial.text == "Hello you"
    assert not stream.partial.complete
    assert provider.open == 0
    assert (await stream.collect()).text == "Hello you"


async def test_a_stream_of_text_can_be_stopped() -> None:
    provider = ScriptedProvider(["Hello", FOREVER])
    tokens = stream_request(ASK, provider=provider).text()
    async with tokens:
        seen: list[str] = []
        async for token in tokens:
            seen.append(token)
            tokens.stop()
    assert seen == ["Hello"]
    assert not tokens.partial.complete
    assert provider.open == 0


async def test_a_broken_stream_lists_its_attempts() -> None:
    stream = stream_request(ASK, provider=ScriptedProvider(["Hello"]))
    with pytest.raises(StreamInterrupted) as caught:
        await stream.collect()
    assert len(caught.value.attempts) == 1
    assert caught.value.attempts == stream.partial.attempts
    assert pickle.loads(pickle.dumps(caught.value)).attempts == caught.value.attempts  # noqa: S301  our own bytes


async def test_a_stream_that_was_stopped_before_it_began_sends_nothing() -> None:
    provider = ScriptedProvider(["Hello", FINISH])
    stream = stream_request(ASK, provider=provider)
    stream.stop()
    assert not (await stream.collect()).complete
    assert provider.requests == []


@pytest.mark.parametrize("options", [None, {"buffer_size": 100}])
async def test_a_second_reader_raises_and_the_first_continues(options: dict[str, Any] | None) -> None:
    provider = ScriptedProvider(["Hello", 0.05, " you", FINISH])
    stream = stream_request(ASK, provider=provider, stream_options=options)
    seen: list[str] = []

    async def read() -> None:
        seen.extend([chunk.text async for chunk in stream])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await eventually(lambda: seen or stream.partial.text, "the first reader reads")
        for call in (stream.collect, stream.__anext__, stream.text().__anext__):
            with pytest.raises(ConfigError, match="another task"):
                await call()
    assert "".join(seen) == "Hello you"
    assert stream.partial.complete


# Smoothing, with its task

SMOOTH = {"buffer_size": 4, "emit_interval": 5}


async def test_smoothing_changes_pieces_and_nothing_else() -> None:
    provider = ScriptedProvider([*"Hello you", 0.01, *"there", Chunk("reasoning", "hm"), FINISH])
    stream = stream_request(ASK, provider=provider, stream_options=SMOOTH)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text for chunk in chunks if chunk.kind == "text") == "Hello youthere"
    assert [chunk.kind for chunk in chunks][-2:] == ["reasoning", "finish"]
    assert len(chunks) < 10
    assert (stream.partial.complete, provider.open) == (True, 0)


async def test_an_error_is_raised_after_the_delayed_text() -> None:
    provider = ScriptedProvider(["H", "ell", "o", StreamInterrupted("cut")])
    seen: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        async for chunk in stream_request(ASK, provider=provider, stream_options={"buffer_size": 50}):
            seen.append(chunk.text)
    assert seen == ["H", "ello"]
    assert text_of(caught.value) == "Hello"


async def test_a_slow_reader_slows_the_source_down() -> None:
    made = 0

    def endless(request: Request) -> Iterator[Step]:
        nonlocal made
        while True:
            made += 1
            yield ["x", PING]

    async with stream_request(ASK, provider=ScriptedProvider(endless), stream_options=SMOOTH) as stream:
        await anext(stream)
        await anyio.wait_all_tasks_blocked()
        assert made < 1000


@pytest.mark.parametrize("options", [None, SMOOTH])
@pytest.mark.parametrize("script", [[FOREVER], ["a", FOREVER], ["a", *["b"] * 500, FOREVER]])
async def test_leaving_closes_before_the_next_statement(script: list[Step], options: dict[str, int] | None) -> None:
    provider = ScriptedProvider(script)
    with anyio.move_on_after(0.02):
        async with stream_request(ASK, provider=provider, stream_options=options) as stream:
            async for _ in stream:
                pass
    assert provider.open == 0
    provider = ScriptedProvider(["a", FOREVER])
    with pytest.raises(ZeroDivisionError):
        async with stream_request(ASK, provider=provider, stream_options=options) as stream:
            async for _ in stream:
                raise ZeroDivisionError
    assert provider.open == 0


@pytest.mark.parametrize("options", [None, SMOOTH])
async def test_a_bare_loop_that_is_broken_off_closes_soon(options: dict[str, int] | None) -> None:
    provider = ScriptedProvider(["a", FOREVER])
    async for _ in stream_request(ASK, provider=provider, stream_options=options):
        break
    gc.collect()
    await eventually(lambda: provider.open == 0, "the source was closed")


# Sizes


def _bytes_of(kind: str) -> Chunk:
    """Return a chunk of each kind that carries 1,000 bytes."""
    text = "x" * 1000
    match kind:
        case "tool_call":
            return Chunk("tool_call", tool_call=ToolCall("1", "f", text))
        case "opaque":
            return Chunk("reasoning", opaque=Opaque("openai-chat", ({"data": text},)))
        case "raw":
            return Chunk("text", "x", raw=text.encode())
        case "other":
            return Chunk("other", event="new", raw=text.encode())
        case "citation":
            return Chunk("citation", data={"cited": [text]})
        case "choice":
            return Chunk("text", text, choice=1)
        case "unicode":
            return Chunk("text", "\U0001f600" * 250)
        case _:
            return Chunk(cast("Any", kind), text)


SIZED = ["text", "reasoning", "refusal", "tool_call", "opaque", "raw", "other", "citation", "choice", "unicode"]


@pytest.mark.parametrize("smoothing", [None, SMOOTH])
@pytest.mark.parametrize("kind", SIZED)
async def test_an_answer_has_a_limit_in_bytes(kind: str, smoothing: dict[str, Any] | None) -> None:
    made = 0

    def endless(request: Request) -> Iterator[Step]:
        nonlocal made
        while True:
            made += 1
            yield [_bytes_of(kind)]

    provider = ScriptedProvider(endless)
    error = await failure(
        provider,
        max_bytes=100_000,
        fallback=[provider],
        on_interrupt="restart",
        stream_options=smoothing,
        include_raw=kind == "raw",
    )
    assert isinstance(error, AnswerTooLarge)
    assert error.limit == 100_000
    assert "max_bytes" in str(error)
    assert 90 <= made <= 102
    assert error.partial is not None
    if kind == "text":
        assert error.partial.text == "x" * 1000 * made


async def test_an_answer_as_large_as_its_limit_is_complete() -> None:
    script: list[Step] = [*["é" * 100] * 50, Chunk("reasoning", "x" * 1000), FINISH]
    answer = await stream_request(ASK, provider=ScriptedProvider(script), max_bytes=11_000).collect()
    assert answer.complete
    assert answer.text == "é" * 5000
    error = await failure(ScriptedProvider(script), max_bytes=10_999)
    assert isinstance(error, AnswerTooLarge)
    assert isinstance(await failure(ScriptedProvider([["é" * 5000, FINISH]]), max_bytes=9_000), AnswerTooLarge)


async def test_a_restarted_answer_begins_at_zero() -> None:
    broken = StreamInterrupted("cut")
    provider = ScriptedProvider(["x" * 900, broken], ["y" * 900, FINISH])
    answer = await stream_request(ASK, provider=provider, max_bytes=1000, on_interrupt="restart").collect()
    assert answer.text == "y" * 900


@pytest.mark.parametrize("wrong", [0, -1, True])
async def test_the_limit_of_an_answer_is_above_zero(wrong: int) -> None:
    assert isinstance(await failure(ScriptedProvider([FINISH]), max_bytes=wrong), ConfigError)


async def test_a_prompt_may_limit_its_answer(tmp_path: Any) -> None:
    (tmp_path / "p.yaml").write_text("user: hello\nmax_bytes: 10\n")
    provider = ScriptedProvider(["x" * 11, FINISH])
    with pytest.raises(AnswerTooLarge):
        await stream_prompt("p", provider=provider, model="m", prompts_dir=tmp_path).collect()
    answer = await stream_prompt("p", provider=provider, model="m", prompts_dir=tmp_path, max_bytes=11).collect()
    assert answer.text == "x" * 11


@pytest.mark.parametrize("kind", [kind for kind in SIZED if kind != "choice"])
@pytest.mark.parametrize("interval", [0, 0.001, 50])
async def test_a_slow_reader_slows_the_source_down_by_bytes(kind: str, interval: float) -> None:
    made = 0

    def endless(request: Request) -> Iterator[Step]:
        nonlocal made
        while True:
            made += 1
            yield [_bytes_of(kind)] * 10

    options = {"emit_interval": interval, "first": "immediate"}
    async with stream_request(ASK, provider=ScriptedProvider(endless), stream_options=options) as stream:
        await anext(stream)
        for _ in range(20):
            await anyio.sleep(0.005)  # the timer emits meanwhile
        assert made * 10_000 < 4 * MOST_BYTES


async def test_text_beyond_the_byte_limit_is_emitted_in_time() -> None:
    script: list[Step] = [*[["x" * 500_000]] * 8, [FINISH]]
    options = {"emit_interval": 20, "boundary": "line"}
    answer = await stream_request(ASK, provider=ScriptedProvider(script), stream_options=options).collect()
    assert answer.text == "x" * 4_000_000
