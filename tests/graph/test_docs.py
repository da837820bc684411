"""Run the snippets of the pages on graphs and on moving, and hold their tables to the code."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from streamcore import load_graph
from streamcore.graph.check import check_graph
from streamcore.graph.config import Config
from streamcore.graph.expressions import resolve
from streamcore.graph.schema import NODES, DefaultsBlock, GraphFile, NodeBlock
from streamcore.testing.demo import DemoProvider
from tests.snippets import blocks, run

ROOT = Path(__file__).resolve().parents[2]
GRAPHS = ROOT / "docs" / "graphs.md"
MOVING = ROOT / "docs" / "moving.md"


@pytest.fixture(autouse=True)
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in a folder with the project's graphs and prompts, with a demo provider that does not take its time."""
    for name in ("graphs", "prompts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DemoProvider.__init__, "__kwdefaults__", {"model": None, "rate": 0, "transport": None})


@pytest.mark.parametrize(("page", "count"), [(GRAPHS, 3), (MOVING, 2)])
def test_python(page: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    snippets = list(blocks(page, "python"))
    assert len(snippets) == count
    for code in snippets:
        asyncio.run(run(code))
        assert capsys.readouterr().out


def test_graphs_are_graphs(tmp_path: Path) -> None:
    found = list(blocks(GRAPHS, "yaml"))
    assert len(found) >= 3
    for number, text in enumerate(found):
        path = tmp_path / f"page{number}.yaml"
        path.write_text(text, "utf-8")
        load_graph(path)
        assert check_graph(path) == []


def test_expressions_give_what_the_page_says() -> None:
    text = GRAPHS.read_text("utf-8")
    state = json.loads(re.findall(r"Given `(.*)` \|", text)[0])
    rows = re.findall(
        r"^\| `(.*)` \| `(.*)` \|$", text.partition("| Given")[0] + text.partition("| Written")[2], re.MULTILINE
    )
    rows = [row for row in rows if "{" in row[0]]
    assert len(rows) >= 7
    for written, given in rows:
        assert resolve(written, state) == json.loads(given), written


def test_every_key_is_on_the_page() -> None:
    text = GRAPHS.read_text("utf-8")
    models = [*NODES.values(), GraphFile, DefaultsBlock, NodeBlock]
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    for key in [*keys, *Config.__dataclass_fields__]:
        assert re.search(rf"[`\s{{]{key}[`:,\s}}]", text), key


def test_snippets_parse_as_one_would_type_them() -> None:
    for page in (GRAPHS, MOVING):
        for code in blocks(page, "python"):
            compile(code, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
