"""Run graphs durably on SQLite: questions, stop, cancel, a worker that stops, versions, owners, queues."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from streamcore.durable import DurableRuns, Queue, RunStatus
from streamcore.durable.dbos_engine import ATTEMPTS, DBOSEngine
from streamcore.durable.engine import Execute
from streamcore.errors import ConfigError, InvalidRunId, RelayError, RunExists, RunNotFound, StreamInterrupted
from streamcore.relay import MemoryLog, Relay
from streamcore.testing import ScriptedProvider
from tests.durable.graphs import GATED, GATED_TALK, TALK
from tests.graphs import write_graph
from tests.support import DEADLINE

pytestmark = [pytest.mark.anyio, pytest.mark.long]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, on which DBOS is."""
    return "asyncio"


def opened(folder: Path, graph: Path, relay: Relay | MemoryLog | None = None, **options: Any) -> DurableRuns:
    config = {"provider": ScriptedProvider("Hello there"), "model": "m"}
    given: dict[str, Any] = {"lease": 1.0, "config": config, "relay": relay, **options}
    return DurableRuns(database=f"sqlite:///{folder / 'runs.db'}", graphs=[graph], **given)


async def until(runs: DurableRuns, run: str, state: str) -> RunStatus:
    with anyio.fail_after(DEADLINE):
        while (status := await runs.status(run)).state != state:  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return status


async def until_node(runs: DurableRuns, run: str, node: str) -> None:
    """Wait until a node has begun."""
    with anyio.fail_after(DEADLINE):
        async for event in await runs.read(run):
            assert isinstance(event, Mapping)
            if event["type"] == "node_start" and event["node"] == node:
                return


async def text_of(runs: DurableRuns, run: str, who: str = "") -> dict[str, str]:
    texts: dict[str, str] = {}
    async for event in await runs.read(run, who=who):
        assert isinstance(event, Mapping)
        if event["type"] == "token":
            texts[event["node"]] = texts.get(event["node"], "") + event["content"]
    return texts


async def test_a_question_waits_without_a_process(tmp_path: Path) -> None:
    """The process ends while the question waits; another one takes the answer, and goes on at the next node."""
    graph = write_graph(tmp_path, TALK, say="Hello")
    async with opened(tmp_path, graph) as runs:
        run = await runs.start("talk", {}, owner="ada")
        assert (await until_waiting(runs, run)).question == {
            "node": "ask",
            "message": "Go on?",
            "resume_key": "answer",
        }
        with pytest.raises(RunNotFound):
            await runs.status(run, who="eve")
    async with opened(tmp_path, graph) as runs:
        with pytest.raises(RunNotFound):
            await runs.resume(run, "yes", who="eve")
        assert await runs.resume(run, "yes", who="ada") == f"{run}~2"
        got = [event async for event in await runs.read(run, who="ada")]
        assert [event["type"] for event in got if isinstance(event, Mapping) and event["type"] != "token"] == [
            *("node_complete", "node_start", "node_complete", "node_start", "node_complete", "graph_complete")
        ]
        with anyio.fail_after(DEADLINE):
            while (status := await runs.status(run, who="ada")).state != "done":  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert (status.segment, status.graph, status.owner) == (2, "talk", "ada")
        with pytest.raises(ConfigError, match="waits for no answer; its state is 'done'"):
            await runs.resume(run, "again", who="ada")
        assert [one.run for one in await runs.list()] == [run]
        assert await runs.list(state="running") == []


class LateEngine(DBOSEngine):
    """An engine that learns how a job ended only when the test says so."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = anyio.Event()

    async def open(self, execute: Execute | None, queues: Mapping[str, Queue], worker: str, version: str) -> None:
        assert execute is not None

        async def late(name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
            result = await execute(name, data)
            await self.gate.wait()
            return result

        await super().open(late, queues, worker, version)


async def test_a_reader_that_has_seen_the_question_can_answer_it_at_once(tmp_path: Path) -> None:
    """What a reader has seen counts, also before the engine has recorded it; so does the end of the run."""
    engine = LateEngine(f"sqlite:///{tmp_path / 'runs.db'}")
    store = f"sqlite:///{tmp_path / 'threads.db'}"
    options: dict[str, Any] = {"config": {"provider": ScriptedProvider("Hello there"), "model": "m"}}
    graph = write_graph(tmp_path, TALK, say="Hello")
    async with DurableRuns(database=engine, graphs=[graph], checkpointer=store, **options) as runs:
        run = await runs.start("talk", {})
        with anyio.fail_after(DEADLINE):
            assert "three" not in await text_of(runs, run)  # to its question
            status = await runs.status(run)
            assert (status.state, status.question and status.question["message"]) == ("waiting", "Go on?")
            assert [await runs.list(state=state) for state in ("waiting", "running")] == [[status], []]
            assert await runs.resume(run, "yes") == f"{run}~2"
            assert "three" in await text_of(runs, run)
            assert (await runs.status(run)).state == "done"
            assert [one.state for one in await runs.list()] == ["done"]
        engine.gate.set()


class FailingLog(MemoryLog):
    """A log whose store can be out of reach."""

    failing = False

    async def status(self, run_id: str) -> Any:
        if self.failing:
            raise RelayError("the store cannot be reached")
        return await super().status(run_id)


async def test_without_the_relay_the_engine_tells_the_state(tmp_path: Path) -> None:
    log = FailingLog()
    async with opened(tmp_path, write_graph(tmp_path, GATED), log, work=False) as runs:
        started = [await runs.start("gated", {"gate": "", "notes": ""}) for _ in range(2)]
        assert await runs.cancel(started[0])
        log.failing = True
        assert [(one.run, one.state) for one in await runs.list()] == [
            (started[1], "queued"),
            (started[0], "cancelled"),
        ]
        assert (await runs.status(started[1])).state == "queued"


async def until_waiting(runs: DurableRuns, run: str) -> RunStatus:
    with anyio.fail_after(DEADLINE):
        while (status := await runs.status(run, who="ada")).state != "waiting":  # noqa: ASYNC110
            await anyio.sleep(0.05)
    return status


async def test_a_worker_that_stops_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    """No node whose completion was seen runs again, and a reader that stays connected gets the rest."""
    graph = write_graph(tmp_path, GATED)
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    log = MemoryLog()
    got: list[Any] = []
    async with Relay(log) as reading, anyio.create_task_group() as group:
        async with opened(tmp_path, graph, log) as runs:
            run = await runs.start("gated", {"gate": str(gate), "notes": str(notes)})
            await until_node(runs, run, "two")
            group.start_soon(collect, reading, run, got)
        gate.touch()
        async with opened(tmp_path, graph, log) as runs:
            await until(runs, run, "done")
    assert notes.read_text() == "noted\n"
    kinds = [(event["type"], event.get("node")) for event in got]
    assert kinds == [
        *(("node_start", "one"), ("node_complete", "one"), ("node_start", "two"), ("restart", "two")),
        *(("node_start", "two"), ("node_complete", "two"), ("graph_complete", None)),
    ]


async def collect(relay: Relay, run: str, got: list[Any]) -> None:
    async for event in relay.read(run):
        got.append(event)


async def test_a_process_that_lost_its_log_reports_what_had_completed(tmp_path: Path) -> None:
    """The log was in memory; the thread has the text of the completed nodes."""
    graph = write_graph(tmp_path, GATED_TALK, say="Hello")
    gate = tmp_path / "gate"
    async with opened(tmp_path, graph) as runs:
        run = await runs.start("talk", {"gate": str(gate)})
        await until(runs, run, "waiting")
        await runs.resume(run, "yes")
        await until_node(runs, run, "two")
    gate.touch()
    async with opened(tmp_path, graph) as runs:
        await until(runs, run, "done")
        got = [event async for event in await runs.read(run)]
        completed_nodes = [
            event["node"] for event in got if isinstance(event, Mapping) and event["type"] == "node_complete"
        ]
        assert completed_nodes == ["ask", "two", "three"]
        assert await text_of(runs, run) == {"three": "Hello there"}


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_stop_and_cancel_from_a_worker_that_is_not_the_producer(tmp_path: Path, how: str) -> None:
    graph = write_graph(tmp_path, GATED)
    log = MemoryLog()
    state = {"gate": str(tmp_path / "gate"), "notes": str(tmp_path / "notes")}
    async with opened(tmp_path, graph, log), opened(tmp_path, graph, log, work=False) as other:
        run = await other.start("gated", state)
        await until_node(other, run, "two")
        call: Callable[[str], Any] = other.stop if how == "stop" else other.cancel
        assert await call(run)
        await until(other, run, "stopped" if how == "stop" else "cancelled")
        if how == "stop":
            await text_of(other, run)
        else:
            with pytest.raises(StreamInterrupted, match="was cancelled"):
                await text_of(other, run)
        assert not await call(run)


async def test_a_run_that_has_not_begun_can_be_ended(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, GATED)
    log = MemoryLog()
    async with opened(tmp_path, graph, log, work=False) as runs:
        run = await runs.start("gated", {"gate": "", "notes": ""}, run_id="one", thread_id="t")
        assert (await runs.status(run)).state == "queued"
        with pytest.raises(RunExists):
            await runs.start("gated", {}, run_id="one")
        with pytest.raises(RunExists, match="has not ended"):
            await runs.start("gated", {}, run_id="two", thread_id="t")
        assert await runs.cancel(run)
        assert (await runs.status(run)).state == "cancelled"
        with pytest.raises(StreamInterrupted):
            await text_of(runs, run)
        for name in ("a/b", "a~2", "", "x" * 57):
            with pytest.raises(InvalidRunId):
                await runs.start("gated", {}, run_id=name)
        with pytest.raises(ConfigError, match="has no graph 'other'; it has 'gated'"):
            await runs.start("other")
        with pytest.raises(ConfigError, match="there is no queue 'fast'"):
            await runs.start("gated", queue="fast")
        with pytest.raises(RunNotFound):
            await runs.read("nobody")


async def test_a_run_whose_workers_were_lost_too_often_ends(tmp_path: Path) -> None:
    """Its readers get an error, and do not wait for a worker."""
    graph = write_graph(tmp_path, GATED)
    log = MemoryLog()
    async with opened(tmp_path, graph, log, work=False) as runs:
        run = await runs.start("gated", {"gate": "", "notes": ""})
    with closing(sqlite3.connect(tmp_path / "runs.db")) as database, database:
        database.execute("UPDATE workflow_status SET recovery_attempts = ?", [ATTEMPTS + 1])
    async with opened(tmp_path, graph, log) as runs:
        with pytest.raises(StreamInterrupted, match="given up"):
            await text_of(runs, run)
        status = await runs.status(run)
        assert (status.state, "given up" in str(status.error)) == ("failed", True)


async def test_a_worker_with_a_changed_graph(tmp_path: Path) -> None:
    """With `refuse` it leaves old runs to workers that have the old graph; with `finish` it continues them."""
    graph = write_graph(tmp_path, GATED)
    gate = tmp_path / "gate"
    log = MemoryLog()
    state = {"gate": str(gate), "notes": str(tmp_path / "notes")}
    old = graph.read_text()
    async with opened(tmp_path, graph, log, versions="refuse") as runs:
        run = await runs.start("gated", state)
        await until_node(runs, run, "two")
    gate.touch()
    graph.write_text(old.replace("state_key: two", "state_key: other"))
    async with opened(tmp_path, graph, log, versions="refuse") as runs:
        new = await runs.start("gated", state)
        await until(runs, new, "done")
        assert (await runs.status(run)).state in ("queued", "running")  # of a worker that has ended
    graph.write_text(old)
    async with opened(tmp_path, graph, log, versions="refuse") as runs:
        await until(runs, run, "done")
    gate.unlink()
    async with opened(tmp_path, graph, log) as runs:
        third = await runs.start("gated", state)
        await until_node(runs, third, "two")
    gate.touch()
    graph.write_text(old.replace("state_key: two", "state_key: other"))
    async with opened(tmp_path, graph, log) as runs:
        await until(runs, third, "done")
        got = [event async for event in await runs.read(third)]
    assert isinstance(got[-1], Mapping)
    assert got[-1]["state"]["other"] == "open"


async def test_a_queue_limits_how_many_run_at_once(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, GATED)
    gate = tmp_path / "gate"
    state = {"gate": str(gate), "notes": str(tmp_path / "notes")}
    async with opened(tmp_path, graph, queues={"slow": Queue(concurrency=1)}) as runs:
        names = [await runs.start("gated", state, queue="slow") for _ in range(3)]
        await until_node(runs, names[0], "two")
        assert [(await runs.status(name)).state for name in names] == ["running", "queued", "queued"]
        gate.touch()
        for name in names:
            await until(runs, name, "done")


async def test_one_worker_in_a_process_and_one_on_a_log_in_memory(tmp_path: Path) -> None:
    graph = write_graph(tmp_path, GATED)
    async with opened(tmp_path, graph):
        with pytest.raises(ConfigError, match="another worker uses the database"):
            await opened(tmp_path, graph).__aenter__()
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(ConfigError, match="open others with work=False"):
            await opened(other, graph).__aenter__()
    with pytest.raises(ConfigError, match="need a relay that all workers share"):
        DurableRuns(database="postgresql://localhost/runs", graphs=[graph])
    with pytest.raises(ConfigError, match="must be sqlite:///runs"):
        DurableRuns(database="mysql://secret@host", graphs=[graph])
