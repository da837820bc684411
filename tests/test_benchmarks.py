"""Run each benchmark briefly: its measurements are real, failures are reported, and no test requires a speed."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import endpoints
from benchmarks.peers.contestants import HOME, Contestant, peers
from benchmarks.peers.plot import Bar, bars
from benchmarks.peers.processes import Worker, WorkerError
from benchmarks.peers.race import Many, Plan, Race
from benchmarks.peers.readers.ours import open_reader
from benchmarks.peers.report import summary, write
from benchmarks.peers.results import Results
from benchmarks.peers.targets import targets
from benchmarks.peers.wires import WIRES
from streamcore import aclose_providers
from streamcore.testing import Simulator
from tests.support import first_short, require

ROOT = Path(__file__).resolve().parent.parent
TINY = Plan(
    tokens=30,
    rounds=1,
    requests=2,
    starts=1,
    crowds=1,
    windows=1,
    window=0.3,
    few=Many(3, ramp=0.1, pause=0.1, cap=20),
    many=Many(5, ramp=0.1, pause=0.1, cap=20),
)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("variant", ["prompt", "request", "prompt-aiohttp", "request-aiohttp"])
def test_our_readers_bring_every_token(variant: str, wire: str, simulator: Simulator) -> None:
    pieces: list[str] = []

    async def read() -> None:
        await open_reader(variant, wire, simulator.url)(pieces.append)
        await aclose_providers()

    asyncio.run(read())
    assert "".join(pieces).startswith("Hello! You asked: “Count.”")
    assert len(pieces) > 20


@pytest.mark.long
@pytest.mark.parametrize("variant", ["raw", "typed"])
def test_sdk_readers_bring_every_token(variant: str, simulator: Simulator, tmp_path: Path) -> None:
    with Worker(tmp_path / "log", Path(sys.executable), "sdk", variant) as worker:
        worker.imported()
        for wire in WIRES:
            reported = worker.ask(do="burst", wire=wire, url=simulator.url)
            assert reported["pieces"] > 20
            assert (reported["text"] is None) == (variant == "raw")
            assert variant == "raw" or reported["text"].startswith("Hello! You asked: “Count.”")


@pytest.mark.long
def test_a_race(tmp_path: Path) -> None:
    name = "streamcore-aiohttp"
    results = Results()
    Race([one for one in HOME if one.name == name], TINY, tmp_path, results, lambda _: None).run(["openai"])
    assert results.left_out == []
    for measure, where in (("burst", "openai"), ("setup", "openai"), ("first", "import"), ("paced", "crowd")):
        assert all(value > 0 for value in results.values[measure, where, name])
    assert results.values["paced-running", "crowd", name] == [3]
    assert results.values["crowd-running", "crowd", name] == [5]
    # Five streams with a token every 20 ms, or fewer where the machine is busy.
    assert 0 < results.values["crowd-rate", "crowd", name][0] < 400


def test_a_contestant_that_fails_is_left_out_and_reported(tmp_path: Path) -> None:
    broken = Contestant("nobody", "nobody", "peer", "nobody")
    results = Results()
    Race([broken], TINY, tmp_path, results, lambda _: None).run(["openai"], crowds=False)
    assert results.values == {}
    assert [(name, where) for name, where, _ in results.left_out] == [("nobody", "import")]
    assert "ModuleNotFoundError" in results.left_out[0][2]


def test_a_worker_reports_errors_and_continues(tmp_path: Path, simulator: Simulator) -> None:
    with Worker(tmp_path / "log", Path(sys.executable), "bare", "aiohttp") as worker:
        worker.imported()
        with pytest.raises(WorkerError, match="ClientConnectorError"):
            worker.ask(do="burst", wire="openai", url="http://127.0.0.1:1")
        assert worker.ask(do="burst", wire="openai", url=simulator.url)["pieces"] > 0


def _results() -> Results:
    """Return figures in which streamcore over httpx2 is too slow next to bare reading, and otherwise keeps to all."""
    results = Results(
        about={
            "when": "2026-11-25 12:00 UTC",
            "python": "3.13",
            "system": "Linux",
            "machine": "x",
            "cores": 2,
            "load": 0.5,
            "seconds": 500,
            "seconds-installing": 1,
            "plan": {
                "rounds": 5,
                "more": 8,
                "crowds": 2,
                "windows": 5,
                "tokens": 2000,
                "many": {"cap": 16, "pause": 8},
            },
        },
        versions={"streamcore-httpx2": {"httpx2": "2.16.2"}, "litellm": {"litellm": "1.0"}},
        left_out=[("any_llm", "installation", "no such release")],
    )
    for name, cost in (
        ("bare-httpx2", 8.0),
        ("streamcore-httpx2", 16.0),
        ("streamcore-aiohttp", 3.0),
        ("litellm", 240.0),
    ):
        for factor in (0.9, 1.0, 1.2):
            results.add("burst", "openai", name, cost * factor)
    return results


def test_a_ratio_is_of_the_same_rounds_at_the_same_pace() -> None:
    results = Results()
    for base, own, pace in ((10.0, 13.0, 1.0), (15.0, 19.5, 1.5), (10.0, 19.5, 1.5), (20.0, 26.0, 2.0)):
        results.add("burst", "openai", "bare-httpx2", base)
        results.add("burst", "openai", "streamcore", own)
        results.add("burst-pace", "openai", "bare-httpx2", base / 10)
        results.add("burst-pace", "openai", "streamcore", pace)
        results.add("setup", "openai", "streamcore", own)
    results.add("setup", "openai", "sdk-raw", 6.5)  # who was in fewer rounds counts for those
    assert results.ratio("burst", "openai", "streamcore", "bare-httpx2") == pytest.approx(1.3)
    assert results.ratio("setup", "openai", "streamcore", "sdk-raw") == 2
    assert results.ratio("paced", "crowd", "streamcore", "sdk-raw") is None


def test_who_brings_all_is_held_to_what_it_brings_of_more() -> None:
    results = _results()
    for name, rate, more in (("streamcore-aiohttp", 50_000.0, 99_000.0), ("any_llm", 9_000.0, 8_000.0)):
        results.add("crowd-rate", "crowd", name, rate)
        results.add("rush-rate", "crowd", name, more)
        results.add("crowd-memory", "crowd", name, 45.0)
    (row,) = [one for one in targets(results) if "any-llm" in one.says]
    assert (row.found, row.met) == (11.0, True)
    assert "100,000" in row.says


def test_the_report_names_what_was_missed(tmp_path: Path) -> None:
    results = _results()
    text, good = summary(results)
    assert not good
    (missed,) = [one for one in targets(results) if not one.met]
    assert missed.says == "burst, openai: streamcore on httpx2 / bare httpx2"
    assert missed.found == 2.0
    assert "16.0 (14.4-19.2)" in text
    write(results, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert "any_llm, installation: no such release" in page
    assert "litellm: litellm 1.0" in page
    ElementTree.parse(tmp_path / "img" / "benchmarks.svg")  # noqa: S314  written a line above
    assert "(img/benchmarks.svg)" in page


def test_the_pages_sections_of_other_benchmarks_stay(tmp_path: Path) -> None:
    results = _results()
    write(results, tmp_path)
    page = tmp_path / "benchmarks.md"
    without = page.read_text("utf-8")
    for table in ("| first |", "| second |"):
        endpoints.write(table, page)
        write(results, tmp_path)
    text = page.read_text("utf-8")
    assert text.startswith(without)
    assert "| second |" in text
    assert "| first |" not in text
    assert text.count(endpoints.MARKS[0]) == text.count(endpoints.MARKS[1]) == 1


@pytest.mark.long
def test_streams_through_the_endpoints_are_whole() -> None:
    """The benchmark fails if one is not."""
    script = [sys.executable, str(ROOT / "benchmarks" / "endpoints.py"), "--quick"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 20 of 20 |" in done.stdout


def test_results_survive_their_file(tmp_path: Path) -> None:
    results = _results()
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_bars_are_as_long_as_the_logarithm() -> None:
    rows = [Bar("a <b>", "ours", value, value, value) for value in (1.0, 10.0, 100.0)]
    picture = ElementTree.fromstring(bars("T", [("panel", rows)]))  # noqa: S314  just made
    one, two, three = (float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect"))
    assert one == 0
    assert two > 0
    assert three == pytest.approx(2 * two, abs=0.2)


def test_peers_are_pinned() -> None:
    found = peers()
    assert {one.name for one in found} >= {"litellm", "langchain", "pydantic_ai", "any_llm", "yamlgraph"}
    for peer in found:
        assert all("==" in pin for pin in peer.requires)
        assert set(peer.wires) <= set(WIRES)
        assert (ROOT / "benchmarks" / "peers" / "readers" / f"{peer.reader}.py").is_file()


@pytest.mark.parametrize("name", first_short(["openai", "mistral"]))
def test_a_first_answer_is_taken_apart(name: str, simulator: Simulator) -> None:
    given = ["--kind", "stages", "--wire", name, "--transport", "httpx2", "--url", simulator.url]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "cold.py", *given], capture_output=True, text=True, check=True
    )
    reported: dict[str, float] = json.loads(done.stdout)
    assert list(reported) == ["streamcore", "provider", "prompt", "SDK", "client", "answer", "again"]
    assert reported["SDK"] > 0
    assert reported["again"] < sum(reported[stage] for stage in list(reported)[:-1])
    assert len(simulator.requests) == 2
    assert simulator.connections == 1


@pytest.mark.long
@pytest.mark.parametrize("kind", ["raw", "request", "prompt"])
def test_a_first_answer_is_whole(kind: str, simulator: Simulator) -> None:
    given = ["--kind", kind, "--wire", "openai", "--transport", "httpx2", "--url", simulator.url]
    subprocess.run([sys.executable, ROOT / "benchmarks" / "cold.py", *given], check=True)
    assert len(simulator.requests) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "given", "shown"),
    [
        ("pipeline", ["--chunks", "100", "--rounds", "1"], "clocks and contract adds"),
        ("graph", ["--tokens", "100", "--rounds", "1"], "at most"),
        ("imports", ["--rounds", "1"], "ratio"),
        ("sse", ["--events", "50", "--rounds", "1", "--clients", "3"], "us"),
        pytest.param("decode", ["--tokens", "20", "--rounds", "1"], "openai-responses", marks=pytest.mark.long),
        ("load", ["--streams", "3", "--tokens", "5"], "streamcore"),
        ("relay_readers", ["--readers", "200", "--seconds", "3"], "readers that lack a token: 0\n"),
    ],
)
def test_scripts_run(script: str, given: list[str], shown: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{script}.py", *given], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr  # 1: a limit was missed, of which so short a run says nothing
    assert "Traceback" not in done.stderr
    assert shown in done.stdout


@pytest.mark.long
def test_every_reader_of_the_limits_reads_every_token() -> None:
    require(shutil.which("openssl"), "the program openssl is not installed")
    script = ROOT / "benchmarks" / "limits.py"
    done = subprocess.run(
        [sys.executable, script, "--quick", "--rounds", "1"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stderr == ""  # it would name a reader that does not find every token
    for name in ("by hand, asyncio", "by hand, httptools, uvloop", "streamcore, httpx2, uvloop"):
        assert f"| {name} " in done.stdout
    assert "TLS, one event a record: streamcore / bare reading, aiohttp, asyncio" in done.stdout
