"""Test what a graph must not do: leave the prompt folder, run what users type, show secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import ConfigError, NodeError, PromptError, PromptNotFound, stream_graph_with_tokens
from streamcore.graph.check import check_graph
from streamcore.testing import Simulator
from tests.graphs import answers, collect, output, write_graph

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("vendor")]

ONE = "    nodes: {{a: {{prompt: '{0}'}}}}\n    edges: [{{from: START, to: a}}]\n"


@pytest.mark.parametrize("name", ["../secret", "../../etc/passwd", "/etc/passwd", "link", "a/../../secret", "folder/x"])
async def test_a_prompt_stays_in_its_folder(tmp_path: Path, vendor: Simulator, name: str) -> None:
    path = write_graph(tmp_path / "graph", ONE.format(name))
    secret = tmp_path / "graph" / "secret.yaml"
    secret.write_text("user: the secret", "utf-8")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.yaml").write_text("user: the secret", "utf-8")
    (tmp_path / "graph" / "prompts" / "link.yaml").symlink_to(secret)
    (tmp_path / "graph" / "prompts" / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(PromptNotFound):
        await collect(stream_graph_with_tokens(path))
    assert len(check_graph(path)) == 1
    assert not vendor.requests


@pytest.mark.parametrize("text", ["{state.secret}", "{{ state.secret }}", "{% for x in y %}", "{secret}"])
async def test_input_of_users_is_never_evaluated(tmp_path: Path, vendor: Simulator, text: str) -> None:
    graph = """
        nodes:
          ask: {type: interrupt, message: "{state.typed}", resume_key: said}
          set: {type: passthrough, output: {again: "{said}", within: "<{said}>", list: ["{said}"]}}
          tell: {prompt: tell, variables: {said: "{again}"}}
          jinja: {prompt: jinja, variables: {said: "{again}"}}
        edges:
          - {from: START, to: ask}
          - {from: ask, to: set}
          - {from: set, to: tell}
          - {from: tell, to: jinja}
    """
    path = write_graph(tmp_path, graph, tell="{said}", jinja="{{ said }}")
    answers(vendor, lambda asked: asked.text)
    state = {"typed": text, "secret": "hidden"}
    first = await collect(stream_graph_with_tokens(path, state, {"thread_id": "t"}))
    assert first[-1]["message"] == text
    rest = await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t", "resume": text}))
    assert output(rest, "set") == {"again": text, "within": f"<{text}>", "list": [text]}
    assert output(rest, "tell") == {"tell": text}
    assert output(rest, "jinja") == {"jinja": text}


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ state.__class__ }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ state.update({'a': 1}) }}",
        "{{ words.append(1) }}",
    ],
)
async def test_a_prompt_cannot_break_out(tmp_path: Path, vendor: Simulator, prompt: str) -> None:
    path = write_graph(tmp_path, ONE.format("p"))
    (tmp_path / "prompts" / "p.yaml").write_text(f'user: "{prompt}"', "utf-8")
    with pytest.raises(PromptError):
        await collect(stream_graph_with_tokens(path, {"words": [1]}))
    assert not vendor.requests


@pytest.mark.parametrize("value", ["{''.__class__.__mro__}", "{'x'.ljust(10**9)}", "{words.append(1)}"])
async def test_an_expression_cannot_break_out(tmp_path: Path, value: str) -> None:
    graph = f"""
        nodes: {{a: {{type: passthrough, output: {{x: "{value}"}}}}}}
        edges: [{{from: START, to: a}}]
    """
    try:
        events = await collect(stream_graph_with_tokens(write_graph(tmp_path, graph), {"words": [1]}))
        assert output(events, "a") == {"x": None}
    except NodeError as error:
        assert "the expression" in str(error)  # noqa: PT017  either is right


async def test_errors_show_no_values(tmp_path: Path) -> None:
    graph = """
        nodes:
          a: {type: passthrough, output: {x: "{password + 1}"}}
        edges: [{from: START, to: a}]
    """
    with pytest.raises(NodeError) as caught:
        await collect(stream_graph_with_tokens(write_graph(tmp_path, graph), {"password": "hunter2"}))
    assert "hunter2" not in str(caught.value)
    assert "{password + 1}" in str(caught.value)


async def test_a_url_with_a_password_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_URL", "redis://:hunter2@127.0.0.1:1/0")
    text = ONE.format("p") + "    checkpointer: {type: redis, url: '${STORE_URL}', tll: 5}\n"
    path = write_graph(tmp_path, text, p="p")
    with pytest.raises(ConfigError) as caught:
        await collect(stream_graph_with_tokens(path, {}, {"thread_id": "t"}))
    assert str(caught.value).startswith(f"{path}:5: checkpointer of type 'redis': unknown key 'tll'")
    assert "hunter2" not in f"{caught.value}{check_graph(path)}"
