"""Test prompt files: where they are looked for, what they may contain, the errors of wrong ones, and the docs."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamcore import ConfigError, Message, PromptError, PromptNotFound, Request, Tool, get_provider
from streamcore.files.yaml_file import read_yaml
from streamcore.pipeline.adapt import adapted
from streamcore.prompts import prompt_file as prompts
from streamcore.prompts.prompt_file import build_request, find_prompt, load_prompt
from streamcore.provider import ResolvedModel
from tests.snippets import blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "prompt-yaml.md"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder with an empty `prompts`."""
    (tmp_path / "prompts").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMCORE_PROMPTS_DIR", raising=False)
    return tmp_path


def write(path: str, text: str = "user: x") -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def load(text: str) -> prompts.Prompt:
    write("prompts/p.yaml", text)
    return load_prompt("p")


def texts(text: str, variables: Mapping[str, Any] | None = None, state: Mapping[str, Any] | None = None) -> list[str]:
    return [message.text for message in load(text).render(variables or {}, state or {})]


# Where a prompt is looked for.

PLACES = [
    "graphs/g/mine/a/b.yaml",
    "mine/a/b.yaml",
    "graphs/g/a/b.yaml",
    "graphs/g/prompts/a/b.yaml",
    "elsewhere/a/b.yaml",
    "a/prompts/b.yaml",
]


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_order_of_places(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", "elsewhere")
    for place in PLACES[first:]:
        write(place)
    write("prompts/a/b.yaml")  # not looked for, since the environment names another folder
    assert find_prompt("a/b", prompts_dir="mine", graph_path="graphs/g/graph.yaml") == Path(PLACES[first])


def test_a_miss_lists_every_path_tried() -> None:
    with pytest.raises(PromptNotFound) as caught:
        find_prompt("a/b", prompts_dir="mine", graph_path="graphs/g/graph.yaml")
    assert str(caught.value) == (
        "there is no prompt 'a/b'; tried: graphs/g/mine/a/b.yaml, mine/a/b.yaml, graphs/g/a/b.yaml, "
        "graphs/g/prompts/a/b.yaml, prompts/a/b.yaml, a/prompts/b.yaml"
    )


@pytest.mark.parametrize(
    ("arguments", "tried"),
    [
        ({}, "prompts/b.yaml"),
        ({"prompts_dir": "mine"}, "mine/b.yaml, prompts/b.yaml"),
        ({"prompts_dir": "prompts"}, "prompts/b.yaml"),
        ({"graph_path": "g/graph.yaml"}, "g/b.yaml, g/prompts/b.yaml, prompts/b.yaml"),
        ({"graph_path": "graph.yaml"}, "b.yaml, prompts/b.yaml"),
    ],
)
def test_a_miss_with_fewer_places(arguments: dict[str, Any], tried: str) -> None:
    with pytest.raises(PromptNotFound) as caught:
        find_prompt("b", **arguments)
    assert str(caught.value).endswith(f"tried: {tried}")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gret", "; did you mean 'greet'? tried: prompts/gret.yaml"),
        ("Greet", "; did you mean 'greet'?"),
        ("summary", "; did you mean 'recap/summary'?"),
        ("recap/sumary", "; did you mean 'recap/summary'?"),
        ("greet.yaml", "; leave out the ending, '.yaml' is added; tried:"),
        ("nothing/like/it", "; tried:"),
    ],
)
def test_a_miss_suggests(name: str, hint: str) -> None:
    write("prompts/greet.yaml")
    write("prompts/recap/summary.yaml")
    with pytest.raises(PromptNotFound) as caught:
        find_prompt(name)
    assert str(caught.value).startswith(f"there is no prompt {name!r}{hint}")


BAD_NAMES = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../secret",
    "a/../../secret",
    "a/..",
    "./a",
    "a//b",
    "a/",
    "\\a",
    "..\\a",
    "a\0",
]


def test_a_path_is_no_name(folder: Path) -> None:
    path: Any = folder / "prompts" / "greet.yaml"
    with pytest.raises(PromptNotFound, match=r"a prompt's name is a text, as 'greet' for greet\.yaml, not PosixPath"):
        load_prompt(path)


def never(*_: object) -> None:
    pytest.fail("a file was opened or looked at")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names_are_refused_and_nothing_is_read(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("secret.yaml")
    write("prompts/a/x.yaml")
    monkeypatch.setattr(Path, "is_file", never)
    for arguments in ({}, {"prompts_dir": "prompts"}, {"graph_path": folder / "graph.yaml"}):
        with pytest.raises(PromptNotFound, match="is not a prompt's name"):
            load_prompt(name, **arguments)


@pytest.fixture
def links(folder: Path) -> None:
    """Make links of a file and of folders that lead out of the prompt folder, and some that don't."""
    write("outside/secret.yaml", "user: secret")
    write("outside/prompts/secret.yaml", "user: secret")
    write("outside.yaml", "user: secret")
    write("project/prompts/inside.yaml")
    os.chdir("project")
    Path("prompts/file.yaml").symlink_to(folder / "outside.yaml")
    Path("prompts/up.yaml").symlink_to("../graph.yaml")
    Path("prompts/folder").symlink_to(folder / "outside")
    Path("linked").symlink_to(folder / "outside")
    Path("prompts/loop").symlink_to("loop")
    Path("loop").symlink_to("loop")
    Path("graph.yaml").write_text("user: secret")
    Path("prompts/alias.yaml").symlink_to("inside.yaml")
    (folder / "way").symlink_to("project/prompts")


@pytest.mark.parametrize("name", ["file", "up", "folder/secret", "linked/secret", "loop/x", "loop"])
@pytest.mark.parametrize("arguments", [{}, {"prompts_dir": "prompts"}])
def test_links_that_lead_out_are_not_followed(
    name: str, arguments: dict[str, Any], links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "read_yaml", never)
    with pytest.raises(PromptNotFound, match="there is no prompt") as caught:
        load_prompt(name, **arguments)
    if name in ("file", "up", "folder/secret"):
        assert "(a link that leads out of prompts)" in str(caught.value)


def test_links_that_stay_inside_are_followed(links: None, folder: Path) -> None:
    assert find_prompt("alias") == Path("prompts/alias.yaml")
    assert find_prompt("inside", prompts_dir=folder / "way") == folder / "way" / "inside.yaml"


def test_a_name_too_long_for_the_file_system() -> None:
    with pytest.raises(PromptNotFound, match="too long"):
        find_prompt("x" * 300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("ab./\\\0~:* é\ud800"), max_size=12))
def test_no_name_leaves_the_folder(name: str) -> None:
    write("a/a.yaml")
    write("prompts/a.yaml")
    write("prompts/b/a.yaml")
    try:
        found = find_prompt(name)
    except PromptNotFound:
        return
    assert Path("prompts").resolve() in found.resolve().parents or found == Path("a/prompts/a.yaml")


def test_metadata_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("metadata: {provider: other, temperature: 0.3}\nuser: Hi\n", "utf-8")
    found = load_prompt("p", prompts_dir=tmp_path)
    assert (found.file.provider, found.file.temperature) == (None, None)


def test_a_changed_file_is_read_again() -> None:
    assert texts("user: one") == ["one"]
    assert texts("user: two") == ["two"]  # of the same size, within the same tick of the clock


def test_an_unchanged_file_is_parsed_once() -> None:
    assert load("user: same") is load("user: same")


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shift the clock by a minute, so that a changed file has another time."""
    now = time.time_ns
    monkeypatch.setattr("streamcore.files.yaml_file.time", SimpleNamespace(time_ns=lambda: now() + 60_000_000_000))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened."""
    opened: list[Path] = []

    def read(path: Path, *arguments: Any) -> bytes:
        opened.append(path)
        return read_yaml(path, *arguments)

    monkeypatch.setattr(prompts, "read_yaml", read)
    return opened


def test_an_unchanged_file_is_not_even_opened(later: None, reads: list[Path]) -> None:
    first = load("user: same")
    assert load_prompt("p") is first
    assert load_prompt("p", prompts_dir="prompts") is first  # other places are looked at by themselves
    assert load_prompt("p", prompts_dir="prompts") is first
    assert len(reads) == 2


def test_a_file_newer_than_the_clocks_resolution_is_read_each_time(reads: list[Path]) -> None:
    assert load("user: same") is load_prompt("p")
    assert len(reads) == 2


@pytest.mark.parametrize("way", ["write", "replace", "link"])
def test_a_file_that_changed_with_equal_time_and_size_is_read_again(way: str, later: None) -> None:
    file = write("prompts/p.yaml", "user: one")
    if way == "link":  # as Kubernetes mounts what may change: the name's own entry stays as it is
        file.rename("prompts/first.yaml")
        write("prompts/second.yaml", "user: two")
        Path("prompts/now").symlink_to("first.yaml")
        file.symlink_to("now")
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    assert load_prompt("p").file.user == "one"
    if way == "write":
        file.write_text("user: two")
    elif way == "replace":
        write("new", "user: two").replace(file)
    else:
        Path("prompts/now").unlink()
        Path("prompts/now").symlink_to("second.yaml")
    os.utime(file, ns=times)
    assert load_prompt("p").file.user == "two"


def test_a_found_path_is_cached_until_a_link_changes(
    later: None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in reversed(range(len(PLACES))):
        write(PLACES[number], f"user: at {number}")
        monkeypatch.setenv("STREAMCORE_PROMPTS_DIR", "elsewhere")
        for _ in range(2):
            found = load_prompt("a/b", prompts_dir="mine", graph_path="graphs/g/graph.yaml")
            assert found.file.user == f"at {number}"
    for number, place in enumerate(PLACES):
        found = load_prompt("a/b", prompts_dir="mine", graph_path="graphs/g/graph.yaml")
        assert found.file.user == f"at {number}"
        Path(place).unlink()
    with pytest.raises(PromptNotFound):
        load_prompt("a/b", prompts_dir="mine", graph_path="graphs/g/graph.yaml")
    write("prompts/p.yaml", "user: here")
    write("elsewhere/p.yaml", "user: elsewhere")
    assert load_prompt("p").file.user == "elsewhere"
    monkeypatch.delenv("STREAMCORE_PROMPTS_DIR")
    assert load_prompt("p").file.user == "here"
    write("other/prompts/p.yaml", "user: there")
    monkeypatch.chdir("other")
    assert load_prompt("p").file.user == "there"


def test_a_file_that_later_links_outside_the_folder_is_not_read(later: None, folder: Path) -> None:
    secret = folder.parent / f"{folder.name}-secret.yaml"
    secret.write_text("user: secret")
    file = write("prompts/p.yaml", "user: plain")
    assert load_prompt("p").file.user == "plain"
    file.unlink()
    file.symlink_to(secret)
    with pytest.raises(PromptNotFound, match="a link that leads out"):
        load_prompt("p")


# What a file may contain.


def test_every_key() -> None:
    request = build_request(
        load(
            """
            version: "1.0"
            name: n
            description: d
            system: "You are {role}."
            user: Hi
            provider: mistral
            model: m
            temperature: 0
            max_tokens: 5
            stop: [A, B]
            reasoning: low
            tools:
              - {name: f, description: F, parameters: {type: object}}
              - {name: g}
            output_schema: {type: object}
            """
        ),
        {"role": "brief"},
    )
    assert request == Request(
        [Message("system", "You are brief."), Message("user", "Hi")],
        model="m",
        temperature=0,
        max_tokens=5,
        stop=("A", "B"),
        tools=(Tool("f", "F", {"type": "object"}), Tool("g", "", {"type": "object", "properties": {}})),
        output_schema={"type": "object"},
        reasoning="low",
    )
    assert load_prompt("p").file.provider == "mistral"


def test_the_least() -> None:
    prompt = load("template: Hi {name}")
    request = build_request(prompt, {"name": "Ada"}, resolved=ResolvedModel("demo", "m", 0.1))
    assert list(request.messages) == [Message("user", "Hi Ada")]
    assert (request.model, request.temperature, request.stop, request.output_schema) == ("m", 0.1, (), None)
    resolved = ResolvedModel("demo", None, 0.0)
    assert build_request(load("user: x\nstop: END\ntemperature: 0.5"), None, resolved=resolved).temperature == 0
    assert build_request(load("user: x\nstop: END"), None).stop == ("END",)


@pytest.mark.parametrize(("text", "default"), [("user: x", 0.7), ("user: x\nreasoning: high", None)])
def test_temperature_that_is_not_set(text: str, default: float | None) -> None:
    request = build_request(load(text), None)
    assert request.temperature is None
    assert adapted(get_provider("demo"), request, None)[0].temperature == default


def test_each_message_is_judged_for_itself() -> None:
    text = "system: '{name} {{ name }}'\nuser: '{name} {other} {list}'"
    assert texts(text, {"name": "Ada", "other": "{{ name }}", "list": ["a", "b"]}) == [
        "{name} Ada",
        "Ada {{ name }} a, b",
    ]


def test_a_prompt_of_the_dialect() -> None:
    """Read a prompt like those of yamlgraph's demos: comments, schema first, blocks with quotes and lists."""
    prompt = load(
        '# Tone\nschema:\n  name: Tone\n  fields:\n    tone:\n      type: str\n      description: "a: b, or c"\n'
        "    confidence:\n      type: float\n      constraints:\n        ge: 0.0\n        le: 1.0\n\n"
        'system: |\n  Say one of:\n  - good: happy\n  \n  - bad\n\nuser: |\n  Message:\n  \n  "{message}"\n'
    )
    request = build_request(prompt, {"message": "{x}"})
    assert [message.text for message in request.messages] == [
        "Say one of:\n- good: happy\n\n- bad\n",
        'Message:\n\n"{x}"\n',
    ]
    assert request.output_schema == {
        "title": "Tone",
        "type": "object",
        "properties": {
            "tone": {"type": "string", "description": "a: b, or c"},
            "confidence": {"type": "number", "minimum": 0.0, "maximum": 1.0},
        },
        "required": ["tone", "confidence"],
        "additionalProperties": False,
    }


# The errors of a wrong file.

FIELD = "user: x\nschema:\n  name: A\n  fields:\n    a:\n      "


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("user: x\ntemperatur: 1", "2: unknown key 'temperatur'; did you mean 'temperature'?"),
        ("prompt: x", "1: unknown key 'prompt'; known are version, name, description, system, user, template,"),
        ("user: x\nschema_: 1", "2: unknown key 'schema_'; did you mean 'schema'?"),
        ("user: x\ntemperature: hot", "2: temperature: expected a number, not 'hot'"),
        ("user: x\ntemperature: -1", "2: temperature: expected at least 0, not -1"),
        ("user: x\nmax_tokens: 0", "2: max_tokens: expected at least 1, not 0"),
        ("user: x\nstop: 5", "2: stop: expected text or a list, not 5"),
        (
            "user: x\nreasoning: hard",
            "2: reasoning: expected 'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        ("system: s", "1: a prompt needs 'user' (or 'template')"),
        ("system: s\nuser:", "2: user: expected the text of the user's message, but there is nothing"),
        ("user: a\ntemplate: b", "2: template: a prompt has either 'user' or 'template'"),
        (
            "user: a\nschema: {name: A, fields: {}}\noutput_schema: {}",
            "3: output_schema: a prompt has either 'schema' or",
        ),
        ("user: x\ntools:\n  - description: y", "3: tools.0: the key 'name' is missing"),
        ("user: x\ntimeouts: {stal: 3}", "2: unknown key 'timeouts.stal'; did you mean 'stall'?"),
        ("user: x\ntimeouts: {stall: 0}", "2: timeouts.stall: expected more than 0, not 0"),
        ("user: x\nstream_options: {buffer_size: -1}", "2: stream_options.buffer_size: expected at least 0, not -1"),
        ("user: x\nstream_options: {boundary: page}", "2: stream_options.boundary: expected 'none', 'word' or 'line'"),
        ("user: x\nfallback: [{model: m}]", "2: the key 'fallback.0.provider' is missing"),
        ("- user", "1: expected a mapping (key: value), not a list"),
        ("", "1: expected a mapping (key: value), but there is nothing"),
        ("user: x\nsystem: [unclosed", "2:9: this is not valid YAML: "),
        ("user: {name}", "1: user: expected text, not a mapping; a text that begins with a bracket must be in quotes"),
        (FIELD + "type: strng", "6: schema.fields.a.type: unknown type 'strng'; did you mean 'str'?"),
        (FIELD + "typ: str", "6: unknown key 'schema.fields.a.typ'; did you mean 'type'?"),
        (FIELD + "type: int\n      constraints:\n        lle: 1", "8: unknown key 'schema.fields.a.constraints.lle'"),
        (
            FIELD + "type: str\n      constraints:\n        ge: 1",
            "8: schema.fields.a.constraints.ge: this does not apply",
        ),
        (FIELD + "type: int\n      default: x", "7: schema.fields.a.default: 'x' is not of the type int"),
        ("user: x\nschema: {fields: {a: {type: str}}}", "2: the key 'schema.name' is missing"),
        ("user: |\n  a\n  {% if %}", "3: prompt 'p', user: this is not valid Jinja2: "),
        (
            "user: a\nsystem: '{{ x | uper }}'",
            "2: prompt 'p', system: this is not valid Jinja2: No filter named 'uper'",
        ),
    ],
)
def test_a_wrong_file(text: str, reported: str) -> None:
    with pytest.raises(PromptError) as caught:
        load(text)
    assert any(line.startswith(f"prompts/p.yaml:{reported}") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("user: '{nme}'\n", 1),
        ("system: s\nuser: |\n  one\n\n  {nme}\n", 5),
        ("user: |-\n  one\n  two {nme}\n", 3),
        ("user: >\n  one\n  two\n  {nme}\n", 4),
        ("user: >-\n\n  one\n\n  {nme}\n", 5),
        ("user: 'it''s\n  two\n  {nme}'\n", 3),
        ("user: one\n  {nme}\n", 2),
        ("template: |\n  one\n  {nme}\n", 3),
        ("user: x\nsystem: |\n  one\n  {nme}\n", 4),
        ("user: |\n  {% if true %}\n  one\n  {{ nme }}\n  {% endif %}\n", 4),
        ("user: >\n  {% if true %}\n  one\n  {{ nme }}\n  {% endif %}\n", 4),
        ("user: |\n  {{ name }}\n  {{ user.nme }}\n", 3),
        ("user: |\n  {{ name }}\n  {{ 1 / 0 }}\n", 3),
    ],
)
def test_the_line_of_a_missing_variable(text: str, line: int) -> None:
    key = "system" if "system: |" in text else "template" if "template" in text else "user"
    with pytest.raises(PromptError) as caught:
        texts(text, {"name": "Ada", "user": {"name": "Bob"}})
    assert str(caught.value).startswith(f"prompts/p.yaml:{line}: prompt 'p', {key}: ")


def test_a_missing_variable_names_it_the_prompt_and_the_file() -> None:
    write("prompts/recap/p.yaml", "user: |\n  Hello,\n  {nmae}!\n")
    with pytest.raises(PromptError) as caught:
        build_request(load_prompt("recap/p"), {"name": "sk-secret"}, state={"turn": 1})
    assert str(caught.value) == (
        "prompts/recap/p.yaml:3: prompt 'recap/p', user: the variable 'nmae' is missing; did you mean 'name'? "
        "given were 'name', 'turn'"
    )
    assert isinstance(caught.value, ConfigError)


# The project's own prompts.


def test_greet() -> None:
    prompt = load_prompt("greet", prompts_dir=ROOT / "prompts")
    assert "Greet Ada in a friendly style" in prompt.render({"name": "Ada"}, {})[-1].text
    assert "Greet Ada in a formal style" in prompt.render({"name": "Ada", "style": "formal"}, {})[-1].text
    with pytest.raises(PromptError, match="'name' is missing"):
        prompt.render({}, {})


def test_chat() -> None:
    prompt = load_prompt("chat", prompts_dir=ROOT / "prompts")
    assert prompt.render({"query": "What is {this} {{ here }}?"}, {})[-1].text == "What is {this} {{ here }}?"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (
            {"name": "Ada", "likes": ["tea", 3], "items": {"a": 1}},
            ["- name: Ada", "- likes: tea, 3", "- items: {'a': 1}"],
        ),
        ("Ada likes tea.", ["Ada likes tea."]),
        (["Ada", "tea"], ["['Ada', 'tea']"]),
        ({}, []),
    ],
)
def test_generate_summary(data: object, lines: list[str]) -> None:
    prompt = load_prompt("recap/generate_summary", prompts_dir=ROOT / "prompts")
    for variables, state in (({"extracted_data": data}, {}), ({}, {"extracted_data": data})):
        text = prompt.render(variables, state)[-1].text
        assert text.split(":\n", 1)[1].strip().splitlines() == lines


def test_the_projects_prompts_work_with_every_provider() -> None:
    files = sorted((ROOT / "prompts").rglob("*.yaml"))
    assert len(files) >= 3
    for file in files:
        assert file.read_text("utf-8").startswith("# Shows "), file
        prompt = load_prompt(
            file.relative_to(ROOT / "prompts").with_suffix("").as_posix(), prompts_dir=ROOT / "prompts"
        )
        assert (prompt.file.provider, prompt.file.model) == (None, None)


# The page about prompt files.


def test_the_pages_examples() -> None:
    text = PAGE.read_text("utf-8")
    given = json.loads(next(blocks(PAGE, "json")))
    write("prompts/weather.py", next(blocks(PAGE, "python")))
    examples = re.findall(r"^```yaml\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == len(list(blocks(PAGE, "yaml"))) >= 7
    assert sum(bool(result) for _, result in examples) == len(list(blocks(PAGE, "text"))) >= 4
    for code, result in examples:
        request = build_request(load(code), given)
        if result:
            assert "".join(f"{one.role}: {one.text.rstrip()}\n" for one in request.messages) == result


def test_the_pages_refusals() -> None:
    given = json.loads(next(blocks(PAGE, "json")))
    refused = re.findall(r"^\| `(\{[{%].*?)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(refused) >= 8
    for template in refused:
        with pytest.raises(PromptError, match=r"^prompts/p\.yaml:2: prompt 'p', user: "):
            texts(f"user: |\n  {template}\n", given)


def test_the_page_has_every_key_and_constraint() -> None:
    from streamcore.prompts.schema import Constraints

    text = PAGE.read_text("utf-8")
    for name, field in (prompts.PromptFile.model_fields | Constraints.model_fields).items():
        assert f"`{field.alias or name}`" in text, name


PLAIN = [
    {"user": "Say hello to {name}."},
    {"template": "", "system": "S", "name": "n", "description": "d", "provider": "demo", "model": "m"},
    {"user": "\u00e4 \U0001f600", "version": 1.0, "metadata": {"a": [1, None]}},
]
NOT_PLAIN: list[Any] = [
    None,
    "user",
    {},
    {"user": "x", "template": "y"},
    {"user": None},
    {"user": 1},
    {"user": "\ud800"},
    {"user": "x", "provider": {"name": "demo"}},
    {"user": "x", "temperature": 1.0},
    {"user": "x", "unknown": "y"},
    {"user": "x", 1: "y"},
]


@pytest.mark.parametrize("data", PLAIN)
def test_a_file_of_texts_is_what_validation_makes_of_it(data: dict[str, Any]) -> None:
    plain, validated = prompts.plain_file(data), prompts.PromptFile.model_validate(data)
    assert plain == validated
    assert plain is not None
    assert plain.model_fields_set == validated.model_fields_set
    assert plain.model_dump() == validated.model_dump()


@pytest.mark.parametrize("data", NOT_PLAIN)
def test_any_other_file_is_validated(data: Any) -> None:
    assert prompts.plain_file(data) is None
