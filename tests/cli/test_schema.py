"""Test the JSON Schemas of prompt, graph and recording files: they are current, and as strict as JSON Schema can be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import jsonschema
import pytest

from streamcore import ConfigError, load_graph
from streamcore.cli.json_schemas import Kind, file_name, generate, kinds, schema_text
from streamcore.files.yaml_file import is_mapping, load_yaml
from streamcore.graph.check import check_graph
from streamcore.prompts.prompt_file import load_prompt
from streamcore.testing import Recording
from tests.commands import streamcore
from tests.graph.test_load import ALL_KEYS

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {"site", "node_modules", ".venv", ".venv-lowest", ".bench", ".git"}


def validator(kind: Kind) -> Any:
    schema = json.loads(schema_text(kind))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


VALIDATORS: dict[Kind, Any] = {kind: validator(kind) for kind in kinds()}


def refusals(kind: Kind, path: Path) -> list[str]:
    return [error.message for error in VALIDATORS[kind].iter_errors(load_yaml(path, ConfigError).data)]


def kind_of(data: Any) -> Kind | None:
    if not is_mapping(data):
        return None
    if "streamcore_recording" in data:
        return "recording"
    if "nodes" in data:
        return "graph"
    return "prompt" if data.keys() & {"user", "template"} else None


def files_of_the_repository() -> Iterator[tuple[Kind, Path]]:
    for path in sorted(ROOT.rglob("*.yaml")):
        if SKIPPED.isdisjoint(path.relative_to(ROOT).parts):
            kind = kind_of(load_yaml(path, ConfigError).data)
            if kind is not None:
                yield kind, path


@pytest.mark.parametrize("kind", kinds())
def test_the_shipped_schema_is_current(kind: Kind) -> None:
    assert schema_text(kind) == generate(kind), (
        f"out of date; run: streamcore schema {kind} > streamcore/files/schemas/{file_name(kind)}"
    )


def test_every_file_of_the_repository_is_valid() -> None:
    found = list(files_of_the_repository())
    assert sorted({kind for kind, _ in found}) == sorted(kinds())
    assert len(found) > 20
    assert {path: refused for kind, path in found if (refused := refusals(kind, path))} == {}


def test_every_key_of_a_graph_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(ALL_KEYS, "utf-8")
    assert refusals("graph", path) == []


PROMPTS = [
    "user: x\nusr: y",
    "system: x",
    "user: x\ntemplate: y",
    "user:",
    "user: 1",
    "user: x\ntemperature: hot",
    "user: x\ntemperature: -1",
    "user: x\nmax_tokens: 0",
    "user: x\nmax_tokens: 1.5",
    "user: x\nreasoning: hard",
    "user: x\nstop: [1]",
    "user: x\ntimeouts: {stall: 0}",
    "user: x\ntimeouts: {stal: 1}",
    "user: x\nstream_options: {boundary: letter}",
    "user: x\nfallback: demo",
    "user: x\nfallback: [{model: m}]",
    "user: x\ntools: [{description: x}]",
    "user: x\nmax_steps: 0",
    "user: x\ntools: [{name: x, timeout: 1}]",
    "user: x\ntools: [{python: 'a:b', parameters: {}}]",
    "user: x\ntools: [{python: a.py}]",
    "user: x\ntools: [{python: 'a:b', timeout: 0}]",
    "user: x\ntools: [{python: 'a:b', retries: -1}]",
    "user: x\ntools: [{python: 'a:b', mcp: {url: 'https://example.org'}}]",
    "user: x\ntools: [{name: x, mcp: {url: 'https://example.org'}}]",
    "user: x\ntools: [{mcp: {}}]",
    "user: x\ntools: [{mcp: {command: [a], url: b}}]",
    "user: x\ntools: [{mcp: {command: []}}]",
    "user: x\ntools: [{mcp: {url: b, env: {A: b}}}]",
    "user: x\ntools: [{mcp: {command: [a], headers: {A: b}}}]",
    "user: x\nschema: {name: A}",
    "user: x\nschema: {name: A, fields: {_a: {type: str}}}",
    "user: x\nschema: {name: A, fields: {a: {type: string}}}",
    "user: x\nschema: {name: A, fields: {a: {type: str, constraints: {ge: 1}}}}",
    "user: x\nschema: {name: A, fields: {a: {type: int, constraints: {pattern: x}}}}",
    "user: x\nschema: {name: A, fields: {a: {type: bool, constraints: {ge: 1}}}}",
    "user: x\nschema: {name: A, fields: {a: {type: int, default: x}}}",
    "user: x\nschema: {name: A, fields: {a: {type: 'list[str]', default: x}}}",
    "user: x\nschema: {name: A, fields: {}}\noutput_schema: {type: object}",
]
EDGES = "edges: [{from: START, to: a}]"
GRAPHS = [
    f"nodes: {{}}\n{EDGES}",
    "nodes: {a: {prompt: p}}",
    "nodes: {a: {prompt: p}}\nedges: [{from: a, to: END}]",
    "nodes: {a: {prompt: p}}\nedges: [{from: START}]",
    "nodes: {a: {prompt: p}}\nedges: [{from: START, to: a, when: x}]",
    f"nodez: {{}}\nnodes: {{a: {{prompt: p}}}}\n{EDGES}",
    f"nodes: {{a: {{promt: p}}}}\n{EDGES}",
    f"nodes: {{a: {{type: rooter, prompt: p}}}}\n{EDGES}",
    f"nodes: {{START: {{prompt: p}}, a: {{prompt: p}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p, on_error: explode}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p, on_error: fallback}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p, skip_if_exists: no}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p, max_retries: -1}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p, timeouts: {{stall: 0}}}}}}\n{EDGES}",
    f"nodes: {{a: {{type: router, prompt: p}}}}\n{EDGES}",
    f"nodes: {{a: {{type: router, prompt: p, routes: {{}}}}}}\n{EDGES}",
    f"nodes: {{a: {{type: interrupt}}}}\n{EDGES}",
    f"nodes: {{a: {{type: interrupt, message: x, prompt: p}}}}\n{EDGES}",
    f"nodes: {{a: {{type: passthrough}}}}\n{EDGES}",
    f"nodes: {{a: {{type: python}}}}\n{EDGES}",
    f"nodes: {{a: {{type: map, over: '{{x}}', node: {{type: interrupt, message: x}}}}}}\n{EDGES}",
    f"nodes: {{a: {{type: map, over: '{{x}}', node: {{promt: x}}}}}}\n{EDGES}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\ntools: {{t: {{type: shell, module: m, function: f}}}}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\ncheckpointer: {{type: sqlight}}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\ncheckpointer: {{type: sqlite}}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\ncheckpointer: {{type: memory, path: x}}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\ncheckpointer: {{type: redis, url: 'redis://localhost', ttl: 0}}",
    f"nodes: {{a: {{prompt: p}}}}\n{EDGES}\nloop_limits: {{a: 0}}",
]
RECORDINGS = [
    "streamcore_recording: 2\nexchanges: []",
    "streamcore_recording: 1",
    *(
        "streamcore_recording: 1\nexchanges: [{request: {method: POST, url: x" + more
        for more in (
            "}}]",
            ", body: 1, body_base64: eA==}, response: {}}]",
            "}, response: {status: 99}}]",
            "}, response: {end: odd}}]",
            "}, response: {reads: [{at: 1}]}}]",
            "}, response: {reads: [{at: 1, text: x, base64: eA==}]}}]",
            "}, response: {reads: [{at: 1, base64: '?'}]}}]",
            "}, response: {reads: [{at: -1, text: x}]}}]",
            "}, response: {reads: [{text: x}]}}]",
        )
    ),
]


@pytest.mark.parametrize("text", PROMPTS)
def test_wrong_prompts(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        load_prompt("p", prompts_dir=tmp_path)
    assert refusals("prompt", path)


@pytest.mark.parametrize("text", GRAPHS)
def test_wrong_graphs(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text("user: x\n", "utf-8")
    path = tmp_path / "g.yaml"
    path.write_text(f"prompts_relative: true\n{text}", "utf-8")
    assert check_graph(path)
    assert refusals("graph", path)


@pytest.mark.parametrize("text", RECORDINGS)
def test_wrong_recordings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        Recording.load(path)
    assert refusals("recording", path)


RIGHT = """
    user: x
    template:
    name:
    timeouts: {total: null, stall: 3}
    fallback: [demo, {provider: demo, model: m}]
    schema:
      name: A
      fields:
        a: {type: str, default: x, constraints: {min_length: 1, pattern: "^x"}}
        b: {type: "dict[str, list[float]]", optional: true}
        c: {type: float, default: 1, constraints: {ge: 0.5}}
        d: {type: Any, default: {x: 1}}
"""


def test_right_prompts_and_graphs(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(dedent(RIGHT), "utf-8")
    load_prompt("p", prompts_dir=tmp_path)
    assert refusals("prompt", path) == []
    path = tmp_path / "g.yaml"
    path.write_text(
        "nodes:\n  a: {prompt: p, on_error: fallback, fallback: [demo]}\n"
        "  b: {type: interrupt, prompt: p, message: null}\n"
        f"{EDGES}\ncheckpointer:\n",
        "utf-8",
    )
    load_graph(path)
    assert refusals("graph", path) == []


def test_init_writes_schemas_and_names_them(tmp_path: Path) -> None:
    assert streamcore("init", str(tmp_path)).returncode == 0
    for path in sorted(tmp_path.rglob("*.yaml")):
        first = path.read_text("utf-8").splitlines()[0]
        named = path.parent / first.removeprefix("# yaml-language-server: $schema=")
        data = json.loads(named.read_text("utf-8"))
        validated: Any = jsonschema.Draft7Validator(data)
        validated.validate(load_yaml(path, ConfigError).data)
    for kind in kinds():
        assert streamcore("schema", kind).stdout == (tmp_path / ".streamcore" / file_name(kind)).read_text("utf-8")
    done = streamcore("schema", "promt")
    assert (done.returncode, done.stderr) == (2, "there is no schema 'promt'; give one of prompt, graph, recording\n")
