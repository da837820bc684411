"""Test the Python functions of a graph: how they are found, their schemas, and how they are called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from streamcore.graph.tool_schema import PythonToolBlock
from streamcore.graph.tools.protocol import ToolFailed
from streamcore.graph.tools.python import PythonTool, load_function

pytestmark = pytest.mark.anyio


def plain(text: str, times: int = 2, *, tags: list[str] | None = None, other="x") -> str:  # type: ignore[no-untyped-def]  # pyright: ignore
    """Repeat a text.

    More words.
    """
    return f"{text * times}{tags}{other}"


async def later(value: Any, **more: Any) -> Any:
    return [value, more]


def block(**keys: Any) -> PythonToolBlock:
    return PythonToolBlock.model_validate({"module": "m", "function": "f", **keys})


async def test_the_schema_is_that_of_the_signature() -> None:
    tool = PythonTool("t", block(), plain)
    assert tool.description == "Repeat a text."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "times": {"type": "integer"},
            "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
            "other": {"type": "string"},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert "additionalProperties" not in PythonTool("t", block(), later).parameters


async def test_functions_are_called_with_keywords() -> None:
    assert await PythonTool("t", block(), plain).run({"text": "a", "times": 3}) == "aaaNonex"
    assert await PythonTool("t", block(), later).run({"value": 1, "abandon": 2}) == [1, {"abandon": 2}]


@pytest.mark.parametrize("arguments", [{}, {"text": "a", "no": 1}])
async def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolFailed, match="wrong arguments"):
        await PythonTool("t", block(), plain).run(arguments)


async def test_a_file_in_the_graphs_folder(tmp_path: Path) -> None:
    path = tmp_path / "nodes" / "tools.py"
    path.parent.mkdir()
    path.write_text("def f() -> int:\n    return 1\n", "utf-8")
    found = PythonToolBlock(path="nodes/tools.py", function="f")
    assert load_function(found, tmp_path)() == 1
    assert load_function(found, tmp_path) is load_function(found, tmp_path)
    path.write_text("def f() -> int:\n    return 2\n", "utf-8")
    os.utime(path, ns=(1, 1))
    assert load_function(found, tmp_path)() == 2


@pytest.mark.parametrize(
    ("path", "says"),
    [("../tools.py", "is not in the folder"), ("none.py", "there is no file"), ("bad.py", "bad")],
)
async def test_a_file_that_cannot_be_loaded(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path.parent / "tools.py").write_text("def f(): ...\n", "utf-8")
    (tmp_path / "bad.py").write_text("raise ImportError('bad')\n", "utf-8")
    with pytest.raises(ImportError, match=says):
        load_function(PythonToolBlock(path=path, function="f"), tmp_path)
