"""Test what happens when a prompt's variable has no value: an error before anything costs, never the word `None`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streamcore import PromptError, stream_graph_with_tokens, stream_node_output
from streamcore.graph.check import check_graph
from streamcore.testing import Simulator
from streamcore.web import create_app
from tests.graphs import collect, ran, write_graph
from tests.serving import listen, serving

pytestmark = pytest.mark.usefixtures("vendor")

STARTER = Path(__file__).resolve().parents[2] / "streamcore" / "cli" / "starter"

GREET = """
state: {name: str, text: str}
nodes:
  greet: {prompt: greet, variables: {name: "{state.name}"}, state_key: text}
  shorten: {prompt: shorten, variables: {text: "{state.text}"}}
edges: [{from: START, to: greet}, {from: greet, to: shorten}]
"""
PROMPTS = {"greet": "Greet {name}.", "shorten": "Shorten {text}"}


async def refused(path: Path, state: Mapping[str, Any] | None = None) -> str:
    with pytest.raises(PromptError) as caught:
        await collect(stream_graph_with_tokens(path, state))
    return str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("state", [None, {"name": None}])
@pytest.mark.parametrize("greet", ["Greet {name}.", "Greet {{ name }}.", "{{ name | upper }}", "{{ 'Hi ' ~ name }}"])
async def test_a_null_is_never_written(tmp_path: Path, vendor: Simulator, state: Any, greet: str) -> None:
    path = write_graph(tmp_path, GREET, **{**PROMPTS, "greet": greet})
    reported = await refused(path, state)
    assert reported.startswith(f"{path}:6: node 'greet': {tmp_path}/prompts/greet.yaml:1: prompt 'greet', user: ")
    assert "the variable 'name' has no value: it is null. Give it a value (--var" in reported
    assert vendor.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    "greet",
    [
        "Greet {{ name or 'you' }}",
        "Greet {{ name | default('you') }}",
        "Greet {% if name %}{{ name }}{% else %}you{% endif %}",
    ],
)
async def test_a_prompt_may_handle_null_where_the_key_is_declared(
    tmp_path: Path, vendor: Simulator, greet: str
) -> None:
    path = write_graph(tmp_path, GREET, **{**PROMPTS, "greet": greet})
    events = await collect(stream_graph_with_tokens(path))
    assert ran(events) == ["greet", "shorten"]
    assert vendor.requests[0].body["messages"][-1]["content"] == "Greet you"
    undeclared = write_graph(tmp_path, GREET.replace("name: str, ", ""), **{**PROMPTS, "greet": greet})
    reported = await refused(undeclared)
    assert "node 'greet'" in reported
    assert "prompt 'greet': the variable 'name' has no value: it reads 'name', which the run was not given" in reported
    assert ran(await collect(stream_graph_with_tokens(undeclared, {"name": None}))) == ["greet", "shorten"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("prompt", "variables"),
    [("Be {style}", ""), ("Be {{ style }}", ""), ("{state.style}", ""), ("Be {s}", ", variables: {s: '{style}'}")],
)
async def test_a_later_node_that_must_lack_a_variable_stops_the_run_at_once(
    tmp_path: Path, vendor: Simulator, prompt: str, variables: str
) -> None:
    text = GREET.replace("{name: str", "{style: str, name: str").replace('variables: {text: "{state.text}"}', "X")
    path = write_graph(tmp_path, text.replace(", X", variables), **{**PROMPTS, "shorten": prompt})
    reported = await refused(path, {"name": "Ada"})
    assert "node 'shorten'" in reported
    assert "prompt 'shorten', user: the variable" in reported
    assert vendor.requests == []
    assert ran(await collect(stream_graph_with_tokens(path, {"name": "Ada", "style": "brief"}))) == ["greet", "shorten"]


@pytest.mark.anyio
async def test_nodes_that_may_not_run_and_keys_that_may_be_set_are_not_refused_early(tmp_path: Path) -> None:
    text = """
    state: {name: str, style: str, go: bool}
    nodes:
      greet: {prompt: greet, variables: {name: "{state.name}"}}
      styled: {prompt: style}
    edges:
      - {from: START, to: greet}
      - {from: greet, to: styled, condition: go}
    """
    path = write_graph(tmp_path, text, **PROMPTS, style="Be {style}")
    assert ran(await collect(stream_graph_with_tokens(path, {"name": "Ada"}))) == ["greet"]
    with pytest.raises(PromptError, match=r"node 'styled': .*'style' is missing"):
        await collect(stream_graph_with_tokens(path, {"name": "Ada", "go": True}))


@pytest.mark.anyio
async def test_a_single_node_and_an_item_of_a_map(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"node 'greet': .*'name' has no value"):
        await collect(stream_node_output(write_graph(tmp_path, GREET, **PROMPTS), "greet"))
    text = """
    state: {words: list}
    nodes:
      each: {type: map, over: "{words}", as: word, node: {prompt: greet, variables: {name: "{word.name}"}}}
    edges: [{from: START, to: each}]
    """
    path = write_graph(tmp_path, text, **PROMPTS)
    assert "node 'each'" in await refused(path, {"words": [{"name": "a"}, {}]})


@pytest.mark.anyio
async def test_a_thread_keeps_its_earlier_input(tmp_path: Path) -> None:
    path = write_graph(
        tmp_path, GREET.replace("state_key: text}", "state_key: text, skip_if_exists: false}"), **PROMPTS
    )
    config = {"thread_id": str(tmp_path)}
    await collect(stream_graph_with_tokens(path, {"name": "Ada"}, config))
    assert ran(await collect(stream_graph_with_tokens(path, None, config)))[0] == "greet"


def test_check(tmp_path: Path) -> None:
    path = write_graph(tmp_path, GREET, **PROMPTS)
    assert check_graph(path) == []
    assert check_graph(path, {"name": "Ada"}) == []
    [reported] = check_graph(path, {})
    assert reported.startswith(f"{path}:6: node 'greet': {tmp_path}/prompts/greet.yaml:1: prompt 'greet', user: ")
    undeclared = write_graph(tmp_path, GREET.replace("name: str, ", ""), **PROMPTS)
    [reported] = check_graph(undeclared)
    assert reported.startswith(
        f"{path}:6: node 'greet': prompt 'greet' gets 'name', which reads 'name', which is not under"
    )


def test_over_http(tmp_path: Path, vendor: Simulator) -> None:
    text = GREET.replace("{name: str", "{topic: str, name: str")
    path = write_graph(tmp_path, text, **PROMPTS)
    with serving(create_app(path, provider="openai", client_variables=["name"])) as url:
        for answer in (
            httpx2.get(f"{url}/stream", params={"prompt": "x"}),
            httpx2.post(f"{url}/start", json={"prompt": "x"}),
        ):
            assert answer.status_code == 400
            reported = answer.json()["detail"]
            assert reported.startswith(
                "The request is not valid: graph.yaml:6: node 'greet': greet.yaml:1: prompt 'greet'"
            )
            assert "user: the variable 'name'" in reported
            assert str(tmp_path) not in reported
        assert vendor.requests == []
        begun = httpx2.post(f"{url}/start", json={"prompt": "x", "variables": {"name": "Ada"}, "session_id": "s"})
        assert begun.status_code == 201
        assert "stream-error" not in [one.name for one in listen(url, f"/{begun.json()['stream']}")]
        # The conversation has the name now.
        assert httpx2.get(f"{url}/stream/s", params={"prompt": "y"}).status_code == 200


def test_over_http_a_prompt_that_lacks_a_variable(tmp_path: Path) -> None:
    write_graph(tmp_path, GREET, greet="Greet {message} in {style}")
    with serving(create_app(tmp_path / "prompts" / "greet.yaml", provider="openai")) as url:
        answer = httpx2.post(f"{url}/start", json={"prompt": "x"})
        assert answer.status_code == 400
        reported = answer.json()["detail"]
        assert "greet.yaml:1: prompt 'greet', user: the variable 'style' is missing" in reported


def test_the_graph_that_init_writes_works_on_the_chat_page() -> None:
    with serving(create_app(STARTER / "graph.yaml", provider="demo")) as url:
        about = httpx2.get(f"{url}/about").json()
        assert (about["input"], about["begins"]) == ("name", False)
        assert "Greet Ada" in "".join(one.data for one in listen(url, "/stream?prompt=Ada"))
