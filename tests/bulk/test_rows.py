"""Test reading rows: every format, and the place that an error names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamcore.bulk import Row, read_rows
from streamcore.errors import ConfigError


def rows(path: Path, text: str | bytes) -> list[Row]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_rows(path))


def test_json_lines_keep_types_and_count_empty_lines(tmp_path: Path) -> None:
    found = rows(tmp_path / "r.jsonl", '\ufeff{"a": 1, "b": ["x"]}\n\n{"a": null}')
    assert found == [Row(1, {"a": 1, "b": ["x"]}), Row(3, {"a": None})]


def test_csv_counts_lines_within_cells(tmp_path: Path) -> None:
    found = rows(tmp_path / "r.csv", 'name,text\nA,"two\nlines"\n\nB,x\n')
    assert found == [Row(2, {"name": "A", "text": "two\nlines"}), Row(5, {"name": "B", "text": "x"})]


@pytest.mark.parametrize(
    ("name", "text", "reported"),
    [
        ("r.jsonl", '{"a": 1}\n{"a": \n', "r.jsonl:2: this line is not JSON"),
        ("r.jsonl", '{"a": 1}\n[1]\n', "r.jsonl:2: a row is an object"),
        ("r.jsonl", "[" * 100_000, "r.jsonl:1: this line is not JSON: it is nested too deeply"),
        ("r.jsonl", b"\xff\n", "r.jsonl:1: this line is not JSON"),
        ("r.csv", "a,b\n1,2\n3\n", "r.csv:3: this row has 1 cells; the first line has 2"),
        ("r.csv", "a,a\n1,2\n", "r.csv:1: two columns have the name 'a'"),
        ("r.csv", 'a\n"x" y\n', "r.csv:2: this is not CSV"),
        ("r.txt", "", "rows come from a file that ends in .jsonl, .ndjson, .csv or .parquet"),
        ("r.parquet", "no", "r.parquet is not Parquet"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, name: str, text: str | bytes, reported: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(ConfigError, match=re.escape(reported)):
        rows(tmp_path / name, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.jsonl: No such file"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_keys_differ_with_values_and_question() -> None:
    one = Row(1, {"a": 1, "b": 2})
    assert one.key("q") == Row(9, {"b": 2, "a": 1}).key("q")
    assert len({one.key("q"), one.key("p"), Row(1, {"a": 1, "b": "2"}).key("q")}) == 3
