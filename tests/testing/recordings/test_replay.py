"""Record every wire at the simulator and play it back in each way: the same chunks, the same pace, cut anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import anyio
import httpx2
import pytest
import respx
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import (
    Chunk,
    ConfigError,
    NotFoundError,
    Provider,
    StreamInterrupted,
    aclose_providers,
    execute_prompt_async,
    get_provider,
    stream_request,
)
from streamcore.testing import (
    Answer,
    PlannedCall,
    Recording,
    RecordingError,
    ReplayTransport,
    Simulator,
    UnrecordedRequest,
    record,
)
from streamcore.testing.recordings.exchange import Pace
from tests.support import EVERY_RUN, KEY, VENDORS, address_of, ask, eventually, provider_at

pytestmark = pytest.mark.anyio
runs = pytest.mark.parametrize(("anyio_backend", "name"), EVERY_RUN)
ANSWER = Answer(
    tokens=["Pont", " Saint", "-Béné", "zet 🌉", "\n"],
    reasoning=["Which", " bridge?"],
    calls=[PlannedCall("tide", {"port": "Sète", "days": 2})],
)


async def listen(provider: Provider) -> list[Chunk]:
    stream = stream_request(ask(include_raw=True, model="m"), provider=provider, max_retries=0)
    # The server that opaque data go back to is another one at each address.
    return [replace(chunk, opaque=chunk.opaque and replace(chunk.opaque, source=None)) async for chunk in stream]


async def make(name: str, answer: Answer = ANSWER, rate: float | None = None) -> tuple[Recording, list[Chunk]]:
    """Record an answer of the simulator; return the recording and the received chunks."""
    with Simulator(answer, rate=rate) as simulator:
        recorder = record(httpx2.AsyncHTTPTransport(), provider=name)
        async with httpx2.AsyncClient(transport=recorder) as http:
            received = await listen(provider_at(simulator, name, http_client=http))
    return recorder.recording, received


@cache
def made(name: str) -> tuple[Recording, list[Chunk]]:
    """Return a recording that several tests use."""
    return asyncio.run(make(name))


@runs
async def test_a_recording_gives_the_same_chunks_in_each_way(name: str, tmp_path: Path) -> None:
    recording, received = await _thread(lambda: made(name))
    assert len(received) > 8
    path = tmp_path / "answer.yaml"
    recording.save(path)
    recording = Recording.load(path)

    async with httpx2.AsyncClient(transport=ReplayTransport(recording)) as http:
        assert await listen(get_provider(name, api_key="any", http_client=http, **address_of(name))) == received
    assert await listen(get_provider("replay", path=path)) == received
    with Simulator(recordings=[path]) as simulator:
        assert await listen(provider_at(simulator, name)) == received
    with respx.mock(using="httpcore2") as router:
        (route,) = recording.mock(router)
        assert await listen(get_provider(name, api_key="any", base_url=base_url(name, recording))) == received
        assert route.call_count == 1
    await aclose_providers()


def base_url(name: str, recording: Recording) -> str:
    ending = {
        "anthropic": "/v1/messages",
        "mistral": "/v1/chat/completions",
        "openai-responses": "/responses",
        "google": "/v1/models/m:streamGenerateContent?alt=sse",
        "bedrock": "/model/m/converse-stream",
    }
    return recording.exchanges[0].request.url.removesuffix(ending.get(name, "/chat/completions"))


async def _thread(work: Callable[[], tuple[Recording, list[Chunk]]]) -> tuple[Recording, list[Chunk]]:
    return await anyio.to_thread.run_sync(work)


@pytest.mark.parametrize("name", VENDORS)
@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 6000), max_size=40))
def test_cuts_change_nothing(name: str, cuts: list[int]) -> None:
    recording, received = made(name)
    assert asyncio.run(listen(get_provider("replay", recording=recording.recut(cuts)))) == received


@pytest.mark.parametrize("name", VENDORS)
def test_a_byte_at_a_time_changes_nothing(name: str) -> None:
    def bytewise(body: bytes) -> Iterable[bytes]:
        return (body[at : at + 1] for at in range(len(body)))

    recording, received = made(name)
    assert asyncio.run(listen(get_provider("replay", recording=recording.recut(bytewise)))) == received


@pytest.mark.parametrize("pace", ["recorded", 50])
def test_the_pace_is_exact(pace: Pace) -> None:
    """A virtual clock measures it, so that a busy machine changes nothing."""
    recording, _ = asyncio.run(make("openai", Answer(["a"] * 40), rate=100))
    due = [read.at for read in recording.at_pace(pace).exchanges[0].reads if b"data: {" in read.data]
    provider = get_provider("replay", recording=recording, pace=pace)

    async def arrivals() -> list[float]:
        start = anyio.current_time()
        return [
            anyio.current_time() - start async for chunks in provider.stream(ask(model="m", temperature=0.7)) if chunks
        ]

    found = trio.run(arrivals, clock=trio.testing.MockClock(autojump_threshold=0))
    assert found == pytest.approx(due)


@pytest.mark.parametrize("way", ["provider", "simulator"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_no_token_comes_early(way: str) -> None:
    """On a busy machine, a read may have several tokens."""
    recording, _ = await make("openai", Answer(["a"] * 40), rate=100)
    due = [read.at for read in recording.exchanges[0].reads for _ in range(read.data.count(b'"a"'))]
    assert len(due) == 40
    assert due[-1] > 0.3
    with Simulator(recordings=[recording], rate="recorded") as simulator:
        provider = (
            provider_at(simulator, "openai")
            if way == "simulator"
            else get_provider("replay", recording=recording, pace="recorded")
        )
        start, found = anyio.current_time(), list[float]()
        async for chunks in provider.stream(ask(model="m", temperature=0.7)):
            found += [anyio.current_time() - start for chunk in chunks if chunk.kind == "text"]
    assert len(found) == len(due)
    assert all(at >= wanted for at, wanted in zip(found, due, strict=False))


@runs
async def test_what_is_not_recorded_says_what_and_the_difference(name: str) -> None:
    recording, _ = await make(name)
    provider = get_provider("replay", recording=recording)
    with pytest.raises(UnrecordedRequest) as caught:
        await stream_request(ask("Something else"), provider=provider, max_retries=2).collect()
    message = str(caught.value)
    assert "no recorded exchange answers POST http://127.0.0.1:" in message
    assert "'Something else', recorded is 'Hello'" in message
    assert isinstance(caught.value, ConfigError)
    with Simulator(recordings=[recording]) as simulator, pytest.raises(NotFoundError, match="recorded is 'Hello'"):
        await stream_request(ask("Something else"), provider=provider_at(simulator, name)).collect()
    with Simulator("I make it up.", recordings=[recording]) as simulator:
        answer = await stream_request(ask("Something else"), provider=provider_at(simulator, name)).collect()
        assert answer.text == "I make it up."
    await aclose_providers()


@runs
async def test_respx_tells_the_difference_too(name: str) -> None:
    recording, _ = await _thread(lambda: made(name))
    with respx.mock(using="httpcore2") as router:
        recording.mock(router)
        provider = get_provider(name, api_key=KEY, base_url=base_url(name, recording), model="m")
        with pytest.raises(UnrecordedRequest, match="'Other', recorded is 'Hello'"):
            await stream_request(ask("Other"), provider=provider).collect()
    await aclose_providers()


@runs
async def test_a_cut_stays_a_cut(name: str) -> None:
    """An end without the vendor's mark, a broken connection, a reader who left: none looks like a whole answer."""
    recorder = record(httpx2.AsyncHTTPTransport(), provider=name)
    with Simulator(Answer(["Hello", " there"], cut=1)) as simulator:
        async with httpx2.AsyncClient(transport=recorder) as http:
            with pytest.raises(StreamInterrupted):
                await listen(provider_at(simulator, name, http_client=http))
    assert recorder.recording.exchanges[0].end == "whole"
    with pytest.raises(StreamInterrupted) as caught:
        await listen(get_provider("replay", recording=recorder.recording))
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"

    with Simulator(Answer(["Hello"] * 500), rate=50) as simulator:
        recorder = record(httpx2.AsyncHTTPTransport(), provider=name)
        async with httpx2.AsyncClient(transport=recorder) as http:
            provider = provider_at(simulator, name, http_client=http)
            async with stream_request(ask(model="m"), provider=provider) as stream:
                async for chunk in stream:
                    if chunk.kind == "text":
                        break
    assert recorder.recording.exchanges[0].end == "left"
    with pytest.raises(StreamInterrupted, match="its reader closed the response"):
        await listen(get_provider("replay", recording=recorder.recording))
    with (
        Simulator(recordings=[recorder.recording]) as simulator,
        pytest.raises(StreamInterrupted, match="the connection broke"),
    ):
        await listen(provider_at(simulator, name))
    await aclose_providers()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_an_error_answer_is_recorded_and_raised_again() -> None:
    recorder = record(httpx2.AsyncHTTPTransport(), provider="openai")
    with Simulator() as simulator:
        async with httpx2.AsyncClient(transport=recorder) as http:
            base = simulator.url + "/nowhere"
            with pytest.raises(NotFoundError) as first:
                await listen(get_provider("openai", api_key=KEY, base_url=base, http_client=http))
    assert recorder.recording.exchanges[0].status == 404
    with pytest.raises(NotFoundError) as second:
        await listen(get_provider("replay", recording=recorder.recording))
    assert str(first.value) == str(second.value)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("way", ["replay", "record"])
async def test_cancelling_ends_a_paced_stream_at_once(way: str) -> None:
    with Simulator(Answer(["Hello"] * 500), rate=2) as simulator:
        inner = httpx2.AsyncHTTPTransport()
        recorder = record(inner, provider="openai")
        if way == "replay":
            slow, _ = await make("openai")
            transport: httpx2.AsyncBaseTransport = ReplayTransport(slow, pace=0.1)
        else:
            transport = recorder
        async with httpx2.AsyncClient(transport=transport) as http:
            provider = provider_at(simulator, "openai", http_client=http)
            with anyio.move_on_after(0.2) as scope:
                await listen(provider)
            assert scope.cancelled_caught
        await eventually(lambda: simulator.open == 0, "the simulator saw the reader go")


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_variable_names_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "greet.yaml").write_text("provider: replay\nuser: Hello", "utf-8")
    with pytest.raises(ConfigError, match=r"has no recording; give path= .* or set STREAMCORE_REPLAY"):
        await execute_prompt_async("greet", prompts_dir=tmp_path)
    recorder = record(httpx2.AsyncHTTPTransport(), provider="openai")
    with Simulator("Good morning.") as simulator:
        async with httpx2.AsyncClient(transport=recorder) as http:
            provider = provider_at(simulator, "openai", http_client=http, model="gpt-recorded")
            assert await execute_prompt_async("greet", prompts_dir=tmp_path, provider=provider) == "Good morning."
    recorder.recording.save(tmp_path / "r.yaml")
    monkeypatch.setenv("STREAMCORE_REPLAY", str(tmp_path / "r.yaml"))
    assert await execute_prompt_async("greet", prompts_dir=tmp_path) == "Good morning."


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_recording_of_several_providers_needs_a_provider_name() -> None:
    recording = Recording(tuple(made_in_thread.exchanges[0] for made_in_thread in await _both()))
    with pytest.raises(RecordingError, match=r"names several providers \(anthropic, openai\); .*give speaks="):
        await listen(get_provider("replay", recording=recording))
    assert await listen(get_provider("replay", recording=recording, speaks="anthropic"))


async def _both() -> list[Recording]:
    return [(await make(name))[0] for name in ("anthropic", "openai")]
