"""Test shell tools with real processes: output, exit codes, timeouts, cancellation, and that nothing is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore.graph.tool_schema import ShellToolBlock
from streamcore.graph.tools import process
from streamcore.graph.tools.protocol import ToolFailed, result_text
from streamcore.graph.tools.shell import ShellTool
from tests.support import eventually

pytestmark = pytest.mark.anyio


def tool(command: str, **keys: Any) -> ShellTool:
    return ShellTool("t", ShellToolBlock(command=command, **keys))


async def test_the_arguments_are_required_strings() -> None:
    found = tool("grep {pattern} {file}", description="Searches.")
    assert (found.name, found.description) == ("t", "Searches.")
    assert found.parameters == {
        "type": "object",
        "properties": {"pattern": {"type": "string"}, "file": {"type": "string"}},
        "required": ["pattern", "file"],
    }


@pytest.mark.parametrize("more", ["", " | cat"])
@pytest.mark.parametrize(
    ("value", "text"),
    [("a b", "a b"), (None, ""), (3, "3"), (["é", 1], '["é", 1]'), ({"a": None}, '{"a": null}'), ("$(ls)", "$(ls)")],
)
async def test_values_become_text(more: str, value: Any, text: str) -> None:
    assert await tool("printf %s {x}" + more).run({"x": value}) == text


async def test_what_is_read_of_the_output(tmp_path: Path) -> None:
    assert await tool("printf ' a\n'").run({}) == " a\n"
    assert await tool("printf '[1, {\"a\": 2}]'", parse="json").run({}) == [1, {"a": 2}]
    assert await tool("printf x", parse="none").run({}) is None
    assert await tool("printf '%s' $WORD", env={"WORD": "w"}).run({}) == "w"
    (tmp_path / "here").touch()
    assert await tool("ls", working_dir=str(tmp_path)).run({}) == "here\n"
    assert await tool("exit 3", success_codes=[0, 3]).run({}) == ""
    assert await tool("cat").run({}) == "", "there is no input"


@pytest.mark.parametrize(
    ("command", "keys", "says"),
    [
        ("echo why >&2; exit 4", {}, "^why$"),
        ("exit 4", {}, "^Exit code 4$"),
        ("exit 0", {"success_codes": [1]}, "^Exit code 0$"),
        ("printf x", {"parse": "json"}, "is not JSON"),
        ("no-such-program-1 {x}", {}, "cannot be started"),
        ("cat {x} {y}", {}, "the argument 'y' is missing"),
    ],
)
async def test_failures(command: str, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolFailed, match=says):
        await tool(command, **keys).run({"x": "x"})


async def test_a_null_character_is_refused() -> None:
    with pytest.raises(ToolFailed, match="null character"):
        await tool("echo {x}").run({"x": "a\0b"})


async def test_an_argument_that_is_too_long() -> None:
    with pytest.raises(ToolFailed, match="too long for a command; write them to a file"):
        await tool("printf %s {x}").run({"x": "a" * 3_000_000})


async def test_too_much_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_OUTPUT", 1024 * 1024)
    with pytest.raises(ToolFailed, match="more than 1 MiB"):
        await tool("yes").run({})


SPAWNS = "sh -c 'echo $$ > pid; exec sleep 600'"


async def is_gone(folder: Path) -> None:
    pid = int((folder / "pid").read_text())

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    await eventually(gone, "the process to end")


@pytest.mark.parametrize("command", [SPAWNS, f"{SPAWNS} | cat", f"({SPAWNS}; true) & wait"])
async def test_nothing_is_left_after_a_cancelled_call(tmp_path: Path, command: str) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tool(command, working_dir=str(tmp_path)).run, dict[str, Any]())
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", "a process")
        tasks.cancel_scope.cancel()
    await is_gone(tmp_path)


@pytest.mark.long
async def test_nothing_is_left_after_a_timeout(tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="longer than 3 s"):
        await tool(f"{SPAWNS} & wait", working_dir=str(tmp_path), timeout=3).run({})
    await is_gone(tmp_path)


async def test_a_process_in_the_background_ends_with_the_command(tmp_path: Path) -> None:
    command = f"{SPAWNS} & while [ ! -s pid ]; do :; done; echo done"
    assert await tool(command, working_dir=str(tmp_path)).run({}) == "done\n"
    await is_gone(tmp_path)


@pytest.mark.parametrize(
    ("result", "text"), [(None, "Success"), ("a", "a"), ({"a": ["é"]}, '{"a": ["é"]}'), (1, "1"), ({1}, "{1}")]
)
async def test_a_result_as_text(result: object, text: str) -> None:
    assert result_text(result) == text
