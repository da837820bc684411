"""Test races: whose tokens are shown, who wins, and that the others are cancelled and closed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import ConfigError, NodeError, PromptError, RunLimitReached, load_graph, stream_graph_with_tokens
from streamcore import stream_node_output as stream_node
from streamcore.graph.check import check_graph
from streamcore.graph.limits import RunLimits
from streamcore.provider import Vendor
from streamcore.testing import FINISH, ScriptedProvider
from tests.graphs import Events, collect, kinds, output, text_of, write_graph

pytestmark = pytest.mark.anyio

MODULE = "race_providers"


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, ScriptedProvider]]]:
    """Return a function that makes scripted providers, which a graph names as `race_providers:<name>`."""
    (tmp_path / f"{MODULE}.py").write_text(
        "made = {}\ndef __getattr__(name):\n    return lambda **settings: made[name]\n", "utf-8"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def make(**scripts: Any) -> dict[str, ScriptedProvider]:
        import importlib

        made = {name: ScriptedProvider(script, name=name) for name, script in scripts.items()}
        sys.modules.pop(MODULE, None)
        importlib.import_module(MODULE).made.update(made)
        return made

    yield make
    sys.modules.pop(MODULE, None)


def race(folder: Path, more: str = "", prompt: str = "{text}", names: str = "ab") -> Path:
    candidates = ", ".join(f"{{provider: '{MODULE}:{name}', model: m{name}}}" for name in names)
    text = f"""
    nodes:
      r: {{type: race, prompt: say, candidates: [{candidates}], {more}}}
      end: {{type: passthrough, output: {{done: true}}}}
    edges: [{{from: START, to: r}}, {{from: r, to: end}}]
    """
    return write_graph(folder, text, say=prompt)


SCHEMA = "\nuser: '{text}'\nschema: {name: S, fields: {n: {type: int}}}\n"


async def run(path: Path, state: Mapping[str, Any] | None = None, **config: Any) -> Events:
    return await collect(stream_graph_with_tokens(path, {"text": "x", **(state or {})}, config))


async def test_the_first_whole_answer_wins(tmp_path: Path, ask: Any) -> None:
    began = anyio.Event()

    async def begin() -> None:
        began.set()

    made = ask(a=["one ", began.wait, "two", FINISH], b=[begin, anyio.sleep_forever])
    events = await run(race(tmp_path, "state_key: said"))
    assert output(events, "r") == {"said": "one two", "_race_winner": {"provider": f"{MODULE}:a", "model": "ma"}}
    assert text_of(events, "r") == "one two"
    assert ("restart", "r") not in kinds(events)
    assert [provider.open for provider in made.values()] == [0, 0]
    assert [provider.requests[0].model for provider in made.values()] == ["ma", "mb"]


async def test_a_later_candidate_may_take_over_and_win(tmp_path: Path, ask: Any) -> None:
    began = anyio.Event()

    async def begin() -> None:
        began.set()

    made = ask(a=["slow ", begin, anyio.sleep_forever], b=[began.wait, "quick ", "answer", FINISH])
    events = await run(race(tmp_path))
    assert output(events, "r")["r"] == "quick answer"
    assert text_of(events, "r") == "quick answer"
    tokens = [event["content"] for event in events if event["type"] == "token"]
    assert tokens[0] == "slow "
    assert kinds(events)[:3] == [("node_start", "r"), ("restart", "r"), ("node_complete", "r")]
    assert made["a"].open == 0
    assert made["a"].closed_requests


async def test_a_leader_that_fails_is_followed_by_the_next(tmp_path: Path, ask: Any) -> None:
    """`a` leads and breaks; `b` breaks too; `c` is whole."""
    first, second = anyio.Event(), anyio.Event()

    async def break_first() -> None:
        first.set()

    async def break_second() -> None:
        second.set()

    ask(
        a=["lead", break_first],
        b=[first.wait, "part", break_second],
        c=[second.wait, "whole ", "text", FINISH],
    )
    events = await run(race(tmp_path, names="abc"))
    assert output(events, "r")["r"] == "whole text" == text_of(events, "r")
    assert kinds(events)[1] == ("restart", "r")
    assert output(events, "r")["_race_winner"]["model"] == "mc"


async def test_an_answer_that_does_not_fit_its_schema_has_lost(tmp_path: Path, ask: Any) -> None:
    ask(a='{"n": "no number"}', b=[0.1, '{"n": 3}', FINISH])
    events = await run(race(tmp_path, prompt=SCHEMA))
    assert output(events, "r")["r"] == {"n": 3}
    assert text_of(events, "r") == '{"n": 3}'


async def test_all_have_failed(tmp_path: Path, ask: Any) -> None:
    ask(a=["half"], b=ValueError("no luck"))
    with pytest.raises(NodeError, match=r"no candidate gave a valid answer: .*:a/ma: StreamInterrupted: .*; .*:b/mb: "):
        await run(race(tmp_path))
    events = await run(race(tmp_path, "on_error: skip"))
    found = output(events, "r")
    assert found["r"] is None
    assert found["errors"][0]["node"] == "r"
    assert text_of(events, "r") == ""


async def test_all_are_late(tmp_path: Path, ask: Any) -> None:
    made = ask(a=["part", anyio.sleep_forever], b=[anyio.sleep_forever])
    with pytest.raises(NodeError, match=r"TimeoutError: no whole answer within 0.3 s; .*TimeoutError") as caught:
        await run(race(tmp_path, "timeout: 0.3"))
    assert caught.value.node == "r"
    assert [provider.open for provider in made.values()] == [0, 0]


async def test_a_candidate_without_a_key_has_just_lost(
    tmp_path: Path, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ask(a="an answer")
    path = race(tmp_path, names="a")
    path.write_text(path.read_text("utf-8").replace("candidates: [", "candidates: [{provider: openai, model: m}, "))
    assert output(await run(path), "r")["r"] == "an answer"


async def test_a_missing_variable_is_an_error_of_the_graph(tmp_path: Path, ask: Any) -> None:
    ask(a="x", b="x")
    with pytest.raises(PromptError, match="'other'"):
        await run(race(tmp_path, prompt="{other}"))


async def test_every_candidate_counts(tmp_path: Path, ask: Any) -> None:
    made = ask(a=[anyio.sleep_forever], b=[anyio.sleep_forever])
    with pytest.raises(RunLimitReached, match="max_model_calls=1"):
        await run(race(tmp_path), limits=RunLimits(max_model_calls=1))
    assert [provider.open for provider in made.values()] == [0, 0]


async def test_closing_a_run_closes_all_candidates(tmp_path: Path, ask: Any) -> None:
    made = ask(a=["lead", anyio.sleep_forever], b=[anyio.sleep_forever])
    async with stream_graph_with_tokens(race(tmp_path), {"text": "x"}) as events:
        async for event in events:
            if event["type"] == "token":
                break
    assert [provider.open for provider in made.values()] == [0, 0]


async def test_tokens_only_where_the_node_streams(tmp_path: Path, ask: Any) -> None:
    ask(a="a b c", b=[anyio.sleep_forever])
    events = await run(race(tmp_path, "stream: false"))
    assert [event["type"] for event in events[:2]] == ["node_start", "node_complete"]
    events = await run(race(tmp_path, "stream_key: live"), include_metadata=True)
    tokens = [event for event in events if event["type"] == "token"]
    assert {event["metadata"]["stream_key"] for event in tokens} == {"live"}


ROUTER = """
    nodes:
      r:
        type: router
        prompt: say
        route_field: way
        routes: {left: left, right: right}
        default_route: right
        candidates: [{provider: 'race_providers:a', model: m}, {provider: 'race_providers:b', model: m}]
      left: {type: passthrough, output: {went: left}}
      right: {type: passthrough, output: {went: right}}
    edges: [{from: START, to: r}]
"""
WAY = "\nuser: '{text}'\nschema: {name: S, fields: {way: {type: str}}}\n"


async def test_a_router_may_have_candidates(tmp_path: Path, ask: Any) -> None:
    ask(a="no JSON", b=[0.1, '{"way": "Left"}', FINISH])
    events = await run(write_graph(tmp_path, ROUTER, say=WAY))
    assert output(events, "r") == {"r": "Left", "_race_winner": {"provider": "race_providers:b", "model": "m"}}
    assert events[-1]["state"]["went"] == "left"


async def test_a_text_has_the_winners_tokens_only(tmp_path: Path, ask: Any) -> None:
    ask(a=["lost ", "text"], b=[0.1, '{"way": ', '"left"}', FINISH])
    path = write_graph(tmp_path, ROUTER, say=WAY)
    assert "".join(await collect(stream_node(path, "r", {"text": "x"}))) == '{"way": "left"}'


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("provider: openai", "'provider' does not go together with 'candidates'"),
        ("fallback: [openai]", "'fallback' does not go together"),
        ("guards: {}", "a race has no 'guards'"),
        ("on_error: retry", "on_error: expected 'fail' or 'skip'"),
    ],
)
async def test_keys_that_a_race_does_not_support(tmp_path: Path, more: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_graph(race(tmp_path, more))


async def test_one_candidate_is_no_race(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="candidates: "):
        load_graph(race(tmp_path, names="a"))
    assert check_graph(race(tmp_path)) == []


async def test_a_substitute_is_asked_where_an_sdk_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Vendor("google", sdk="no_such_sdk", install=None, substitute="gemini")

    def described(name: str) -> Vendor | None:
        return missing if name == "google" else None

    monkeypatch.setattr("streamcore.graph.race_node.vendor", described)
    monkeypatch.setattr("streamcore.graph.race_node.provider_names", lambda: ["google"])
    for name in ("GEMINI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = race(tmp_path, names="")
    path.write_text(path.read_text("utf-8").replace("[]", "[{provider: google}, {provider: openai, model: m}]", 1))
    with pytest.raises(NodeError, match=r"google: MissingAPIKey: .*gemini"):
        await run(path)
