"""Test the tools of prompt files: they run in every function for prompts, and their errors name file and line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamcore import (
    AgentLimitReached,
    PromptError,
    Tool,
    ToolCall,
    execute_prompt_async,
    execute_prompt_streaming,
    execute_prompts_concurrent,
    stream_agent,
    stream_prompt,
    sync,
)
from streamcore.cli.check import check
from streamcore.graph.check import check_graph
from streamcore.prompts.prompt_file import build_request, load_prompt
from streamcore.testing import ScriptedProvider
from streamcore.testing.simulator.answers import Answer, PlannedCall
from streamcore.tools import Deny

FUNCTIONS = '''
from streamcore.tools import ToolContext, tool

def weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: the city's name.
    """
    return f"sun in {city}"

@tool(needs_approval=True)
async def delete(path: str, context: ToolContext) -> str:
    """Delete a file."""
    return f"deleted {path} for {context.state}"

NOT_A_TOOL = 1
'''
PROMPT = """
user: What about {city}?
max_steps: 3
tools:
  - python: functions.py:weather
  - python: functions.py:delete
  - name: hand_over
    description: Hand over to a person.
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with a prompt and its functions."""
    (tmp_path / "prompts").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMCORE_PROMPTS_DIR", raising=False)
    write(PROMPT)
    (tmp_path / "prompts" / "functions.py").write_text(FUNCTIONS, "utf-8")
    return tmp_path


def write(text: str) -> None:
    Path("prompts/p.yaml").write_text(text, "utf-8")


def calls(name: str, **arguments: Any) -> Answer:
    return Answer.of("One moment. ", calls=[PlannedCall(name, arguments)])


def provider() -> ScriptedProvider:
    return ScriptedProvider(calls("weather", city="Bonn"), "It is sunny.")


def test_settings_of_the_file_override_the_function() -> None:
    write(
        "user: x\ntools:\n  - {python: 'functions.py:weather', name: forecast, description: Look ahead., timeout: 2, "
        "needs_approval: true, sequential: true, retries: 1, idempotent: true}\n  - python: functions.py:delete\n"
    )
    forecast, delete = build_request(load_prompt("p"), {}).tools
    assert (forecast.name, forecast.description, forecast.timeout) == ("forecast", "Look ahead.", 2)
    assert (forecast.needs_approval, forecast.sequential, forecast.retries, forecast.idempotent) == (
        True,
        True,
        1,
        True,
    )
    assert forecast.parameters["required"] == ["city"]
    assert forecast.parameters["properties"]["city"]["description"] == "the city's name."
    assert (delete.name, delete.description, delete.needs_approval) == ("delete", "Delete a file.", True)


def test_a_schema_stays_a_schema() -> None:
    prompt = load_prompt("p")
    assert prompt.tools.run
    assert build_request(prompt, {"city": "Bonn"}).tools[2] == Tool("hand_over", "Hand over to a person.")
    assert build_request(prompt, {"city": "Bonn"}).tools[2].run is None
    write("user: x\ntools: [{name: hand_over}]\n")
    assert not load_prompt("p").tools.run


def test_a_changed_function_is_loaded_again(folder: Path) -> None:
    file = folder / "prompts" / "functions.py"
    first = build_request(load_prompt("p"), {"city": "Bonn"}).tools[0]
    assert build_request(load_prompt("p"), {"city": "Bonn"}).tools[0] is first
    file.write_text(FUNCTIONS.replace("Tell the weather.", "Tell it."), "utf-8")
    os.utime(file, ns=(1, 1))
    assert build_request(load_prompt("p"), {"city": "Bonn"}).tools[0].description == "Tell it."


@pytest.mark.anyio
async def test_a_module_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "module_of_tools.py").write_text("class Weather:\n    def __call__(self): ...\ndef now(): ...\n", "utf-8")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    write("user: x\ntools: [{python: 'module_of_tools:now'}]\n")
    assert [tool.name for tool in load_prompt("p").tools.ready()] == ["now"]


WRONG = [
    ("- python: functions.py:nothing", "tools[0]: 'functions.py:nothing' cannot be loaded: the file /"),
    ("- python: functions.py:wether", "functions.py has no attribute 'wether'; did you mean 'weather'?"),
    ("- python: none.py:f", "tools[0]: 'none.py:f' cannot be loaded: there is no file"),
    ("- python: ../other.py:f", "cannot be loaded: '../other.py' is not in the folder"),
    ("- python: broken.py:f", "broken.py raised ZeroDivisionError: division by zero"),
    ("- python: no_such_module_of_tools:f", "cannot be loaded: No module named"),
    ("- python: functions.py:NOT_A_TOOL", "is no tool: an entry of tools is"),
    ("- {name: a, python: 'functions.py:weather', description: ''}\n  - name: a", "two tools have the name 'a'"),
]


@pytest.mark.parametrize(("entry", "says"), WRONG)
@pytest.mark.anyio
async def test_an_error_names_file_and_line(folder: Path, entry: str, says: str) -> None:
    (folder / "prompts" / "broken.py").write_text("1 / 0\n", "utf-8")
    (folder / "other.py").write_text("def f(): ...\n", "utf-8")
    write(f"user: x\ntools:\n  {entry}\n")
    with pytest.raises(PromptError) as caught:
        await stream_prompt("p", provider="demo").collect()
    line = 4 if "\n" in entry else 3
    assert str(caught.value).startswith(f"prompts/p.yaml:{line}: prompt 'p', tools[")
    assert says in str(caught.value)


def test_a_reference_of_another_form_is_an_error_of_the_file() -> None:
    write("user: x\ntools:\n  - python: functions.py\n")
    with pytest.raises(PromptError, match=r"p\.yaml:3: tools\.0\.python: expected 'module:function' or"):
        load_prompt("p")


def test_check_imports_the_functions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check([Path("prompts/p.yaml")])
    (folder / "prompts" / "functions.py").write_text("1 / 0\n", "utf-8")
    (folder / "g.yaml").write_text(
        "nodes: {a: {prompt: p, variables: {city: '{state.city}'}}}\nstate: {city: str}\n"
        "edges: [{from: START, to: a}, {from: a, to: END}]\n",
        "utf-8",
    )
    with pytest.raises(Exception, match="2"):
        check([Path("prompts/p.yaml")])
    assert "prompts/p.yaml:5: prompt 'p', tools[0]: 'functions.py:weather' cannot be loaded" in capsys.readouterr().err
    assert any("functions.py:weather" in problem for problem in check_graph("g.yaml"))


# Every function that takes prompts.


def agree(call: ToolCall) -> bool:
    return call.name == "delete"


def deny(call: ToolCall) -> Deny:
    return Deny("no")


@pytest.mark.anyio
async def test_stream_prompt_runs_an_agent() -> None:
    stream = stream_prompt("p", {"city": "Bonn"}, provider=provider())
    chunks = [chunk async for chunk in stream]
    answer = stream.partial
    assert [chunk.data for chunk in chunks if chunk.kind == "step"] == [{"step": 1}, {"step": 2}]
    assert [chunk.tool_result.content for chunk in chunks if chunk.tool_result] == ["sun in Bonn"]
    assert (answer.text, len(answer.steps)) == ("It is sunny.", 2)


@pytest.mark.anyio
async def test_execute_prompt_streaming_yields_the_text_of_all_steps() -> None:
    texts = [text async for text in execute_prompt_streaming("p", {"city": "Bonn"}, provider=provider())]
    assert "".join(texts) == "One moment. It is sunny."


@pytest.mark.anyio
async def test_execute_prompt_async_returns_the_text_of_all_steps() -> None:
    assert await execute_prompt_async("p", {"city": "Bonn"}, provider=provider()) == "One moment. It is sunny."


@pytest.mark.anyio
async def test_execute_prompt_async_validates_the_last_answer() -> None:
    scripted = ScriptedProvider(calls("weather", city="Bonn"), '{"sun": true}')
    assert await execute_prompt_async("p", {"city": "Bonn"}, dict[str, bool], provider=scripted) == {"sun": True}


@pytest.mark.anyio
async def test_execute_prompts_concurrent() -> None:
    prompt: dict[str, Any] = {"prompt_name": "p", "variables": {"city": "Bonn"}}
    answers = await execute_prompts_concurrent([{**prompt, "provider": provider()} for _ in range(3)])
    assert answers == ["One moment. It is sunny."] * 3


def test_sync() -> None:
    given = {"city": "Bonn"}
    assert "".join(sync.execute_prompt_streaming("p", given, provider=provider())) == "One moment. It is sunny."
    assert sync.execute_prompt_async("p", given, provider=provider()) == "One moment. It is sunny."
    with sync.stream_prompt("p", given, provider=provider()) as stream:
        assert "".join(stream.text()) == "One moment. It is sunny."
        assert [message.role for message in stream.messages] == ["user", "assistant", "tool", "assistant"]
    with sync.stream_agent("p", given, provider=provider(), max_steps=2) as stream:
        assert len(stream.collect().steps) == 2


@pytest.mark.anyio
async def test_approve_is_an_argument_of_every_function() -> None:
    for approve, result in ((agree, "deleted a for {'u': 1}"), (deny, "This call was denied: no")):
        scripted = ScriptedProvider(calls("delete", path="a"), "Done.")
        stream = stream_prompt("p", {"city": "x"}, provider=scripted, approve=approve, state={"u": 1})
        assert (await stream.collect()).steps[0].tool_results[0].content == result
    scripted = ScriptedProvider(calls("delete", path="a"), "Done.")
    text = await execute_prompt_async("p", {"city": "x"}, provider=scripted, approve=agree)
    assert text == "One moment. Done."


@pytest.mark.anyio
async def test_without_approval_the_stream_ends_with_the_calls_that_wait() -> None:
    scripted = ScriptedProvider(calls("delete", path="a"), "Done.")
    stream = stream_prompt("p", {"city": "x"}, provider=scripted)
    answer = await stream.collect()
    assert [call.name for call in answer.pending] == ["delete"]
    again = stream_agent("p", {"city": "x"}, provider=scripted, messages=stream.messages, resume=True)
    assert (await again.collect()).text == "Done."


@pytest.mark.anyio
async def test_a_call_of_a_schema_returns_to_the_caller() -> None:
    answer = await stream_prompt("p", {"city": "x"}, provider=ScriptedProvider(calls("hand_over"))).collect()
    assert [call.name for call in answer.tool_calls] == ["hand_over"]
    assert not answer.pending


@pytest.mark.parametrize("limited", [stream_prompt, stream_agent])
@pytest.mark.anyio
async def test_the_limits_of_the_file(limited: Callable[..., Any]) -> None:
    scripted = ScriptedProvider(calls("weather", city="Bonn"))
    with pytest.raises(AgentLimitReached) as caught:
        await limited("p", {"city": "x"}, provider=scripted).collect()
    assert (caught.value.limit, len(scripted.requests)) == ("max_steps", 3)


@pytest.mark.anyio
async def test_an_argument_overrides_the_limit_of_the_file() -> None:
    scripted = ScriptedProvider(calls("weather", city="Bonn"))
    with pytest.raises(AgentLimitReached):
        await stream_agent("p", {"city": "x"}, provider=scripted, max_steps=1).collect()
    assert len(scripted.requests) == 1


# MCP servers.

SERVER = """
user: x
tools:
  - mcp:
      command: ["${PYTHON_OF_TEST}", "${SERVER_OF_TEST}", stdio]
      include: [add, variables]
      env: {SECRET_OF_TEST: "${VALUE_OF_TEST}"}
      needs_approval: [add]
"""


@pytest.mark.anyio
async def test_an_mcp_server(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mcp")
    for name, value in {
        "PYTHON_OF_TEST": sys.executable,
        "SERVER_OF_TEST": str(Path(__file__).parents[1] / "mcp_server.py"),
        "VALUE_OF_TEST": "hidden",
    }.items():
        monkeypatch.setenv(name, value)
    write(SERVER)
    (server,) = load_prompt("p").tools.servers()
    assert load_prompt("p").tools.servers() == (server,)
    scripted = ScriptedProvider(Answer(calls=[PlannedCall("add", {"a": 1, "b": 2})]), "Three.")
    first = stream_prompt("p", provider=scripted)
    assert [call.name for call in (await first.collect()).pending] == ["add"]
    assert sorted(tool.name for tool in scripted.requests[0].tools) == ["add", "variables"]
    second = stream_agent("p", provider=scripted, messages=first.messages, resume=True)
    assert (await second.collect()).text == "Three."
    assert scripted.requests[1].messages[-1].text == "3"


@pytest.mark.anyio
async def test_a_missing_variable_of_an_mcp_server_names_file_and_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VALUE_OF_TEST", raising=False)
    write(SERVER + "max_steps: 2\n")  # a server is described once for each version of a file
    load_prompt("p").tools.ready()
    with pytest.raises(PromptError) as caught:
        await stream_prompt("p", provider="demo").collect()
    assert str(caught.value).startswith(
        "prompts/p.yaml:4: prompt 'p', tools[0]: `env.SECRET_OF_TEST` names ${VALUE_OF_TEST}"
    )
