"""Test the functions that run graphs: closing in every way, one node's text, nodes as functions, structured answers."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from streamcore import (
    ConfigError,
    ContentRefused,
    GraphError,
    NodeError,
    OutputValidationError,
    load_graph,
    stream_graph_with_tokens,
    stream_node_output,
)
from streamcore.concurrency.merge import merged
from streamcore.node_factory import create_streaming_llm_node, create_streaming_node
from streamcore.testing import Answer, Simulator
from tests.graphs import answers, collect, kinds, output, ran, text_of, write_graph
from tests.support import BACKENDS, Vendor, body_of, eventually, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("vendor")]


SHAPES = {
    "one": "nodes: {a: {prompt: p}}\n    edges: [{from: START, to: a}]",
    "parallel": "nodes: {a: {prompt: p}, b: {prompt: p}}\n    edges: [{from: START, to: [a, b]}]",
    "map": ("nodes: {a: {type: map, over: '{[1, 2, 3]}', node: {prompt: p}}}\n    edges: [{from: START, to: a}]"),
    "smooth": (
        "nodes: {a: {prompt: p, stream_options: {buffer_size: 3, emit_interval: 1}}}\n    edges: [{from: START, to: a}]"
    ),
    "question": "nodes: {a: {type: interrupt, prompt: p}}\n    edges: [{from: START, to: a}]",
}
Open = Callable[[Path], Any]
STREAMS: dict[str, Open] = {
    **{name: lambda path: stream_graph_with_tokens(path, {}, {"thread_id": "t"}) for name in SHAPES},
    "node": lambda path: stream_node_output(path, "a"),
    "function": lambda path: create_streaming_node("a", {"prompt": "p"}, graph_path=path)({}),
    "updates": lambda path: create_streaming_llm_node("a", {"prompt": "p"}, graph_path=path)({}),
}


async def read_until_text(stream: AsyncIterator[Any]) -> None:
    """Read until text has arrived."""
    async for item in stream:
        event: Any = item
        if not isinstance(item, dict) or event.get("type", "token") == "token":
            return


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("how", ["with", "aclose", "cancel", "dropped", "raised"])
async def test_leaving_closes_every_response(tmp_path: Path, vendor: Simulator, name: str, how: str) -> None:
    path = write_graph(tmp_path, f"    {SHAPES.get(name, SHAPES['one'])}\n", p="p")
    vendor.decide = lambda asked: Answer.of("word " * 2000)
    vendor.rate = 20  # so that no answer ends by itself, however busy the machine is
    stream = STREAMS[name](path)
    if how == "with":
        async with stream:
            await read_until_text(stream)
    elif how == "raised":
        with pytest.raises(ZeroDivisionError):
            async with stream:
                await read_until_text(stream)
                raise ZeroDivisionError
    elif how == "aclose":
        await read_until_text(stream)
        await stream.aclose()
        await stream.aclose()
    elif how == "cancel":
        with anyio.CancelScope() as scope:
            await read_until_text(stream)
            async for _ in stream:
                scope.cancel()
    else:
        await read_until_text(stream)
        del stream
        gc.collect()
    await eventually(lambda: vendor.requests and vendor.open == 0, "every response was closed")
    await eventually(lambda: vendor.abandoned == len(vendor.requests), "no answer ended by itself")


@pytest.mark.parametrize("name", STREAMS)
async def test_cancelling_at_every_await(tmp_path: Path, vendor: Simulator, name: str) -> None:
    """Cancel after each number of loop iterations until the run completes; nothing may stay open or hang."""
    path = write_graph(tmp_path, f"    {SHAPES.get(name, SHAPES['one'])}\n", p="p")
    vendor.decide = lambda asked: Answer.of("a b c d e")
    for turns in range(0, 400, 7):
        through = False

        async def read(stream: Any) -> None:
            nonlocal through
            await collect(stream)
            through = True

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, STREAMS[name](path))
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        if through:
            break
    await eventually(lambda: vendor.open == 0, "every response was closed")


async def test_a_finished_stream_stays_finished(tmp_path: Path, vendor: Simulator) -> None:
    stream = stream_node_output(write_graph(tmp_path, f"    {SHAPES['one']}\n", p="p"), "a")
    answers(vendor, lambda asked: "a b")
    assert "".join(await collect(stream)) == "a b"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert await collect(stream) == []


async def test_a_run_has_one_reader(tmp_path: Path, vendor: Simulator) -> None:
    stream = stream_graph_with_tokens(write_graph(tmp_path, f"    {SHAPES['one']}\n", p="p"))
    vendor.decide = lambda asked: Answer.of("word " * 20)
    vendor.rate = 5  # so that it has not ended, however busy the machine is, when the second reader comes
    events: list[Any] = []

    async def read() -> None:
        events.extend(await collect(stream))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await eventually(lambda: vendor.open, "the first reader waits")
        with pytest.raises(ConfigError, match="a stream has one reader"):
            await collect(stream)
    assert ran(events) == ["a"]


ENDINGS = """
import asyncio, sys
from functools import partial
from streamcore import stream_graph_with_tokens

kept = []

async def main(path):
    stream = stream_graph_with_tokens(path, {}, {"thread_id": "t"})
    kept.append(stream)
    async for event in stream:
        if event["type"] == "token":
            break
    print("left")

backend, *paths = sys.argv[1:]
for path in [*paths, paths[0]]:
    if backend == "asyncio":
        asyncio.run(main(path))
    else:
        import trio
        trio.run(main, path)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_ends_closes_a_run_in_silence(tmp_path: Path, vendor: Simulator, backend: str) -> None:
    paths = [write_graph(tmp_path / name, f"    {shape}\n", p="p") for name, shape in SHAPES.items()]
    vendor.decide = lambda asked: Answer.of("word " * 5000)
    vendor.rate = 1000
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENDINGS, backend, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "left\n" * 6
    wait_until(lambda: vendor.open == 0, "every response was closed")


# One node's text


async def test_one_node_of_a_graph(tmp_path: Path, vendor: Simulator) -> None:
    text = """
        nodes:
          a: {prompt: p, stream: false, state_key: said}
          b: {type: passthrough, output: {x: 1}}
        edges: [{from: START, to: a}, {from: a, to: b}]
    """
    path = write_graph(tmp_path, text, p="about {topic}")
    answers(vendor, lambda asked: asked.text)
    graph = load_graph(path)
    assert "".join(await collect(stream_node_output(graph, "a", {"topic": "tea", "said": "before"}))) == "about tea"
    with pytest.raises(ConfigError, match="graph 'graph' has no node 'aa'; did you mean 'a'"):
        await collect(stream_node_output(graph, "aa"))
    with pytest.raises(ConfigError, match="node 'b' has the type passthrough, which has no text to stream"):
        await collect(stream_node_output(graph, "b"))


async def test_a_stream_of_text_cannot_represent_a_restart(tmp_path: Path) -> None:
    for key in ("on_interrupt: restart", "retries: 1"):
        path = write_graph(
            tmp_path, f"    nodes: {{a: {{prompt: p, {key}}}}}\n    edges: [{{from: START, to: a}}]\n", p="p"
        )
        with pytest.raises(ConfigError, match="a stream of text cannot represent"):
            await collect(stream_node_output(path, "a"))


async def test_an_error_that_a_graph_would_skip_is_raised(tmp_path: Path, vendor: Simulator) -> None:
    text = "    nodes: {a: {prompt: p, on_error: skip}}\n    edges: [{from: START, to: a}]\n"
    path = write_graph(tmp_path, text, p="p")
    vendor.decide = lambda asked: Answer.of("a b c", cut=2)
    with pytest.raises(NodeError):
        await collect(stream_node_output(path, "a"))


async def test_a_refusal_without_text_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of("openai-chat", Answer.of("")).replace(b'"finish_reason":"stop"', b'"finish_reason":"content_filter"')
    provider = Vendor(body).provider("openai")
    path = write_graph(tmp_path, f"    {SHAPES['one']}\n", p="p")
    for stream in (
        stream_graph_with_tokens(path, {}, {"provider": provider}),
        stream_node_output(path, "a", {}, {"provider": provider}),
    ):
        with pytest.raises(NodeError) as caught:
            await collect(stream)
        assert isinstance(caught.value.cause, ContentRefused)


# Nodes as functions


async def test_a_node_as_a_function(tmp_path: Path, vendor: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_graph(tmp_path, "", greet="Greet {name}").parent)
    answers(vendor, lambda asked: f"{asked.text} now")
    given: list[str] = []

    async def later(token: str) -> None:
        await anyio.lowlevel.checkpoint()
        given.append(token)

    for on_token in (given.append, later, None):
        given.clear()
        node = create_streaming_node("generate", {"prompt": "greet", "state_key": "greeting", "on_token": on_token})
        tokens = [token async for token in node({"name": "Ada"})]
        assert "".join(tokens) == "Greet Ada now"
        assert given == (tokens if on_token else [])


async def test_a_node_as_a_function_of_updates(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(
        tmp_path,
        "",
        greet="Greet {name}",
        rate="schema: {name: Rating, fields: {stars: {type: int}}}\nuser: Rate {name}\n",
    )
    answers(vendor, lambda asked: '{"stars": 4}' if asked.schema else asked.text)
    node = create_streaming_llm_node("greeting", {"prompt": "greet"}, graph_path=path)
    updates = await collect(node({"name": "Ada"}))
    assert "".join(update["greeting_stream"] for update in updates[:-1]) == "Greet Ada"
    assert updates[-1] == {"greeting": "Greet Ada"}
    node = create_streaming_llm_node("n", {"prompt": "rate", "state_key": "r", "stream_key": "live"}, graph_path=path)
    updates = await collect(node({"name": "Ada"}))
    assert "".join(update["live"] for update in updates[:-1]) == '{"stars": 4}'
    assert isinstance(updates[-1]["r"], BaseModel)
    assert updates[-1]["r"].model_dump() == {"stars": 4}


@pytest.mark.parametrize("make", [create_streaming_node, create_streaming_llm_node])
def test_a_config_that_is_wrong(make: Callable[..., Any]) -> None:
    with pytest.raises(GraphError) as caught:
        make("generate", {"promt": "greet", "temperature": "hot"})
    assert sorted(str(caught.value).splitlines()) == [
        "node 'generate': temperature: expected a number, not 'hot'",
        "node 'generate': the key 'prompt' is missing",
        "node 'generate': unknown key 'promt'; did you mean 'prompt'?",
    ]


# Structured answers

RATE = """
schema:
  name: Rating
  fields:
    stars: {type: int, constraints: {ge: 1, le: 5}}
user: Rate {thing}
"""


async def test_a_structured_node_streams_text_and_keeps_an_object(tmp_path: Path, vendor: Simulator) -> None:
    text = """
        nodes:
          rate: {prompt: rate}
          next: {type: passthrough, output: {double: "{rate.stars * 2}"}}
        edges: [{from: START, to: rate}, {from: rate, to: next}]
    """
    path = write_graph(tmp_path, text, rate=RATE)
    answers(vendor, lambda asked: '```json\n{"stars": 4}\n```')
    events = await collect(stream_graph_with_tokens(path, {"thing": "tea"}))
    assert text_of(events, "rate") == '```json\n{"stars": 4}\n```'
    assert output(events, "rate") == {"rate": {"stars": 4}}
    assert events[-1]["state"]["double"] == 8
    json.dumps(events)


@pytest.mark.parametrize("key", ["retries: 1", "on_error: retry, max_retries: 1"])
async def test_an_answer_that_does_not_fit_is_requested_again(tmp_path: Path, vendor: Simulator, key: str) -> None:
    text = f"    nodes: {{rate: {{prompt: rate, {key}}}}}\n    edges: [{{from: START, to: rate}}]\n"
    path = write_graph(tmp_path, text, rate=RATE)
    said = iter(['{"stars": 9}', '{"stars": 5}'])
    answers(vendor, lambda asked: next(said))
    events = await collect(stream_graph_with_tokens(path, {"thing": "tea"}))
    assert ("restart", "rate") in kinds(events)
    assert text_of(events, "rate") == '{"stars": 5}'
    assert output(events, "rate") == {"rate": {"stars": 5}}
    answers(vendor, lambda asked: "no")
    with pytest.raises(NodeError) as caught:
        await collect(stream_graph_with_tokens(path, {"thing": "tea"}))
    assert isinstance(caught.value.cause, OutputValidationError)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "no"


async def test_on_error_retry_without_a_schema(tmp_path: Path, vendor: Simulator) -> None:
    text = "    nodes: {a: {prompt: p, on_error: retry}}\n    edges: [{from: START, to: a}]\n"
    answers(vendor, lambda asked: "fine")
    assert ran(await collect(stream_graph_with_tokens(write_graph(tmp_path, text, p="p")))) == ["a"]


async def test_json_of_a_node_without_schema(tmp_path: Path, vendor: Simulator) -> None:
    text = "    nodes: {a: {prompt: p, parse_json: true}}\n    edges: [{from: START, to: a}]\n"
    path = write_graph(tmp_path, text, p="p")
    answers(vendor, lambda asked: 'Here:\n```json\n{"a": [1]}\n```\nDone.')
    assert output(await collect(stream_graph_with_tokens(path)), "a") == {"a": {"a": [1]}}
    answers(vendor, lambda asked: "none")
    with pytest.raises(NodeError, match="parse_json: the answer has no JSON; it begins with 'none'"):
        await collect(stream_graph_with_tokens(path))


# The merge itself


async def test_items_of_all_sources_come_in_the_order_of_each() -> None:
    async def source(number: int) -> AsyncGenerator[int]:
        for item in range(50):
            await anyio.lowlevel.checkpoint()
            yield number * 1000 + item

    seen: dict[int, list[int]] = {}
    async for number, item in merged([source(n) for n in range(10)], 3):
        seen.setdefault(number, []).append(item)
    assert seen == {n: [n * 1000 + item for item in range(50)] for n in range(10)}


async def test_an_error_is_raised_after_the_events_before_it() -> None:
    closed: list[str] = []

    async def good() -> AsyncGenerator[str]:
        try:
            yield "good"
            await anyio.sleep_forever()
        finally:
            closed.append("good")

    async def bad() -> AsyncGenerator[str]:
        yield "bad"
        await anyio.lowlevel.checkpoint()
        raise ZeroDivisionError

    seen: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        async for item in merged([good(), bad()], 2):
            seen.append(item)
    assert sorted(seen) == [(0, "good"), (1, "bad")]
    assert closed == ["good"]


async def test_a_slow_reader_slows_the_sources_down() -> None:
    made = 0

    async def fast() -> AsyncGenerator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    source = merged([fast(), fast()], 2)
    await anext(source)
    for _ in range(1000):
        await anyio.lowlevel.checkpoint()
    assert made < 100
    await source.aclose()


def test_two_loops_in_one_process(tmp_path: Path, vendor: Simulator) -> None:
    path = write_graph(tmp_path, f"    {SHAPES['parallel']}\n", p="p")
    answers(vendor, lambda asked: "a b c")
    for _ in range(2):
        events = asyncio.run(collect(stream_graph_with_tokens(path)))
        assert sorted(ran(events)) == ["a", "b"]


async def test_values_that_are_not_a_graph() -> None:
    with pytest.raises(ConfigError, match=r"what load_graph\(\) returns, not a dict"):
        await collect(stream_graph_with_tokens({}))  # type: ignore[arg-type]
