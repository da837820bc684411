"""Test the relay with a log in memory on both backends and a real Redis: what readers get, and how runs end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, get_args

import anyio
import anyio.lowlevel
import pytest

from streamcore import Chunk, Completion, Stream, stream_graph_with_tokens, stream_request
from streamcore.errors import (
    BadRequestError,
    ConfigError,
    InvalidRunId,
    NodeError,
    OutputValidationError,
    RateLimitError,
    RelayError,
    RunExists,
    RunExpired,
    RunNotFound,
    StreamcoreError,
    StreamInterrupted,
    TooManyRuns,
)
from streamcore.relay import MemoryLog, Reader, Relay, RunLog, relay_response
from streamcore.relay.entries import compacted, decode_end, encode_end
from streamcore.relay.redis import RedisLog
from streamcore.sse import Format, encode, parse_event_id
from streamcore.testing import Answer, Simulator
from streamcore.testing.suites.run_log import ITEMS
from tests.graphs import answers, write_graph
from tests.servers import redis_url
from tests.support import KEY, ask, eventually, patient, provider_at

__all__ = ["redis_url"]

pytestmark = pytest.mark.anyio
LOOPS_AND_LOGS = [("asyncio", "memory"), ("trio", "memory"), pytest.param(("asyncio", "redis"), marks=pytest.mark.real)]
FORMATS: tuple[Format, ...] = get_args(Format)
LONG = Answer([f"{n} " for n in range(5000)])


@pytest.fixture(params=LOOPS_AND_LOGS, ids="-".join)
def loop_and_log(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Run each test on each event loop and each log."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
def anyio_backend(loop_and_log: tuple[str, str]) -> str:
    return loop_and_log[0]


@pytest.fixture
def log(loop_and_log: tuple[str, str], request: pytest.FixtureRequest, tmp_path: Path) -> RunLog:
    """Return a log with no runs in it."""
    if loop_and_log[1] == "memory":
        return MemoryLog()
    return RedisLog(request.getfixturevalue("redis_url"), prefix=f"{tmp_path}:")


def asked(simulator: Simulator) -> Stream:
    return stream_request(ask(), provider=provider_at(simulator, "openai"))


async def all_of(reader: Reader) -> list[Any]:
    return [item async for item in reader]


async def read_some(reader: Reader, count: int) -> list[Any]:
    return [await anext(reader) for _ in range(count)]


class Endless:
    """A source that never ends by itself, and records whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while True:
                await anyio.sleep(0.005)
                yield "token "
        finally:
            self.closed = True

    async def aclose(self) -> None:
        self.closed = True


async def test_a_reader_gets_exactly_the_rest_wherever_it_was(log: RunLog, simulator: Simulator) -> None:
    wanted = [chunk async for chunk in asked(simulator)]
    async with Relay(log) as relay:
        await relay.start("run", asked(simulator))
        for cut in range(1, len(wanted)):
            first = relay.read("run")
            some = await read_some(first, cut)
            assert first.seq == cut
            again = relay.read("run", first.seq)
            assert some + await all_of(again) == wanted
            assert again.partial is not None
            assert again.partial.complete
            assert again.partial.text == "".join(chunk.text for chunk in wanted if chunk.kind == "text")
        status = await relay.status("run")
        assert (status.state, status.seq) == ("ended", len(wanted) + 1)
        assert await all_of(relay.read("run", len(wanted) + 1)) == []
    assert len(simulator.requests) == 2


async def test_the_partial_is_the_streams_own(log: RunLog, simulator: Simulator) -> None:
    stream = asked(simulator)
    async with Relay(log) as relay:
        await relay.start("run", stream)
        reader = relay.read("run")
        await all_of(reader)
    assert reader.partial == stream.partial


GRAPH = """
    name: two
    nodes:
      one: {prompt: say, state_key: one}
      two: {prompt: say, skip_if_exists: false, state_key: two}
    edges: [{from: START, to: one}, {from: one, to: two}, {from: two, to: END}]
"""


@pytest.mark.parametrize("metadata", [False, True])
async def test_a_graphs_events_are_unchanged(
    log: RunLog, simulator: Simulator, tmp_path: Path, metadata: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare every byte that the web sends of them, in every format."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
    answers(simulator, lambda asked: "an answer\r\nof two lines")
    path = write_graph(tmp_path, GRAPH, say="hello")

    def events() -> AsyncIterator[Any]:
        config = {"provider": "openai", "model": "m", "include_metadata": metadata}
        return stream_graph_with_tokens(path, {}, config)

    given: list[Any] = []

    async def noted() -> AsyncIterator[Any]:
        async for event in events():
            given.append(event)
            yield event

    async with Relay(log) as relay:
        await relay.start("run", noted)
        got = await all_of(relay.read("run"))
    assert len(got) == len(given)
    for fmt in FORMATS:
        assert encode(fmt).feed(got) == encode(fmt).feed(given)
    assert ("metadata" in got[0]) == metadata


async def test_any_stream_is_relayed(log: RunLog) -> None:
    async def source() -> AsyncIterator[Any]:
        for item in ITEMS:
            await anyio.lowlevel.checkpoint()
            yield item

    async with Relay(log) as relay:
        await relay.start("run", source())
        got = await all_of(relay.read("run"))
    assert got == [*ITEMS]
    assert encode("json").feed(got) == encode("json").feed(ITEMS)


def from_cause(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def with_partial(error: StreamcoreError) -> StreamcoreError:
    error.partial = Completion(text="half an emoji \ud83d", finish_reason="length")
    return error


ERRORS = [
    RateLimitError("slow down", provider="p", model="m", status=429, code="c", request_id="r", retry_after=2.5),
    BadRequestError("no", provider="p"),
    with_partial(StreamInterrupted("cut")),
    OutputValidationError("does not fit", errors=[{"loc": ("a", 0), "ctx": {"error": ValueError("x")}}]),
    from_cause(NodeError("node failed", graph="g", node="n"), RateLimitError("slow down", provider="p")),
    from_cause(NodeError("node failed", graph="g", node="n"), KeyError("secret")),
    ConfigError("a file's name"),
    KeyError("secret"),
    RuntimeError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_run_ends_in_its_error(log: RunLog, error: Exception) -> None:
    """Raise an error of the same class with the same attributes, after the received items; browsers get the same."""

    async def source() -> AsyncIterator[str]:
        yield "one"
        raise error

    async with Relay(log) as relay:
        await relay.start("run", source())
        for _ in range(2):
            reader, seen = relay.read("run"), BaseException()
            assert await anext(reader) == "one"
            for _ in range(2):
                with pytest.raises(type(error) if isinstance(error, StreamcoreError) else Exception) as caught:
                    await anext(reader)
                seen = caught.value
                assert type(caught.value).__name__ == type(error).__name__
                assert str(caught.value) == str(error)
                for fmt in FORMATS:
                    assert encode(fmt).error(caught.value) == encode(fmt).error(error)
            if isinstance(error, StreamcoreError):
                assert isinstance(seen, type(error))
                assert seen.partial == error.partial
                assert seen.__dict__.keys() == error.__dict__.keys()


def test_any_end_can_be_written() -> None:
    loop: list[Any] = []
    loop.append(loop)
    partial = Completion(text="\ud83d", parsed={"loop": loop}, citations=({"n": float("nan")},))
    for given in (partial, Completion(parsed=object())):
        error, found = decode_end(encode_end(StreamInterrupted("x"), given))
        assert isinstance(error, StreamInterrupted)
        assert found is None or found.text == given.text


async def test_stop_ends_well_and_closes_the_vendors_response(log: RunLog, simulator: Simulator) -> None:
    simulator.decide = lambda asked: LONG
    simulator.rate = 200
    async with Relay(log) as relay:
        await relay.start("run", asked(simulator))
        reader = relay.read("run")
        some = await read_some(reader, 20)
        assert await relay.stop("run")
        await eventually(lambda: not simulator.open, "the vendor's response is closed")
        rest = await all_of(reader)
        assert reader.partial is not None
        assert not reader.partial.complete
        assert reader.partial.text == "".join(item.text for item in some + rest)
        assert not await relay.stop("run")


@pytest.mark.parametrize("kind", ["generator", "has stop", "stop hangs", "stop fails"])
async def test_stop_of_other_sources(log: RunLog, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.relay.producer.STOP_SECONDS", 0.2)

    class Stoppable(Endless):
        asked = False

        async def __aiter__(self) -> AsyncIterator[str]:
            while not self.asked or kind != "has stop":
                await anyio.sleep(0.005)
                yield "token "
            yield "bye"

        async def stop(self) -> None:
            self.asked = True
            if kind == "stop hangs":
                await anyio.sleep_forever()
            if kind == "stop fails":
                raise RuntimeError("cannot")

    source = Endless() if kind == "generator" else Stoppable()
    async with Relay(log) as relay:
        await relay.start("run", source)
        reader = relay.read("run")
        await anext(reader)
        assert await relay.stop("run")
        assert source.closed
        rest = await all_of(reader)
        assert (rest[-1:] == ["bye"]) == (kind == "has stop")
        assert reader.partial == Completion()


async def test_cancel_ends_in_an_error(log: RunLog) -> None:
    source = Endless()
    async with Relay(log) as relay:
        await relay.start("run", source)
        reader = relay.read("run")
        await anext(reader)
        assert await relay.cancel("run")
        assert source.closed
        with pytest.raises(StreamInterrupted, match="cancelled"):
            await all_of(reader)


@pytest.mark.parametrize("came", [False, True])
async def test_a_run_without_a_reader_is_cancelled(log: RunLog, came: bool) -> None:
    source = Endless()
    async with Relay(log, grace=0.8) as relay:
        await relay.start("run", source)
        if came:
            await anext(relay.read("run"))
        await eventually(lambda: relay.running == 0, "the run is cancelled")
        assert source.closed
        with pytest.raises(StreamInterrupted, match="had no reader for"):
            await all_of(relay.read("run"))


@patient
async def test_a_reader_that_waits_counts_as_a_reader(log: RunLog, pace: float) -> None:
    run, got = f"run-{pace}", list[str]()
    over = anyio.Event()

    async def quiet() -> AsyncIterator[str]:
        await over.wait()
        yield "late"

    async with Relay(log, grace=0.4 * pace) as relay, anyio.create_task_group() as group:
        await relay.start(run, quiet())

        async def read() -> None:
            got.extend(await all_of(relay.read(run)))

        group.start_soon(read)
        await anyio.sleep(0.8 * pace)
        assert relay.running == 1
        over.set()
    assert got == ["late"]


async def test_leaving_the_relay_ends_its_runs(log: RunLog) -> None:
    """This includes a run that was started immediately before."""
    sources = [Endless() for _ in range(3)]
    async with Relay(log) as relay:
        for number, source in enumerate(sources):
            await relay.start(f"run-{number}", source)
            if number < 2:
                await anext(relay.read(f"run-{number}"))
    for number, source in enumerate(sources):
        assert number == 2 or source.closed
        with pytest.raises(StreamInterrupted, match="the service is being stopped"):
            await all_of(relay.read(f"run-{number}"))


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_runs_of_other_owners_look_like_missing_ones(log: RunLog, asynchronous: bool) -> None:
    def plain(owner: str, who: str) -> bool:
        return who in (owner, "admin")

    async def slow(owner: str, who: str) -> bool:
        await anyio.lowlevel.checkpoint()
        return plain(owner, who)

    async with Relay(log, access=slow if asynchronous else plain) as relay:
        await relay.start("hers", Endless(), owner="ada", thread="t")
        for who in ("ada", "admin"):
            assert await anext(relay.read("hers", who=who)) == "token "
            assert await relay.latest("t", who=who) == "hers"
        assert await relay.latest("t", who="eve") is None
        for call in (relay.status, relay.stop, relay.cancel):
            with pytest.raises(RunNotFound) as hers:
                await call("hers", who="eve")
            with pytest.raises(RunNotFound) as none:
                await call("none", who="eve")
            assert str(hers.value).replace("hers", "none") == str(none.value)
        for after, kind in ((None, RunNotFound), (0, RunExpired), (3, RunExpired)):
            with pytest.raises(RunNotFound) as hers:
                await anext(relay.read("hers", after, who="eve"))
            with pytest.raises(RunNotFound) as none:
                await anext(relay.read("none", after, who="eve"))
            assert type(hers.value) is type(none.value) is kind
            assert str(hers.value).replace("hers", "none") == str(none.value)


async def test_one_start_of_a_name_and_one_run_of_a_thread(log: RunLog) -> None:
    async with Relay(log) as relay, Relay(log) as other:
        await relay.start("one", Endless(), thread="t")
        untouched = Endless()
        for name in ("one", "two"):
            with pytest.raises(RunExists):
                await other.start(name, untouched, thread="t")
        assert await other.stop("one")
        with pytest.raises(RunExists, match="'one' exists already"):
            await other.start("one", untouched)
        await other.start("two", Endless(), thread="t")
        assert await relay.latest("t") == "two"
    assert not untouched.closed


async def test_a_lost_run_does_not_block_its_thread(log: RunLog) -> None:
    """If its producer resumes, it adds nothing."""
    epoch = await log.start("lost", "", lease=0.05, thread="t")
    await log.append("lost", epoch, 0, ["a"], None, lease=0.05)
    await anyio.sleep(0.1)
    async with Relay(log) as relay:
        await relay.start("next", Endless(), thread="t")
        assert await relay.latest("t") == "next"
        assert not await log.append("lost", epoch, 1, ["b"], None, lease=9)
        reader = relay.read("lost")
        assert await anext(reader) == "a"
        with pytest.raises(StreamInterrupted, match="the worker that produced this answer was lost"):
            await anext(reader)


async def test_a_reader_ends_a_lost_run(log: RunLog) -> None:
    epoch = await log.start("lost", "", lease=0.05)
    await log.append("lost", epoch, 0, ["a"], None, lease=0.05)
    await anyio.sleep(0.1)
    log = open_log_like(log)
    relay = Relay(log, lease=0.2)
    assert (await relay.status("lost")).state == "lost"
    if isinstance(log, MemoryLog):  # its readers do not check the lease: a producer in this process cannot vanish
        assert await log.take_over("lost", encode_end(StreamInterrupted("the worker was lost"), None))
    with pytest.raises(StreamInterrupted, match="was lost"):
        await all_of(relay.read("lost"))


async def test_a_burst_of_starts_never_exceeds_the_limit(log: RunLog) -> None:
    """The limit is reserved before the log is asked, which takes a round trip with Redis."""
    async with Relay(log, max_runs=3) as relay:
        started: list[str] = []

        async def start(name: str) -> None:
            with contextlib.suppress(TooManyRuns):
                await relay.start(name, Endless(), thread=name)
                started.append(name)

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(start, f"r{number}")
        assert (len(started), relay.running) == (3, 3)
        await relay.stop(started[0])
        await relay.start("next", Endless())


async def test_a_start_that_fails_frees_its_reservation(log: RunLog) -> None:
    async with Relay(log, max_runs=2) as relay:
        await relay.start("one", Endless())
        for _ in range(3):
            with pytest.raises(RunExists):
                await relay.start("one", Endless())
        await relay.start("two", Endless())


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x+1", "a\n\ndata: x\n\n", "a\r", "é", "a\0", "r" * 65, "a\n"])
async def test_names_of_runs_have_one_grammar(log: RunLog, name: str) -> None:
    untouched = Endless()
    async with Relay(log) as relay:
        with pytest.raises(InvalidRunId, match="1 to 64 characters"):
            await relay.start(name, untouched)
        with pytest.raises(RunNotFound):
            await relay.status(name)
    assert not untouched.closed
    assert parse_event_id(f"{name}.1") is None or not name


async def test_a_run_id_that_a_page_has_chosen_is_checked(log: RunLog) -> None:
    refused = Endless()
    async with Relay(log) as relay:
        with pytest.raises(InvalidRunId):
            await relay_response(relay, refused, None, run_id="a\n\ndata: injected")
        assert refused.closed
        assert relay.running == 0


async def test_limits(log: RunLog) -> None:
    untouched = Endless()
    async with Relay(log, max_runs=2, max_per_owner=1) as relay:
        await relay.start("1", Endless(), owner="ada")
        with pytest.raises(TooManyRuns, match="per user"):
            await relay.start("2", untouched, owner="ada")
        await relay.start("3", Endless(), owner="eve")
        with pytest.raises(TooManyRuns, match="at most 2 answers"):
            await relay.start("4", untouched, owner="bob")
        await relay.stop("1", who="ada")
        await relay.start("2", Endless(), owner="ada")
    assert not untouched.closed


@pytest.mark.parametrize("make", ["plain", "async", "fails", "async fails"])
async def test_a_function_that_opens_the_source(log: RunLog, make: str) -> None:
    async def source() -> AsyncIterator[str]:
        yield "token"

    async def opened() -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        return failing() if "fails" in make else source()

    def failing() -> AsyncIterator[str]:
        raise ConfigError("no such prompt")

    functions: dict[str, Callable[[], Any]] = {"plain": source, "fails": failing}
    async with Relay(log) as relay:
        await relay.start("run", functions.get(make, opened))
        reader = relay.read("run")
        if "fails" in make:
            with pytest.raises(ConfigError, match="no such prompt"):
                await all_of(reader)
        else:
            assert await all_of(reader) == ["token"]


async def test_a_source_that_cannot_be_closed(log: RunLog, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(Endless):
        async def __aiter__(self) -> AsyncIterator[str]:
            yield "token"

        async def aclose(self) -> None:
            raise RuntimeError("cannot")

    async with Relay(log) as relay:
        await relay.start("run", Stubborn())
        assert await all_of(relay.read("run")) == ["token"]
    assert "closing the source of run 'run' failed" in caplog.text


async def test_a_reader_may_be_cancelled_anywhere(log: RunLog) -> None:
    """The run continues, and a reader that reconnects gets exactly the rest."""
    go_on = anyio.Event()

    async def source() -> AsyncIterator[str]:
        for number in range(200):
            await anyio.sleep(0.001)
            yield f"{number} "
        await go_on.wait()

    got: list[Any] = []
    async with Relay(log) as relay:
        await relay.start("run", source())
        seq, turns = 0, 0
        while len(got) < 200:
            turns += 1
            reader = relay.read("run", seq)
            with anyio.move_on_after(0.001 * (turns % 7)):
                async for item in reader:
                    got.append(item)
                    seq = reader.seq
        go_on.set()
        assert await all_of(relay.read("run", seq)) == []
    assert got == [f"{number} " for number in range(200)]
    assert turns > 1


async def test_a_gap(log: RunLog) -> None:
    """A reader before the trimmed entries gets their content and then the rest."""
    seen = anyio.Event()
    words = [f"{n} " for n in range(3000)]

    async def source() -> AsyncIterator[Chunk]:
        yield Chunk("text", words[0])
        await seen.wait()
        for word in words[1:]:
            await anyio.lowlevel.checkpoint()
            yield Chunk("text", word)

    async with Relay(log, max_items=50) as relay:
        await relay.start("run", source)
        slow = relay.read("run")
        assert await anext(slow) == Chunk("text", words[0])
        seen.set()
        await eventually(lambda: relay.running == 0, "the run has ended")
        assert (await relay.status("run")).first > 2900
        for reader in (slow, Relay(open_log_like(log)).read("run")):
            items = await all_of(reader)
            gap = items[0]
            assert (gap["type"], gap["seq"] + len(items) - 1) == ("gap", len(words))
            assert [item.kind for item in gap["items"]] == ["text"]
            said = "".join(item.text for item in (*gap["items"], *items[1:]))
            assert said == "".join(words)


def open_log_like(log: Any) -> RunLog:
    """Return another worker's log for the same store; memory has but one."""
    if isinstance(log, MemoryLog):
        return log
    return RedisLog(log._database._url, prefix=log._prefix)


def test_compacted_entries_have_the_same_content() -> None:
    texts = [Chunk("text", "a"), Chunk("text", "b"), Chunk("text", "c", choice=1), Chunk("reasoning", "d")]
    tokens = [{"type": "token", "node": node, "content": node} for node in "xxyx"]
    found = compacted([*texts, *ITEMS, "a", "b", *tokens])
    assert found[:3] == [Chunk("text", "ab"), Chunk("text", "c", choice=1), Chunk("reasoning", "d")]
    assert found[-4:] == [
        "ab",
        *({"type": "token", "node": node, "content": text} for node, text in (("x", "xx"), ("y", "y"), ("x", "x"))),
    ]


async def test_an_event_that_is_not_json(log: RunLog) -> None:
    async def source() -> AsyncIterator[Any]:
        for number in range(3):
            yield {"type": "token", "node": "n", "content": str(number)}
        yield {"type": "node_complete", "node": "n", "output": {"x": object()}}
        await anyio.sleep_forever()

    async with Relay(log) as relay:
        await relay.start("run", source())
        reader = relay.read("run")
        got = await read_some(reader, 3)
        if isinstance(log, MemoryLog):  # which keeps anything; format json will say it
            assert [*(await read_some(reader, 1))[0]["output"]] == ["x"]
            return
        with pytest.raises(ConfigError, match="cannot be stored"):
            await anext(reader)
    assert [event["content"] for event in got] == ["0", "1", "2"]


async def test_a_reader_that_was_closed(log: RunLog) -> None:
    async with Relay(log) as relay:
        await relay.start("run", Endless())
        reader = relay.read("run")
        await anext(reader)
        await reader.aclose()
        with pytest.raises(StreamInterrupted, match="the reader was closed"):
            await anext(reader)
        assert relay.running == 1


async def test_an_event_number_that_is_not_in_the_run(log: RunLog) -> None:
    async with Relay(log) as relay:
        await relay.start("run", Endless())
        with pytest.raises(RunExpired, match="ask again"):
            await anext(relay.read("run", 10_000))


async def test_a_relay_that_is_not_open(log: RunLog) -> None:
    with pytest.raises(ConfigError, match="async with Relay"):
        await Relay(log).start("run", Endless())
    for wrong in ({"grace": 0}, {"lease": -1}, {"max_items": 1}):
        with pytest.raises(ConfigError):
            Relay(log, **wrong)  # type: ignore[arg-type]
    assert issubclass(RunNotFound, RelayError)
