"""Test every function, async and sync: what it yields, what it raises, and that the call itself does nothing."""

from __future__ import annotations

import gc
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sized
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

import streamcore
from streamcore import (
    Chunk,
    ConfigError,
    ContentRefused,
    FinishReason,
    PromptError,
    PromptNotFound,
    ProviderNotFound,
    RateLimitError,
    Request,
    ServerError,
    StreamcoreError,
    StreamInterrupted,
    Tool,
    ToolCall,
    execute_prompt_async,
    execute_prompt_streaming,
    execute_prompts_concurrent,
    executor_async,
    stream_agent,
    stream_prompt,
    stream_request,
    sync,
)
from streamcore.execute import AnswerOptions
from streamcore.testing import FINISH, Answer, ScriptedProvider, Simulator
from streamcore.testing.scripted import Step
from tests.support import ask, eventually, provider_at, wait_until


def text(*pieces: str) -> list[Chunk]:
    return [Chunk("text", piece) for piece in pieces]


def finish(reason: FinishReason | None = "stop", word: str | None = "stop") -> list[Chunk]:
    return [Chunk("finish", finish_reason=reason, raw_finish_reason=word)]


HELLO: tuple[list[Chunk], ...] = ([Chunk("start", id="1", model="m")], text("Hel", "lo"), [], text(" World"), finish())


@pytest.fixture(autouse=True)
def prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a prompt where the functions find it by default."""
    (tmp_path / "greet.yaml").write_text("system: Be {mood}.\nuser: Greet {name}.", "utf-8")
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", str(tmp_path))
    return tmp_path


WORLD = {"name": "World", "mood": "kind"}
TENANT: ContextVar[str] = ContextVar("TENANT")


# stream_prompt and stream_request


@pytest.mark.anyio
async def test_stream_prompt_fills_the_prompt_in_and_yields_chunks() -> None:
    provider = ScriptedProvider(HELLO)
    stream = stream_prompt("greet", WORLD, provider=provider, model="m", temperature=0.3)
    chunks = [chunk async for chunk in stream]
    assert chunks == [chunk for batch in HELLO for chunk in batch]
    (request,) = provider.requests
    assert [(message.role, message.text) for message in request.messages] == [
        ("system", "Be kind."),
        ("user", "Greet World."),
    ]
    assert (request.model, request.temperature, request.include_raw) == ("m", 0.3, False)


@pytest.mark.anyio
async def test_the_request_arrives_as_it_was_written() -> None:
    provider = ScriptedProvider(HELLO)
    request = ask("Hi", temperature=0.0, stop=["END"], seed=3)
    assert (await stream_request(request, provider=provider).collect()).text == "Hello World"
    assert provider.requests == [request]
    await stream_request(request, provider=provider, include_raw=True).collect()
    assert provider.requests[1].include_raw


@pytest.mark.anyio
async def test_a_stream_takes_its_state_and_its_graphs_folder(tmp_path: Path) -> None:
    (tmp_path / "graphs" / "prompts").mkdir(parents=True)
    (tmp_path / "graphs" / "prompts" / "near.yaml").write_text("user: 'Topic: {state.topic}'", "utf-8")
    provider = ScriptedProvider(HELLO)
    graph = tmp_path / "graphs" / "graph.yaml"
    await stream_prompt("near", provider=provider, graph_path=graph, state={"topic": "rain"}).collect()
    assert provider.requests[0].messages[0].text == "Topic: rain"


NOT_A_PROVIDER: Any = object()
A_CLASS: Any = ScriptedProvider
ONE_ENTRY: Any = "openai/gpt-5.4-mini"
A_TEXT: Any = "Ada"
WRONG: list[tuple[Callable[[], Any], type[StreamcoreError]]] = [
    (lambda: stream_request(ask(), provider=NOT_A_PROVIDER), ConfigError),
    (lambda: stream_prompt("greet", WORLD, provider=A_CLASS), ConfigError),
    (lambda: stream_request(ask(), provider="demo", fallback=ONE_ENTRY), ConfigError),
    (lambda: stream_request(ask(), provider="demo", fallback=[A_CLASS]), ConfigError),
    (lambda: stream_request(ask(), provider="demo", max_retries=A_TEXT), ConfigError),
    (lambda: stream_prompt("greet", A_TEXT, provider="demo"), PromptError),
    (lambda: stream_prompt("missing", provider="demo"), PromptNotFound),
    (lambda: stream_prompt("greet", WORLD, provider="missing"), ProviderNotFound),
    (lambda: stream_prompt("greet", WORLD), ConfigError),
    (lambda: stream_request(ask(), provider="missing"), ProviderNotFound),
    (lambda: stream_request(ask(seed=1), provider="anthropic"), ConfigError),
    (lambda: execute_prompt_streaming("missing", provider="demo"), PromptNotFound),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("call", "kind"), WRONG)
async def test_errors_of_configuration_come_with_the_first_use(
    call: Callable[[], Any], kind: type[StreamcoreError]
) -> None:
    with pytest.raises(kind):
        await anext(aiter(call()))
    if not isinstance(call(), streamcore.TextStream):
        with pytest.raises(kind):
            await call().collect()
    opened = call()
    with pytest.raises(kind):
        async with opened as stream:
            await anext(aiter(stream))
    with pytest.raises(kind):
        await anext(aiter(opened))


def test_what_is_not_a_request_is_refused_at_the_call() -> None:
    with pytest.raises(
        TypeError, match=r"request is a Request, as in Request\(\[Message\('user', 'Hello'\)\]\), not a str"
    ):
        stream_request(A_TEXT, provider="demo")
    with pytest.raises(ConfigError, match=r"tools is a list .* as in tools=\[weather\]"):
        stream_agent(ask(), provider="demo", tools=Tool("weather", "Tell the weather.", {}))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.anyio
async def test_a_model_in_the_name_of_a_provider_is_explained() -> None:
    with pytest.raises(ProviderNotFound, match="name the model apart, as in provider='openai' and model='gpt-x'"):
        await stream_request(ask(), provider="openai/gpt-x").collect()


@pytest.mark.anyio
async def test_turns_that_are_not_messages_are_refused() -> None:
    turns: Any = [{"role": "user", "content": "Hello"}]
    with pytest.raises(TypeError, match="history is a sequence of Message"):
        await stream_prompt("greet", WORLD, provider="demo", history=turns).collect()


@pytest.mark.anyio
async def test_nothing_happens_at_the_call(simulator: Simulator) -> None:
    provider = provider_at(simulator, "openai")
    unused: list[Any] = [
        stream_request(ask(), provider=provider),
        stream_request(ask(), provider=provider).text(),
        stream_prompt("greet", WORLD, provider=provider),
        execute_prompt_streaming("greet", WORLD, provider=provider),
    ]
    await unused[0].aclose()
    unused.clear()
    gc.collect()
    assert (simulator.connections, simulator.requests) == (0, [])


@pytest.mark.anyio
async def test_text_yields_only_the_models_text() -> None:
    provider = ScriptedProvider(
        [
            [Chunk("start"), Chunk("ping"), Chunk("reasoning", "Hm.")],
            [Chunk("text", ""), *text("a"), Chunk("text", "of another answer", choice=1), *text("b")],
            [],
            [Chunk("tool_call", tool_call=ToolCall("1", "f", "{}")), Chunk("other", raw=b"{}")],
            [Chunk("refusal", "No.")],
            [*finish(), Chunk("finish", choice=1, finish_reason="stop", raw_finish_reason="stop")],
        ]
    )
    assert [piece async for piece in stream_request(ask(), provider=provider).text()] == ["a", "b", "No."]


@pytest.mark.anyio
async def test_partial_grows_while_the_answer_comes() -> None:
    stream = stream_request(ask(), provider=ScriptedProvider(HELLO))
    assert (stream.partial.text, stream.partial.complete) == ("", False)
    seen = [(stream.partial.text, stream.partial.complete) async for _ in stream.text()]
    assert seen == [("Hello", False), ("Hello", False), ("Hello World", False)]
    assert (stream.partial.text, stream.partial.complete) == ("Hello World", True)
    assert await stream.collect() == stream.partial


@pytest.mark.anyio
async def test_a_provider_that_forgets_the_end_was_interrupted() -> None:
    stream = stream_request(ask(), provider=ScriptedProvider([text("Hello")]))
    with pytest.raises(StreamInterrupted, match="scripted") as caught:
        await stream.collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"


@pytest.mark.anyio
async def test_a_providers_error_is_raised_unchanged_with_the_received_text() -> None:
    error = RateLimitError("slow down", code="busy", retry_after=2)
    provider = ScriptedProvider([text("Hel"), error])
    with pytest.raises(RateLimitError) as caught:
        await stream_request(ask(model="m"), provider=provider).collect()
    assert caught.value is error
    assert (error.provider, error.model, error.partial and error.partial.text) == ("scripted", "m", "Hel")
    assert provider.open == 0


# execute_prompt_streaming


@pytest.mark.anyio
async def test_a_bare_loop_yields_text() -> None:
    provider = ScriptedProvider(HELLO)
    pieces = [piece async for piece in execute_prompt_streaming("greet", WORLD, 0.9, provider, model="m")]
    assert pieces == ["Hel", "lo", " World"]
    assert (provider.requests[0].temperature, provider.requests[0].model) == (0.9, "m")


@pytest.mark.anyio
async def test_a_refusals_text_is_yielded_like_text() -> None:
    provider = ScriptedProvider(
        [[Chunk("refusal", "I cannot"), Chunk("refusal", " help.")], finish("refusal", "refusal")]
    )
    pieces = [piece async for piece in execute_prompt_streaming("greet", WORLD, provider=provider)]
    assert pieces == ["I cannot", " help."]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reason", "word"), [("refusal", "refusal"), ("content_filter", "content_filter"), ("content_filter", "blocked")]
)
async def test_a_refusal_without_text_is_an_error(reason: FinishReason, word: str) -> None:
    provider = ScriptedProvider([[Chunk("start", id="1", model="m", request_id="req_1")], finish(reason, word)])
    texts = execute_prompt_streaming("greet", WORLD, provider=provider)
    with pytest.raises(ContentRefused) as caught:
        await anext(texts)
    error = caught.value
    assert (error.provider, error.model, error.code, error.request_id) == ("scripted", "m", word, "req_1")
    assert not error.retryable
    assert error.partial is not None
    assert (error.partial.finish_reason, error.partial.complete) == (reason, True)
    with pytest.raises(ContentRefused):
        await anext(texts)
    with pytest.raises(ContentRefused):
        await execute_prompt_async("greet", WORLD, provider=provider)


@pytest.mark.anyio
async def test_a_filter_that_comes_after_text_is_no_error() -> None:
    provider = ScriptedProvider([text("Hello"), finish("content_filter")])
    assert await execute_prompt_async("greet", WORLD, provider=provider) == "Hello"


@pytest.mark.anyio
async def test_stream_prompt_returns_a_refusal_as_an_answer() -> None:
    provider = ScriptedProvider([finish("refusal")])
    assert [piece async for piece in stream_prompt("greet", WORLD, provider=provider).text()] == []
    assert (await stream_prompt("greet", WORLD, provider=provider).collect()).finish_reason == "refusal"


@pytest.mark.anyio
async def test_an_empty_answer_is_no_refusal() -> None:
    provider = ScriptedProvider([finish()])
    assert [piece async for piece in execute_prompt_streaming("greet", WORLD, provider=provider)] == []
    assert await execute_prompt_async("greet", WORLD, provider=provider) == ""


# execute_prompt_async and execute_prompts_concurrent


@pytest.mark.anyio
async def test_the_whole_text_at_once() -> None:
    assert await execute_prompt_async("greet", WORLD, provider=ScriptedProvider(HELLO)) == "Hello World"


@pytest.mark.anyio
async def test_cancelling_the_whole_text_closes_the_response(simulator: Simulator) -> None:
    simulator.decide = lambda asked: Answer.of("word " * 500)
    simulator.rate = 2  # so that it does not end by itself, however busy the machine is
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: execute_prompt_async("greet", WORLD, provider=provider_at(simulator, "openai")))
        await eventually(lambda: simulator.open == 1, "the answer is being streamed")
        tasks.cancel_scope.cancel()
    wait_until(lambda: simulator.abandoned == 1, "the server saw the connection close")


class Gates:
    """Answers that wait after their text until a test lets them end."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self._gates: dict[str, anyio.Event] = {}

    def answer(self, request: Request) -> Iterator[Step]:
        name = name_in(request)
        yield f"Hello {name}"
        yield self._gates.setdefault(name, anyio.Event()).wait
        yield RateLimitError("too many") if name in self.failing else FINISH

    def open(self, name: str) -> None:
        self._gates.setdefault(name, anyio.Event()).set()


def name_in(request: Request) -> str:
    return request.messages[-1].text.removeprefix("Greet ").removesuffix(".")


def greetings(provider: ScriptedProvider, *names: str) -> list[dict[str, Any]]:
    return [
        {"prompt_name": "greet", "variables": {"name": name, "mood": "kind"}, "provider": provider} for name in names
    ]


@pytest.mark.anyio
async def test_results_come_in_the_order_of_the_prompts_whatever_the_order_of_the_answers() -> None:
    gates = Gates()
    provider = ScriptedProvider(gates.answer)
    results: list[str] = []

    async def run() -> None:
        results.extend(await execute_prompts_concurrent(greetings(provider, "Ann", "Bob", "Cleo")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        for name in ("Cleo", "Ann", "Bob"):
            await eventually(lambda: provider.open == 3 - len(provider.closed_requests), "all run")
            gates.open(name)
            await eventually(partial(_last_closed, provider, name), "one ended")
    assert [name_in(request) for request in provider.closed_requests] == ["Cleo", "Ann", "Bob"]
    assert results == ["Hello Ann", "Hello Bob", "Hello Cleo"]


def _last_closed(provider: ScriptedProvider, name: str) -> bool:
    return [name_in(request) for request in provider.closed_requests[-1:]] == [name]


def _has(requests: Sized, count: int) -> bool:
    return len(requests) == count


@pytest.mark.anyio
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_no_more_than_the_limit_run_at_once(limit: int) -> None:
    gates = Gates()
    provider = ScriptedProvider(gates.answer)
    names = [str(number) for number in range(7)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: execute_prompts_concurrent(greetings(provider, *names), limit=limit))
        for done in range(len(names)):
            await eventually(partial(_has, provider.closed_requests, done), "the one before has ended")
            expected = min(limit, len(names) - done)
            await eventually(partial(_has, provider.open_requests, expected), "as many as may run")
            await anyio.wait_all_tasks_blocked()
            assert provider.open == expected
            gates.open(name_in(provider.open_requests[0]))
    assert provider.most_open == limit


@pytest.mark.anyio
async def test_the_first_failure_is_raised_unchanged_and_the_others_are_closed() -> None:
    gates = Gates()
    provider = ScriptedProvider(gates.answer)

    async def fail() -> None:
        await eventually(lambda: provider.open == 2, "two run")
        name = name_in(provider.open_requests[1])
        gates.failing.add(name)
        gates.open(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        with pytest.raises(RateLimitError, match="too many"):
            await execute_prompts_concurrent(greetings(provider, "Ann", "Bob", "Cleo"), limit=2)
        assert provider.open == 0
    assert len(provider.closed_requests) == 2, "the third must not have begun"


@pytest.mark.anyio
async def test_cancelling_all_of_them_closes_all_of_them() -> None:
    gates = Gates()
    provider = ScriptedProvider(gates.answer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: execute_prompts_concurrent(greetings(provider, "Ann", "Bob")))
        await eventually(lambda: provider.open == 2, "both run")
        tasks.cancel_scope.cancel()
    assert sorted(name_in(request) for request in provider.closed_requests) == ["Ann", "Bob"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("prompts", "limit", "words"),
    [
        (
            [{"prompt_name": "greet"}, {"prompt_name": "greet", "vars": dict[str, Any]()}],
            10,
            ["prompts[1]", "'vars'", "variables"],
        ),
        ([{"variables": dict[str, Any]()}], 10, ["prompts[0]", "prompt_name"]),
        (list[dict[str, Any]](), 0, ["limit", "0"]),
        (["greet"], 10, ["prompts[0] is a mapping", "'greet'"]),
    ],
)
async def test_wrong_prompts_are_refused_before_any_runs(prompts: list[Any], limit: int, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        await execute_prompts_concurrent(prompts, limit=limit)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.anyio
async def test_no_prompts_give_no_results() -> None:
    assert await execute_prompts_concurrent([]) == []


@pytest.mark.anyio
async def test_prompts_concurrent_accepts_every_argument_of_one_prompt() -> None:
    provider = ScriptedProvider(HELLO)
    keys = {*inspect.signature(execute_prompt_async).parameters, *AnswerOptions.__optional_keys__} - {"options"}
    given: dict[str, Any] = {"prompt_name": "greet", "variables": WORLD, "provider": provider, "temperature": 0.4}
    given |= {"max_retries": 0, "retries": 0}
    assert await execute_prompts_concurrent([{**dict.fromkeys(keys), **given}]) == ["Hello World"]
    assert provider.requests[0].temperature == 0.4


def test_the_seeds_import_path_has_the_same_functions() -> None:
    for name in ("execute_prompt_streaming", "execute_prompt_async", "execute_prompts_concurrent"):
        assert getattr(executor_async, name) is getattr(streamcore, name)


# The same without an event loop


def test_the_sync_functions_have_the_same_names() -> None:
    public = {name for name in streamcore.__all__ if inspect.isfunction(getattr(streamcore, name))}
    mine = {name for name in public if getattr(streamcore, name).__module__ == "streamcore.execute"}
    assert mine == {
        "stream_agent",
        "stream_prompt",
        "stream_request",
        "execute_prompt_streaming",
        "execute_prompt_async",
        "execute_prompts_concurrent",
    }
    for name in mine:
        wide = inspect.signature(getattr(streamcore, name)).parameters
        narrow = inspect.signature(getattr(sync, name)).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in narrow.values()):
            assert list(narrow) == list(wide), name


def test_sync_streams_yield_chunks_or_text() -> None:
    provider = ScriptedProvider(HELLO)
    stream = sync.stream_prompt("greet", WORLD, provider=provider)
    assert provider.requests == []
    assert [chunk.kind for chunk in stream] == ["start", "text", "text", "text", "finish"]
    assert (stream.partial.text, stream.partial.complete) == ("Hello World", True)
    assert list(sync.stream_request(ask(), provider=provider).text()) == ["Hel", "lo", " World"]
    assert sync.stream_request(ask(), provider=provider, include_raw=True).collect().text == "Hello World"
    assert provider.requests[-1].include_raw


def test_sync_functions_return_text() -> None:
    provider = ScriptedProvider(HELLO)
    assert list(sync.execute_prompt_streaming("greet", WORLD, 0.2, provider, model="m")) == ["Hel", "lo", " World"]
    assert (provider.requests[0].temperature, provider.requests[0].model) == (0.2, "m")
    assert sync.execute_prompt_async("greet", WORLD, provider=provider, model="m") == "Hello World"
    prompts = [{"prompt_name": "greet", "variables": WORLD, "provider": provider}] * 3
    assert sync.execute_prompts_concurrent(prompts, limit=2) == ["Hello World"] * 3
    refused = ScriptedProvider([finish("refusal")])
    with pytest.raises(ContentRefused):
        list(sync.execute_prompt_streaming("greet", WORLD, provider=refused))


def test_sync_errors_come_with_the_first_use_and_again_with_every_later_one() -> None:
    missing = sync.stream_prompt("missing", provider="demo")
    for _ in range(2):
        with pytest.raises(PromptNotFound):
            next(missing)
    cut = sync.stream_request(ask(), provider=ScriptedProvider([text("Hello")]))
    for call in (cut.collect, cut.collect, lambda: next(cut), lambda: list(cut.text())):
        with pytest.raises(StreamInterrupted) as caught:
            call()
        assert caught.value.partial is not None
        assert caught.value.partial.text == "Hello"
    assert not cut.partial.complete


def test_a_finished_sync_stream_stays_finished() -> None:
    provider = ScriptedProvider(HELLO)
    stream = sync.stream_request(ask(), provider=provider)
    assert stream.collect() == stream.collect()
    assert list(stream) == []
    stream.close()
    assert stream.partial.complete
    assert len(provider.requests) == 1


@pytest.mark.parametrize("name", ["openai", "mistral"])
def test_leaving_a_sync_stream_closes_it(name: str, simulator: Simulator) -> None:
    simulator.decide = lambda asked: Answer.of("word " * 500)
    simulator.rate = 2  # so that none ends by itself, however busy the machine is
    provider = provider_at(simulator, name)
    for chunk in sync.stream_request(ask(), provider=provider):
        if chunk.kind == "text":
            break
    wait_until(lambda: simulator.abandoned == 1, "the server saw the connection close")
    for _ in sync.stream_request(ask(), provider=provider).text():
        break
    wait_until(lambda: simulator.abandoned == 2, "the server saw the connection close")
    for _ in sync.execute_prompt_streaming("greet", WORLD, provider=provider):
        break
    wait_until(lambda: simulator.abandoned == 3, "the server saw the connection close")
    with sync.stream_request(ask(), provider=provider) as stream:
        next(stream)
    wait_until(lambda: simulator.abandoned == 4, "the server saw the connection close")
    with pytest.raises(StreamInterrupted):
        stream.collect()
    stream.close()
    assert not simulator.clients


def test_a_sync_stream_that_is_never_read_sends_no_request() -> None:
    provider = ScriptedProvider(HELLO)
    sync.stream_request(ask(), provider=provider)
    with sync.stream_request(ask(), provider=provider) as stream:
        pass
    with pytest.raises(StreamInterrupted):
        stream.collect()
    assert provider.requests == []


@pytest.mark.anyio
async def test_sync_functions_work_inside_a_running_loop(simulator: Simulator) -> None:
    """The cells of a notebook run inside the loop of its kernel."""
    provider = provider_at(simulator, "openai")
    assert sync.execute_prompt_async("greet", WORLD, provider=provider)
    assert sync.execute_prompts_concurrent([{"prompt_name": "greet", "variables": WORLD, "provider": provider}])
    assert list(sync.execute_prompt_streaming("greet", WORLD, provider=provider))
    with sync.stream_request(ask(), provider=provider) as stream:
        assert stream.collect().complete
    for _ in sync.stream_prompt("greet", WORLD, provider=provider):
        break
    gc.collect()
    await eventually(lambda: not simulator.clients, "every connection is closed")


@pytest.mark.anyio
async def test_errors_pass_through_sync_functions_inside_a_running_loop() -> None:
    with pytest.raises(ServerError, match="gone"):
        sync.execute_prompt_async("greet", WORLD, provider=ScriptedProvider([ServerError("gone")]), max_retries=0)
    with pytest.raises(StreamInterrupted) as caught:
        sync.stream_request(ask(), provider=ScriptedProvider([Chunk("text", text="Hi")]), max_retries=0).collect()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hi"


@pytest.mark.anyio
async def test_a_sync_function_inside_a_running_loop_has_the_callers_context() -> None:
    seen: list[str] = []

    class Watching(ScriptedProvider):
        def stream(self, request: Request) -> AsyncGenerator[list[Chunk]]:
            seen.append(TENANT.get())
            return super().stream(request)

    TENANT.set("ada")
    assert sync.stream_request(ask(), provider=Watching(HELLO)).collect().text == "Hello World"
    assert seen == ["ada"]


@pytest.mark.anyio
async def test_a_sync_stream_of_another_thread_that_is_dropped_on_the_loop_is_closed(simulator: Simulator) -> None:
    """Starlette and Gradio read such a stream in threads, and drop it on the loop's thread."""
    simulator.decide = lambda asked: Answer.of("word " * 500)
    simulator.rate = 2
    provider = provider_at(simulator, "openai")
    streams: list[sync.SyncStream] = []

    def begin() -> None:
        streams.append(sync.stream_request(ask(), provider=provider))
        while next(streams[0]).kind != "text":
            pass

    await to_thread.run_sync(begin)
    assert simulator.clients
    streams.clear()
    gc.collect()
    await eventually(lambda: simulator.abandoned == 1, "the server saw the connection close")


def test_sync_functions_work_in_threads() -> None:
    provider = ScriptedProvider(HELLO)
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(sync.execute_prompt_async("greet", WORLD, provider=provider)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert texts == ["Hello World"] * 4
