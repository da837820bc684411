"""Test loading and checking graph files: every mistake with its place and a suggestion, and what check finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamcore import GraphError, load_graph
from streamcore.graph.check import check_graph
from streamcore.graph.mermaid import mermaid
from tests.graphs import write_graph

ROOT = Path(__file__).resolve().parents[2]

ALL_KEYS = """
version: "1.0"
name: everything
description: Uses every key.
exports: {summary: {format: markdown, filename: x.md}}
prompts_relative: true
prompts_dir: prompts
defaults: {provider: demo, model: demo, temperature: 0.5, prompts_relative: true, prompts_dir: prompts}
state: {topic: str, items: "list[str]", done: bool, any: any}
checkpointer: {type: redis, url: "${REDIS_URL}", ttl: 60, prefix: "x:"}
tools:
  count: {type: python, module: my_tools, function: count, description: Counts.}
nodes:
  first:
    prompt: p
    description: The first.
    variables: {topic: "{state.topic}", number: 3, deep: {list: ["{topic}"]}}
    state_key: one
    requires: [topic]
    skip_if_exists: false
    temperature: 0
    provider: demo
    model: demo
    parse_json: true
    on_error: fallback
    max_retries: 3
    fallback: {provider: demo, model: other}
    stream: true
    stream_key: one_stream
    stream_options: {buffer_size: 10, emit_interval: 100, boundary: word, first: buffered, include_metadata: true}
    timeouts: {first_token: 10, stall: 5, silence: 20, total: null}
    on_interrupt: restart
    retries: 2
  route:
    type: router
    prompt: p
    routes: {yes: count, no: ask}
    default_route: each
    route_field: verdict
  count: {type: python, tool: count, state_key: number, on_error: retry, max_retries: 1, requires: [one]}
  set: {type: passthrough, output: {number: "{state.number + 1}", pair: ["{number}", x]}}
  each:
    type: map
    over: "{state.items}"
    as: item
    node: {type: llm, prompt: p, variables: {item: "{state.item}"}, state_key: said, on_error: skip}
    collect: all
    max_concurrency: 3
  ask: {type: interrupt, message: {text: "More about {state.topic}?", of: "{items}"}, state_key: q, resume_key: a}
  asked: {type: interrupt, prompt: p, provider: demo, temperature: 0.1}
edges:
  - {from: START, to: first}
  - {from: first, to: route}
  - {from: route, to: [count, ask, each], type: conditional}
  - {from: count, to: [set, asked]}
  - {from: set, to: count, condition: "number < 5 and not done"}
  - {from: set, to: END}
  - {from: each, to: END}
loop_limits: {count: 3, set: 2}
loop_exits: {count: each, set: END}
"""


def test_every_key_of_the_dialect(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(ALL_KEYS, "utf-8")
    graph = load_graph(path)
    assert graph.name == "everything"
    assert [node.type for node in graph.nodes.values()] == [
        "llm",
        "router",
        "python",
        "passthrough",
        "map",
        "interrupt",
        "interrupt",
    ]
    assert graph.reach["count"] == {"set", "asked", "count", "each"}
    assert "first" not in graph.reach["first"]


def test_a_graph_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = write_graph(tmp_path, "nodes: {a: {prompt: p}}\nedges: [{from: START, to: a}]\n")
    one = load_graph(path)
    assert load_graph(str(path)) is one
    path.write_text(path.read_text("utf-8") + "name: other\n", "utf-8")
    assert load_graph(path).name == "other"


START = "edges:\n  - {from: START, to: a}\n"
WRONG = [
    (
        "nodes:\n  a: {prompt: x, variables: {topic: {state.topic}}}\n" + START,
        "2: node 'a': variables.topic: {state.topic} without quotes is a mapping in YAML; write \"{state.topic}\"",
    ),
    (
        "nodes:\n  a: {type: passthrough, output: {x: [{state.turn + 1}]}}\n" + START,
        "2: node 'a': output.x: {state.turn + 1} without quotes is a mapping in YAML",
    ),
    (
        "nodes:\n  a: {type: interrupt, message: {state.question}}\n" + START,
        "2: node 'a': message: {state.question} without quotes is a mapping in YAML",
    ),
    (
        "nodes:\n  a: {type: map, over: state.words, node: {prompt: x}}\n" + START,
        "2: node 'a': over: expected an expression that gives a list, as in \"{state.words}\"",
    ),
    (
        "nodes:\n  a: {type: router, prompt: x, routes: {low: b}, default_route: low}\n  b: {prompt: x}\n" + START,
        "2: default_route names a node, not a route, and there is no node 'low'",
    ),
    ("nodes:\n  a: {promt: x}\n" + START, "2: node 'a': unknown key 'promt'; did you mean 'prompt'?"),
    ("nodes:\n  a: {prompt: x}\n" + START + "data_file: {x: y}\n", "5: unknown key 'data_file'; did you"),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "data_files: {x: ../y.yaml}\n",
        "5: data_files.x: expected a YAML file in the graph's folder",
    ),
    ("nodes:\n  a: {prompt: x}\n" + START + "data_files: {x: 'a/**/b.yaml'}\n", "5: data_files.x: expected a YAML"),
    (
        "nodes:\n  a: {prompt: x, verification: is good}\n" + START,
        "2: node 'a': verification: the key 'verification' is not supported: use 'guards'",
    ),
    (
        "nodes:\n  a: {prompt: x, output_model: my.Model}\n" + START,
        "2: node 'a': output_model: the key 'output_model' is not supported: give the prompt a 'schema'",
    ),
    (
        "nodes:\n  a: {prompt: x, provider: replicate}\n" + START,
        "2: node 'a': provider: the provider 'replicate' is not supported: use a provider that",
    ),
    (
        "defaults: {provider: runpod}\nnodes:\n  a: {prompt: x}\n" + START,
        "1: defaults.provider: the provider 'runpod' is not supported",
    ),
    (
        "observability: {}\nnodes:\n  a: {prompt: x}\n" + START,
        "1: observability: the key 'observability' is not supported: set an observer",
    ),
    (
        "nodes:\n  a: {prompt: x, thinking_budget: 100}\n" + START,
        "2: node 'a': thinking_budget: a budget is 1024 tokens or more, or 0 for none, not 100",
    ),
    (
        "nodes:\n  a: {prompt: x, guards: {pre: [{check: 'len(state.x) > 1'}]}}\n" + START,
        "2: node 'a': guards.pre.0.check: 'len(state.x) > 1' calls a function, which a check may not",
    ),
    (
        "nodes:\n  a: {prompt: x, guards: {post: [{check: 'output | upper'}]}}\n" + START,
        "2: node 'a': guards.post.0.check: 'output | upper' uses the filter 'upper'; a check may use length,",
    ),
    (
        "nodes:\n  a: {prompt: x, guards: {post: [{check: 'output <'}]}}\n" + START,
        "2: node 'a': guards.post.0.check: 'output <' is not a valid expression",
    ),
    (
        "nodes:\n  a: {prompt: x, guards: {pre: [{check: 'x', on_fail: retry}]}}\n" + START,
        "2: node 'a': guards.pre.0.on_fail: expected 'halt', 'skip' or 'warn', not 'retry'",
    ),
    (
        "nodes:\n  a: {type: passthrough, output: {}, guards: {}}\n" + START,
        "2: node 'a': unknown key 'guards'",
    ),
    (
        "nodes:\n  a: {type: interrupt, message: x, timeout: 3}\n" + START,
        "2: node 'a': timeout: an interrupt has no 'timeout'",
    ),
    (
        "verify: [{check: 'x(1)'}]\nnodes:\n  a: {prompt: x}\n" + START,
        "1: verify.0.check: 'x(1)' calls a function",
    ),
    (
        "nodes:\n  a: {type: xylophone, prompt: x}\n" + START,
        "2: node 'a': the type 'xylophone' is not supported; supported are",
    ),
    (
        "nodes:\n  a:\n    type: rooter\n    prompt: x\n" + START,
        "3: node 'a': the type 'rooter' is not supported; did you",
    ),
    (
        "nodes:\n  a: {type: tool_call, tool: x}\n" + START,
        "2: node 'a' calls the tool 'x', which is not under 'tools'",
    ),
    (
        "nodes:\n  a: {type: copilot, prompt: x}\n" + START,
        "2: node 'a': the type 'copilot' is not supported: it runs a coding agent",
    ),
    (
        "nodes:\n  a: {type: tool, tool: t}\n" + START + "tools: {t: {type: python, module: m, function: f}}\n",
        "2: node 'a' runs a shell tool, and 't' is a python tool; use a node of the type 'python' or 'tool_call'",
    ),
    (
        "nodes:\n  a: {type: python, tool: t}\n" + START + "tools: {t: {command: ls}}\n",
        "2: node 'a' calls a Python function, and 't' is a shell tool; use a node of the type 'tool' or 'tool_call'",
    ),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "tools:\n  t:\n    type: websearch\n",
        "7: tool 't': tools of the type 'websearch' are not supported: write a python tool",
    ),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "tools:\n  t: {manifest: t.yaml}\n",
        "6: tool 't': 'manifest' is not supported yet",
    ),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "tools:\n  t: {type: python, function: f}\n",
        "6: tool 't': a python tool needs either 'module' (a name to import) or 'path'",
    ),
    ("nodes:\n  a: {prompt: x, temperature: hot}\n" + START, "2: node 'a': temperature: expected a number, not 'hot'"),
    ("nodes:\n  a: {prompt: x, skip_if_exists: no}\n" + START, "2: node 'a': skip_if_exists: expected true or false"),
    (
        "nodes:\n  a: {prompt: x, on_error: explode}\n" + START,
        "2: node 'a': on_error: expected 'fail', 'skip', 'retry'",
    ),
    ("nodes:\n  a: {prompt: x, on_error: fallback}\n" + START, "2: node 'a': on_error: 'fallback' needs the key"),
    ("nodes:\n  a: {prompt: x, variables: {v: '{a b}'}}\n" + START, "2: node 'a': variables.v: 'a b' is not a valid"),
    (
        "nodes:\n  a: {prompt: x, stream_options: {buffer: 1}}\n" + START,
        "2: node 'a': unknown key 'stream_options.buffer'",
    ),
    ("nodes:\n  a: {prompt: x, timeouts: {stall: 0}}\n" + START, "2: node 'a': timeouts.stall: expected more than 0"),
    ("nodes:\n  a: {type: router, prompt: x}\n" + START, "2: node 'a': the key 'routes' is missing"),
    ("nodes:\n  a: {type: router, prompt: x, routes: {x: aa}}\n" + START, "2: node 'a' leads to 'aa', but there is no"),
    ("nodes:\n  a: {type: interrupt}\n" + START, "2: node 'a': an interrupt needs either 'message'"),
    ("nodes:\n  a: {type: interrupt, message: '{a b}'}\n" + START, "2: node 'a': message: 'a b' is not a valid"),
    ("nodes:\n  a: {type: python, tool: t}\n" + START, "2: node 'a' calls the tool 't', which is not under 'tools'"),
    (
        "nodes:\n  a: {type: map, over: '{x}', node: {type: interrupt, message: x}}\n" + START,
        "2: the node inside 'a': the type 'interrupt' is not supported",
    ),
    (
        "nodes:\n  a: {type: map, over: '{x}', node: {prompts: x}}\n" + START,
        "2: the node inside 'a': unknown key 'prompts'",
    ),
    (
        "nodes:\n  a: {type: map, over: '{x}', node: {type: python, tool: t}}\n" + START,
        "2: node 'a' calls the tool 't'",
    ),
    ("nodes:\n  a: {type: passthrough, output: {x: '{y +}'}}\n" + START, "2: node 'a': output.x: 'y +' is not a valid"),
    ("nodes:\n  a: x\n" + START, "2: nodes.a: expected a mapping"),
    (
        "nodes:\n  START: {prompt: x}\n  a: {prompt: x}\n" + START,
        "2: 'START' cannot be a node's name: it is where a graph begins or ends",
    ),
    ("nodes: {}\n" + START, "1: nodes: "),
    ("nodes:\n  a: {prompt: x}\nedges: []\n", "3: no edge from START, so nothing runs"),
    ("nodes:\n  a: {prompt: x}\n", "1: the key 'edges' is missing"),
    ("nodes:\n  a: {prompt: x}\n" + START + "  - {from: a, to: bb}\n", "5: an edge to 'bb', but there is no such node"),
    (
        "nodes:\n  abc: {prompt: x}\n" + START.replace("a}", "abd}"),
        "4: an edge to 'abd', but there is no such node; did you mean 'abc'?",
    ),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "  - {from: a, to: a, condition: 'x <'}\n",
        "5: edges.1.condition: 'x <' is not a valid",
    ),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "  - {from: a, to: [END], type: conditional}\n",
        "5: only edges from a router have the type conditional",
    ),
    ("nodes:\n  a: {prompt: x}\n" + START + "  - {from: a, too: END}\n", "5: unknown key 'edges.1.too'; did you mean"),
    ("nodes:\n  a: {prompt: x}\n" + START + "loop_limits: {b: 2}\n", "5: loop_limits: there is no node 'b'"),
    ("nodes:\n  a: {prompt: x}\n" + START + "loop_limits: {a: 0}\n", "5: loop_limits.a: expected at least 1, not 0"),
    ("nodes:\n  a: {prompt: x}\n" + START + "loop_exits: {a: b}\n", "5: loop_exits.a: there is no node 'b'"),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "tools:\n  t: {type: shell, command: \"ls '{x}'\"}\n",
        "6: tool 't': command: the placeholder {x} is inside quotes; take the quotes away",
    ),
    ("nodes:\n  a: {prompt: x}\n  a: {prompt: y}\n" + START, "3: the key 'a' occurs twice; the first one is in line 2"),
    ("nodes:\n  a: &x {prompt: x}\n  b: *x\n" + START, "3: YAML aliases (*x) are not supported"),
    (
        "nodes:\n  a: {prompt: x}\n" + START + "state: " + "[" * 70 + "]" * 70 + "\n",
        "5: nested more than 64 levels deep",
    ),
    ("nodes:\n\ta: {prompt: x}\n", "2:1: this is not valid YAML"),
]


@pytest.mark.parametrize(("text", "says"), WRONG, ids=[says for _, says in WRONG])
def test_problems_are_reported_with_their_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(GraphError) as caught:
        load_graph(path)
    assert f"{path}:{says}" in str(caught.value)
    assert check_graph(path) == str(caught.value).splitlines()


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(
        "nodez: {}\nnodes:\n  a: {promt: x}\n  b: {type: xylophone}\nedges:\n  - {from: a, to: b, when: x}\n", "utf-8"
    )
    with pytest.raises(GraphError) as caught:
        load_graph(path)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "3", "3", "4", "6"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="cannot be read: No such file"):
        load_graph(tmp_path / "g.yaml")


# What loads, and cannot be meant

SOUND = """
state: {topic: str, words: list}
nodes:
  a: {prompt: about, variables: {topic: "{state.topic}"}, state_key: text}
  b: {prompt: rate, state_key: rating}
  c: {type: map, over: "{state.words}", as: word, node: {prompt: word}}
edges:
  - {from: START, to: a}
  - {from: a, to: b}
  - {from: b, to: a, condition: rating.score < 0.5}
  - {from: b, to: c}
loop_limits: {a: 2}
"""
PROMPTS = {
    "about": "About {topic}",
    "rate": "Rate {text}",
    "word": "{word} {_map_index} {{ nothing }}".replace("{{ nothing }}", ""),
}


def checked(folder: Path, text: str, **prompts: str) -> list[str]:
    path = write_graph(folder, text, **{**PROMPTS, **prompts})
    return [line.removeprefix(f"{path}:") for line in check_graph(path)]


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert checked(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("prompt: about", "prompt: abuot", "6: node 'a': there is no prompt 'abuot'; did you mean 'about'?"),
        ("loop_limits: {a: 2}", "", "6: 'a', 'b' may loop without end; give one of them a limit in 'loop_limits'"),
        ("  - {from: b, to: c}\n", "", "8: node 'c' is never reached from START"),
        ("prompt: about,", "prompt: about2,", "6: node 'a': prompt 'about2' needs 'txt'"),
        (
            'topic: "{state.topic}"',
            'topic: "{state.topik}"',
            "6: node 'a': prompt 'about' gets 'topic', which reads 'topik', which is not under 'state'",
        ),
        (
            "{prompt: rate,",
            "{prompt: about2,",
            "7: node 'b': prompt 'about2' needs 'txt', which is neither in its variables",
        ),
        (
            "rating.score",
            "ratting.score",
            "12: a condition reads 'ratting', which is not under 'state' and no node sets; d",
        ),
        (
            "{state.words}",
            "{state.wrods}",
            "8: node 'c' reads 'wrods', which is not under 'state' and no node sets; did y",
        ),
        (
            "{prompt: rate,",
            "{prompt: rate, provider: opnai,",
            "7: node 'b': there is no provider 'opnai'; did you mean 'openai'",
        ),
        ("nodes:", "defaults: {provider: opnai}\nnodes:", "5: defaults: there is no provider 'opnai'"),
        ("as: word", "as: wort", "8: node 'c': prompt 'word' needs 'word', which is neither"),
        ("loop_limits:", "checkpointer: {type: sqlight}\nloop_limits:", "14: checkpointer: `type` must be one of"),
    ],
)
def test_problems_that_check_finds(tmp_path: Path, old: str, new: str, says: str) -> None:
    found = checked(tmp_path, SOUND.replace(old, new), about2="{txt}")
    assert any(line.startswith(says) for line in found), found


def test_check_names_the_line_in_a_broken_prompt(tmp_path: Path) -> None:
    checked(tmp_path, SOUND)
    (tmp_path / "prompts" / "rate.yaml").write_text("user: x\ntemprature: 1\n", "utf-8")
    assert check_graph(tmp_path / "graph.yaml") == [
        f"{tmp_path}/prompts/rate.yaml:2: unknown key 'temprature'; did you mean 'temperature'?"
    ]


def test_a_loop_with_an_interrupt_needs_no_limit(tmp_path: Path) -> None:
    text = """
        nodes: {a: {type: interrupt, message: x}, b: {prompt: about}}
        edges: [{from: START, to: a}, {from: a, to: b}, {from: b, to: a}]
    """
    assert checked(tmp_path, text) == []


def test_check_allows_for_keys_of_defaults_and_functions(tmp_path: Path) -> None:
    prompt = "{{ maybe | default('x') }} {% if other is defined %}{{ other }}{% endif %}"
    assert checked(tmp_path, SOUND, rate=f'\nuser: "{prompt}"\n') == []
    text = SOUND.replace(
        "nodes:", "tools: {t: {type: python, module: m, function: f}}\nnodes:\n  t: {type: python, tool: t}"
    )
    text = text.replace("- {from: START, to: a}", "- {from: START, to: t}\n  - {from: t, to: a}")
    assert checked(tmp_path, text, rate="Rate {anything}") == []


def test_the_diagram(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(ALL_KEYS, "utf-8")
    lines = [line.strip() for line in mermaid(load_graph(path)).splitlines()]
    assert lines[0] == "graph TD"
    assert 'n2{"route"}' in lines
    assert 'n2 -->|"yes"| n3' in lines
    assert "n2 -.-> n5" in lines
    assert 'n4 -->|"number &lt; 5 and not done"| n3' in lines
    assert 'n3 -.->|"after 3"| n5' in lines


# The command


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "streamcore.cli", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, cwd=ROOT)


def test_the_command_with_a_valid_graph() -> None:
    done = check(*sorted(ROOT.glob("graphs/*.yaml")), *sorted(ROOT.glob("prompts/**/*.yaml")))
    assert done.stderr == ""
    assert done.returncode == 0
    assert all(line.endswith(": fine") for line in done.stdout.splitlines())


WRONG_PROMPTS = {
    "user": ("provider: demo\nusr: Hello\n", "2: unknown key 'usr'; did you mean 'user'?"),
    "setting": (
        "provider: {name: mine, dialect: openai-chat, baseurl: x}\nuser: Hello\n",
        "1: provider: provider 'mine' has no setting 'baseurl'; did you mean 'base_url'?",
    ),
    "switch": (
        "provider: {name: mine, dialect: openai-chat, needs_key: no}\nuser: Hello\n",
        "1: provider: needs_key of provider 'mine' is true or false, not 'no'",
    ),
    "dialect": ("provider: {name: mine, dialect: openai}\nuser: Hello\n", "1: provider: there is no dialect 'openai'"),
    "fallback": ("user: Hello\nfallback: [demo, opnai/x]\n", "2: fallback.1: there is no provider 'opnai'"),
    "image": ("user: Hello\nimages: [photo.png]\n", "2: images.0: 'photo.png' is not a URL; for a file below"),
}


def test_the_command_with_invalid_prompts(tmp_path: Path) -> None:
    for name, (text, _) in WRONG_PROMPTS.items():
        (tmp_path / f"{name}.yaml").write_text(text, "utf-8")
    (tmp_path / "good.yaml").write_text("provider: {name: mine, dialect: openai-chat}\nuser: Hello\n", "utf-8")
    done = check(*(tmp_path / f"{name}.yaml" for name in [*WRONG_PROMPTS, "good"]))
    reported = done.stderr.splitlines()
    assert done.stdout == f"{tmp_path / 'good.yaml'}: fine\n"
    for line, (name, (_, says)) in zip(reported, WRONG_PROMPTS.items(), strict=False):
        assert line.removeprefix("PromptError: ").startswith(f"{tmp_path / name}.yaml:{says}"), line
    assert reported[len(WRONG_PROMPTS) :] == [f"{len(WRONG_PROMPTS)} problems found"]


def test_the_command_with_an_invalid_graph(tmp_path: Path) -> None:
    one = tmp_path / "one.yaml"
    one.write_text("nodes:\n  a: {promt: x}\n" + START, "utf-8")
    two = tmp_path / "two.yaml"
    two.write_text("usr: x\nuser: y\n", "utf-8")
    done = check(one, two, ROOT / "graphs" / "map.yaml", tmp_path / "none.yaml")
    assert done.returncode == 2
    assert done.stdout == f"{ROOT}/graphs/map.yaml: fine\n"
    assert done.stderr.splitlines() == [
        f"{one}:2: node 'a': the key 'prompt' is missing",
        f"{one}:2: node 'a': unknown key 'promt'; did you mean 'prompt'?",
        f"{two}:1: unknown key 'usr'; did you mean 'user'?",
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory",
        "4 problems found",
    ]


def test_the_command_draws() -> None:
    done = check("--mermaid", "graphs/recap.yaml")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "graph TD"
