"""Test bulk runs as a command that is killed, stopped and run again, and on a Ray cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from tests.commands import COMMAND, environment, streamcore, until

ROWS = int(os.environ.get("MAP_ROWS", "2000"))
"""How many rows the kill trial has; `MAP_ROWS=10000` takes half a minute on two cores with nothing else to do."""
PATIENCE = 240.0


def prepared(folder: Path, count: int) -> list[str]:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "greet.yaml").write_text("user: 'Greet {name}.'\n")
    lines = [json.dumps({"name": f"N{number}"}) for number in range(1, count + 1)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return ["map", "greet", "rows.jsonl", "-o", "out.jsonl", "-p", "openai", "-m", "m"]


def answer(asked: Asked) -> Answer:
    return Answer(["Hi ", asked.text])


def written(path: Path) -> list[Any]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.long
def test_every_row_once_though_the_command_is_killed_twice(tmp_path: Path) -> None:
    line = [*COMMAND, *prepared(tmp_path, ROWS), "-c", "50"]
    journal = tmp_path / "out.jsonl.part"
    with Simulator(answer) as simulator:
        env = environment(simulator)
        for target in (ROWS // 4, ROWS // 2):
            with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
                until(lambda target=target: lines_of(journal) >= target, PATIENCE)
                process.send_signal(signal.SIGKILL)
            assert not (tmp_path / "out.jsonl").exists()
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr
        # Only requests that were open when the process was killed are sent twice.
        assert len(simulator.requests) <= ROWS + 2 * 50
    found = written(tmp_path / "out.jsonl")
    assert [row["row"] for row in found] == list(range(1, ROWS + 1))
    assert all(row["text"] == f"Hi Greet N{row['row']}." for row in found)
    assert f"{ROWS} of {ROWS} rows" in done.stderr
    assert not journal.exists()


@pytest.mark.long
def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    line = [*COMMAND, *prepared(tmp_path, 40), "-c", "1"]
    journal = tmp_path / "out.jsonl.part"
    with Simulator(answer, rate=50) as simulator:
        with subprocess.Popen(line, cwd=tmp_path, env=environment(simulator), stderr=subprocess.PIPE) as process:
            until(lambda: lines_of(journal) >= 2)
            process.send_signal(signal.SIGINT)
            _, shown = process.communicate(timeout=250)
        assert process.returncode == 130
        assert b"the same command goes on from here" in shown
        kept = lines_of(journal)
        assert 2 <= kept < 40
        done = streamcore(*line[len(COMMAND) :], simulator=simulator, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(written(tmp_path / "out.jsonl")) == 40


@pytest.mark.long
def test_the_command_reports(tmp_path: Path) -> None:
    line = prepared(tmp_path, 3)
    with Simulator(lambda asked: Answer(["Hi"], cut=0 if "N2" in asked.text else None)) as simulator:
        done = streamcore(*line, "--max-retries", "0", "--rpm", "60000", simulator=simulator, cwd=tmp_path)
        assert done.returncode == 1
        assert "2 of 3 rows · 1 failed" in done.stderr
        assert "1 failed -> out.errors.jsonl; the same command asks them again" in done.stderr
        for bad, reported in (
            (["--rpm", "x=fast"], "--rpm takes a number or PROVIDER=NUMBER, not 'x=fast'"),
            (["--rpm", "0"], "requests a minute must be a number above 0"),
            (["-c", "0"], "concurrency must be at least 1"),
        ):
            done = streamcore(*line, *bad, simulator=simulator, cwd=tmp_path)
            assert (done.returncode, reported in done.stderr) == (2, True), done.stderr


RAY = """
import sys
import ray
from streamcore.bulk import RateLimit
from streamcore.bulk.ray import map_file
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[1])
report = map_file("greet", "rows.jsonl", "ray.jsonl", workers=2, block=50, limits={"openai": RateLimit(1e6, 1e9)},
                  provider="openai", model="m", prompts_dir="prompts")
print(report.progress.done, report.progress.failed)
"""


@pytest.mark.long
def test_ray_writes_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    line = prepared(tmp_path, 500)
    short = Path("/tmp") / f"ray-{os.getpid()}"
    with Simulator(answer) as simulator:
        done = streamcore(*line, simulator=simulator, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        ray = subprocess.run(
            [sys.executable, "-c", RAY, str(short)],
            cwd=tmp_path,
            env={**environment(simulator), "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    assert ray.returncode == 0, ray.stderr
    assert ray.stdout.split()[-2:] == ["500", "0"]
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
