"""Test the limits of a run: what counts as a token, and when the run ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamcore import (
    Chunk,
    ConfigError,
    NodeError,
    RunLimitReached,
    Usage,
    stream_graph_with_tokens,
    stream_node_output,
)
from streamcore.checkpoints import MemoryCheckpointer
from streamcore.graph.config import Config
from streamcore.graph.limits import AnswerTokens, Budget, RunLimits
from streamcore.testing import ScriptedProvider
from streamcore.testing.scripted import FINISH
from tests.graphs import write_two_answers


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_two_answers(tmp_path, "tokens")


def counter(limit: int) -> AnswerTokens:
    return Budget(RunLimits(max_tokens=limit)).answer("one")


def usage(input_tokens: int | None = None, output_tokens: int | None = None) -> Chunk:
    return Chunk("usage", usage=Usage(input_tokens, output_tokens))


@pytest.mark.anyio
async def test_the_reported_tokens_of_all_answers_are_limited(graph: Path) -> None:
    answer: list[Chunk | str] = ["Yes.", FINISH, usage(input_tokens=60, output_tokens=30)]
    provider = ScriptedProvider(answer)
    config = Config(provider=provider, limits=RunLimits(max_tokens=100))
    with pytest.raises(RunLimitReached, match="max_tokens=100 at 'two'") as caught:
        async for _ in stream_graph_with_tokens(graph, {"message": "x"}, config):
            pass
    assert caught.value.limit == "max_tokens"
    assert len(provider.requests) == 2
    assert provider.open == 0


@pytest.mark.anyio
async def test_a_vendor_that_reports_nothing_is_limited_while_it_streams(graph: Path) -> None:
    provider = ScriptedProvider(["word" * 10] * 1000)
    config: dict[str, Any] = {"provider": provider, "limits": RunLimits(max_tokens=100)}
    seen = 0
    with pytest.raises(RunLimitReached):
        async for text in stream_node_output(graph, "one", {"message": "x"}, config):
            seen += len(text)
    assert seen == 400
    assert provider.open == 0


def test_a_reported_count_replaces_the_estimate() -> None:
    tokens = counter(100)
    for _ in range(5):
        tokens.note([Chunk("start", usage=Usage(input_tokens=5, output_tokens=1)), Chunk("text", "x" * 80)])
        tokens.note([FINISH, usage(output_tokens=10)])
        tokens.end()
    tokens.note([Chunk("start", usage=Usage(input_tokens=25))])
    with pytest.raises(RunLimitReached):
        tokens.note([Chunk("text", "x")])


@pytest.mark.parametrize("kind", ["start", "restart"])
def test_every_answer_of_a_stream_counts(kind: Any) -> None:
    tokens = counter(50)
    tokens.note([Chunk("text", "x" * 160)])
    tokens.note([Chunk(kind), Chunk("text", "x" * 40)])
    with pytest.raises(RunLimitReached):
        tokens.note([Chunk("reasoning", "x")])


def test_counts_below_zero_give_no_tokens_back() -> None:
    tokens = counter(50)
    tokens.note([usage(input_tokens=-1000, output_tokens=-1000), Chunk("text", "x" * 160), FINISH])
    tokens.end()
    with pytest.raises(RunLimitReached):
        tokens.note([Chunk("text", "x" * 80)])


def test_without_a_limit_nothing_is_counted() -> None:
    tokens = Budget().answer("one")
    tokens.note([Chunk("text", "x" * 10**6), usage(output_tokens=10**9)])
    tokens.end()


LARGE = """
name: large
state: {message: str, texts: list}
nodes:
  one: {type: passthrough, output: {copy: "{state.message + state.message}"}}
  many:
    type: map
    over: "{state.texts}"
    as: item
    node: {type: passthrough, output: {copy: "{state.message}"}}
    collect: copies
edges: [{from: START, to: one}, {from: one, to: many}, {from: many, to: END}]
"""


async def events_of(path: Path, state: dict[str, Any], most: int | None) -> list[Any]:
    config: dict[str, Any] = {"limits": RunLimits(max_state_bytes=most)}
    return [event async for event in stream_graph_with_tokens(path, state, config)]


@pytest.mark.anyio
async def test_the_bytes_of_a_state_are_limited(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(LARGE, "utf-8")
    text = "x" * 10_000
    with pytest.raises(ConfigError, match=r"'large' is too large .* its largest key is 'message' with 10,008"):
        await events_of(path, {"message": text}, 5_000)
    with pytest.raises(NodeError, match=r"output of node 'one': .* its largest key is 'copy' with 20,008") as caught:
        await events_of(path, {"message": text}, 25_000)
    assert (caught.value.graph, caught.value.node) == ("large", "one")
    with pytest.raises(RunLimitReached, match="max_state_bytes=90000 at 'many'"):
        await events_of(path, {"message": text, "texts": [""] * 10}, 90_000)
    for most in (200_000, None):
        assert (await events_of(path, {"message": text, "texts": [""] * 10}, most))[-1]["type"] == "graph_complete"


@pytest.mark.anyio
async def test_a_saved_state_counts(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(LARGE, "utf-8")
    config: dict[str, Any] = {"thread_id": "t", "checkpointer": MemoryCheckpointer()}
    async for _ in stream_graph_with_tokens(path, {"message": "x" * 10_000, "texts": []}, config):
        pass
    config["limits"] = RunLimits(max_state_bytes=20_000)
    with pytest.raises(ConfigError, match="largest key is 'copy'"):
        async for _ in stream_graph_with_tokens(path, {"message": "y"}, config):
            pass
