"""Test that the pages on graphs agree with the code: their graphs, expressions and keys."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamcore import load_graph
from streamcore.graph.check import check_graph
from streamcore.graph.config import Config
from streamcore.graph.expressions import resolve
from streamcore.graph.node_schema import NODES, NodeBlock
from streamcore.graph.schema import DefaultsBlock, GraphFile
from streamcore.graph.tool_schema import TOOLS
from tests.snippets import all_blocks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "graph-yaml.md"
GUIDE = ROOT / "docs" / "graphs.md"


def test_graphs_are_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = [block.code for block in all_blocks(PAGE) if block.language == "yaml" and block.title is None]
    assert len(found) >= 3
    for number, text in enumerate(found):
        path = tmp_path / f"page{number}.yaml"
        path.write_text(text, "utf-8")
        load_graph(path)
        assert check_graph(path) == []


def test_expressions_give_the_values_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    state = json.loads(re.findall(r"Given `(.*)` \|", text)[0])
    rows = re.findall(
        r"^\| `(.*)` \| `(.*)` \|$", text.partition("| Given")[0] + text.partition("| Written")[2], re.MULTILINE
    )
    rows = [row for row in rows if "{" in row[0]]
    assert len(rows) >= 7
    for written, given in rows:
        assert resolve(written, state) == json.loads(given), written


def test_every_key_is_on_a_page() -> None:
    text = PAGE.read_text("utf-8") + GUIDE.read_text("utf-8")
    models = [*NODES.values(), *TOOLS.values(), GraphFile, DefaultsBlock, NodeBlock]
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    for key in [*keys, *Config.__dataclass_fields__]:
        assert re.search(rf"[`\s{{]{key}[`:,\s}}]", text), key
