"""Test map nodes: the form of results, items that fail, the limits of items and of time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore import ConfigError, NodeError, load_graph, stream_graph_with_tokens
from streamcore.graph.check import check_graph
from streamcore.request import Request
from streamcore.testing import ScriptedProvider
from tests.graphs import Events, collect, output, ran, text_of, write_graph

pytestmark = pytest.mark.anyio


def mapped(folder: Path, item: str = "{prompt: word, state_key: said}", more: str = "", top: str = "") -> Path:
    text = f"""
    {top}
    tools: {{f: {{type: python, path: functions.py, function: f}}}}
    nodes:
      each: {{type: map, over: "{{state.words}}", as: word, collect: all, node: {item}, {more}}}
    edges: [{{from: START, to: each}}]
    """
    (folder / "functions.py").write_text("def f(state):\n    return state['word']\n", "utf-8")
    return write_graph(folder, text, word="{word}")


def echo(request: Request) -> Any:
    """Answer with the text of the request; a text that begins with `bad` breaks."""
    text = request.messages[-1].text
    return ["half"] if text.startswith("bad") else text


async def run(path: Path, words: list[Any], state: Mapping[str, Any] | None = None, **config: Any) -> Events:
    given = {"provider": ScriptedProvider(echo), "model": "m", **config}
    return await collect(stream_graph_with_tokens(path, {"words": words, **(state or {})}, given))


@pytest.mark.parametrize(
    ("item", "words", "results"),
    [
        ("{prompt: word, state_key: said}", ["a"], [{"said": "a", "value": "a"}]),
        ("{prompt: word}", ["a"], [{"each": "a", "value": "a"}]),
        ("{prompt: word, variables: {other: x}}", ["a"], [{"each": "a", "value": "a"}]),
        ("{type: python, tool: f, state_key: got}", [1, None], [{"got": 1, "value": 1}, {"got": None, "value": None}]),
        ("{type: python, tool: f, state_key: got}", [{"x": 1}], [{"x": 1}]),
        ("{type: python, tool: f, state_key: x}", [{"x": {"y": 2}}], [{"x": {"y": 2}, "y": 2}]),
        ("{type: python, tool: f}", [{"result": 1, "x": 2}], [{"result": 1, "value": 1}]),
        ("{type: passthrough, output: {v: '{word}', w: 1}}", ["a"], [{"v": "a", "w": 1}]),
    ],
)
async def test_the_form_of_results(tmp_path: Path, item: str, words: list[Any], results: list[Any]) -> None:
    events = await run(mapped(tmp_path, item), words)
    expected = [{**result, "_map_index": index} for index, result in enumerate(results)]
    assert output(events, "each") == {"all": expected}


@pytest.mark.parametrize(("more", "result"), [("", {"each": {"x": 1}}), ("flatten_output: true", {"x": 1})])
async def test_a_mapping_without_a_key_may_be_lifted(tmp_path: Path, more: str, result: Any) -> None:
    events = await run(mapped(tmp_path, "{prompt: word, parse_json: true}", more), ['{"x": 1}'])
    assert output(events, "each") == {"all": [{**result, "_map_index": 0}]}


async def test_all_items_run_and_those_that_fail_are_listed(tmp_path: Path) -> None:
    events = await run(mapped(tmp_path, more="min_success: 1"), ["a", "bad 1", "b", "bad 2"], {"all_failures": ["old"]})
    found = output(events, "each")
    assert [one["_map_index"] for one in found["all"]] == [0, 2]
    assert [(one["index"], one["error_type"], one["tolerated"]) for one in found["all_failures"]] == [
        (1, "StreamInterrupted", False),
        (3, "StreamInterrupted", False),
    ]
    assert "node 'each' of graph" in found["all_failures"][0]["message"]
    assert [(one["node"], one["tolerated"]) for one in found["errors"]] == [("each", False)] * 2
    # Once no item fails, the list is empty.
    assert output(await run(mapped(tmp_path), ["a"], {"all_failures": ["old"]}), "each")["all_failures"] == []


async def test_an_item_that_may_be_skipped_counts_as_accepted(tmp_path: Path) -> None:
    item = "{prompt: word, state_key: said, on_error: skip}"
    events = await run(mapped(tmp_path, item, "failures: lost"), ["a", "bad", "b"])
    found = output(events, "each")
    assert [one["said"] for one in found["all"]] == ["a", "b"]
    assert [(one["index"], one["tolerated"]) for one in found["lost"]] == [(1, True)]
    assert [(one["node"], one["type"]) for one in found["errors"]] == [("each", "StreamInterrupted")]


async def test_the_text_of_an_item_that_fails_is_void(tmp_path: Path) -> None:
    path = mapped(tmp_path, more="min_success: 0")
    assert text_of(await run(path, ["bad"]), "each") == ""


@pytest.mark.parametrize(
    ("least", "words", "says"),
    [
        ("", ["a", "bad"], "accepted 1/2 items"),
        ("min_success: 1.0", ["a", "bad"], "accepted 1/2 items"),
        ("min_success: 0.5", ["a", "bad", "bad"], "accepted 1/3 items"),
        ("min_success: 2", ["a", "bad"], "accepted 1/2 items"),
        ("min_success: 2", ["a"], "accepted 1/1 items"),
        ("min_success: 0.5", ["a", "bad"], None),
        ("min_success: 1", ["a", "bad", "bad"], None),
        ("min_success: 0", ["bad"], None),
        ("min_success: 5", [], None),
    ],
)
async def test_how_many_items_must_succeed(tmp_path: Path, least: str, words: list[str], says: str | None) -> None:
    path = mapped(tmp_path, more=least)
    if says is None:
        assert ran(await run(path, words)) == ["each"]
        return
    with pytest.raises(NodeError, match=rf"node 'each' of graph 'graph' failed: {says}") as caught:
        await run(path, words)
    if "bad" in words:
        assert type(caught.value.cause).__name__ == "StreamInterrupted"
        assert caught.value.partial is not None
        assert caught.value.partial.text == "half"


@pytest.mark.parametrize(
    ("more", "top", "ran_items"),
    [
        ("", "", 100),
        ("max_items: 3", "", 3),
        ("max_items: 3", "config: {max_map_items: 50}", 3),
        ("", "config: {max_map_items: 50}", 50),
    ],
)
async def test_too_many_items(tmp_path: Path, more: str, top: str, ran_items: int) -> None:
    item = "{type: passthrough, output: {v: '{word}'}}"
    words = [*range(101)]
    with pytest.raises(NodeError, match=f"101 items are more than {ran_items}; raise 'max_items'"):
        await run(mapped(tmp_path, item, more, top), words)
    with pytest.raises(NodeError, match="101 items"):
        path = mapped(tmp_path, item, f"on_overflow: error, {more}", f"{top}\n    defaults: {{on_overflow: truncate}}")
        await run(path, words)
    for path in (
        mapped(tmp_path, item, f"on_overflow: truncate, {more}", top),
        mapped(tmp_path, item, more, f"{top}\n    defaults: {{on_overflow: truncate}}"),
    ):
        assert len(output(await run(path, words), "each")["all"]) == ran_items


@pytest.mark.parametrize(("more", "most"), [("", 2), ("max_concurrency: 3", 3)])
async def test_how_many_items_run_at_once(tmp_path: Path, more: str, most: int) -> None:
    provider = ScriptedProvider(["x", 0.01, "y"])
    path = mapped(tmp_path, more=f"min_success: 0, {more}", top="config: {max_concurrency: 2}")
    await run(path, [*range(6)], provider=provider)
    assert (provider.most_open, provider.open) == (most, 0)


@pytest.mark.long
async def test_each_item_has_a_time_limit(tmp_path: Path) -> None:
    def answer(request: Request) -> Any:
        return [anyio.sleep_forever] if request.messages[-1].text == "slow" else "quick"

    provider = ScriptedProvider(answer)
    path = mapped(tmp_path, more="timeout: 3, min_success: 1")
    found = output(await run(path, ["slow", "b"], provider=provider), "each")
    assert [one["_map_index"] for one in found["all"]] == [1]
    [failure] = found["all_failures"]
    assert (failure["error_type"], provider.open) == ("TimeoutError", 0)
    assert "it took longer than 3 s" in failure["message"]


async def test_an_error_of_the_configuration_ends_the_map(tmp_path: Path) -> None:
    item = "{type: python, tool: f, on_error: skip}"
    path = mapped(tmp_path, item)
    (tmp_path / "functions.py").unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        await run(path, ["a"])


@pytest.mark.parametrize("least", ["1.5", "-1"])
async def test_a_number_of_items_that_is_not_valid(tmp_path: Path, least: str) -> None:
    path = mapped(tmp_path, more=f"min_success: {least}")
    with pytest.raises(ConfigError, match="min_success: a number of items"):
        load_graph(path)


async def test_check_knows_the_keys_of_a_map(tmp_path: Path) -> None:
    top = "state: {words: list}"
    path = mapped(tmp_path, more="failures: lost", top=top)
    assert check_graph(path) == []
