"""Test the output: journal, order, incomplete lines, locks, and files of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamcore.bulk.results import Results, json_bytes
from streamcore.errors import ConfigError


def line(row: int, text: str = "x", key: str = "k") -> dict[str, Any]:
    return {"row": row, "input": {"n": row}, "text": text, "key": key}


def written(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def test_results_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Results(out) as results:
        for row in (3, 1, 2):
            results.add(line(row))
        assert not out.exists()
        results.finish()
    assert [found["row"] for found in written(out)] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_every_cut_of_the_journal_loses_only_its_last_line(tmp_path: Path) -> None:
    whole = b"".join(json_bytes(line(row, "häß")) for row in (1, 2, 3))
    for cut in range(len(whole) + 1):
        out = tmp_path / f"{cut}.jsonl"
        out.with_name(out.name + ".part").write_bytes(whole[:cut])
        with Results(out) as results:
            rows = whole[:cut].count(b"\n")
            assert sorted(results.done) == list(range(1, rows + 1))
            results.add(line(9))
            results.finish()
        assert [found["row"] for found in written(out)] == [*range(1, rows + 1), 9]


def test_a_later_run_merges_with_the_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Results(out) as results:
        results.add(line(2))
        results.add_error({"row": 1, "error": {}})
        results.finish()
    assert len(written(tmp_path / "out.errors.jsonl")) == 1
    with Results(out) as results:
        assert results.done == {2: "k"}
        results.add(line(1))
        results.finish()
    assert [found["row"] for found in written(out)] == [1, 2]
    assert not (tmp_path / "out.errors.jsonl").exists()


def test_forgotten_answers_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Results(out) as results:
        results.add(line(1, "old"))
        results.add(line(2, "old"))
        results.finish()
    with Results(out) as results:
        results.forget()
        results.add(line(1, "new", "other"))
        assert len(written(out)) == 2
        results.finish()
    assert [(found["row"], found["text"]) for found in written(out)] == [(1, "new")]


def test_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Results(out) as results:
        results.add(line(1, "a\ud800b"))
        results.finish()
    assert written(out)[0]["text"] == "a\ud800b"


def test_only_one_writes(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with Results(tmp_path / "out.jsonl"):
        with pytest.raises(ConfigError, match="another process is writing"), Results(tmp_path / "out.jsonl"):
            pass
    with Results(tmp_path / "out.jsonl"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text('{"row": 1, "key": "k"}\n{"name": "x"}\n')
    with pytest.raises(ConfigError, match=r"out\.jsonl:2: this is no result"), Results(out):
        pass
    assert len(written(out)) == 2
    with pytest.raises(ConfigError, match=r"ends in \.jsonl, \.ndjson or \.parquet"):
        Results(tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="cannot write"), Results(tmp_path / "none" / "out.jsonl"):
        pass


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from streamcore.bulk.parquet import read_parquet

    out = tmp_path / "out.parquet"
    with Results(out) as results:
        results.add({**line(2), "usage": {"input_tokens": 3, "output_tokens": 4}})
        results.finish()
    with Results(out) as results:
        assert results.done == {2: "k"}
        results.add(line(1))
        results.finish()
    found = list(read_parquet(out))
    assert [(row["row"], row["text"], row["output_tokens"]) for row in found] == [(1, "x", None), (2, "x", 4)]
    assert json.loads(found[0]["answer"]) == line(1)
