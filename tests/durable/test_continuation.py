"""Continue a run whose earlier worker was lost, or was only slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamcore.checkpoints import MemoryCheckpointer
from streamcore.durable.continuation import Segment, events
from streamcore.graph.config import Config
from streamcore.graph.load import load_graph
from streamcore.graph.stream import stream_graph_with_tokens
from tests.durable.graphs import GATED
from tests.graphs import write_graph

pytestmark = pytest.mark.anyio


async def test_an_earlier_worker_saves_a_node_while_another_one_runs_it(tmp_path: Path) -> None:
    """What began again is voided, and the completed node is reported from the thread; it does not run a third time."""
    graph = load_graph(write_graph(tmp_path, GATED))
    gate, notes = tmp_path / "gate", tmp_path / "notes"
    config = Config(thread_id="t", checkpointer=MemoryCheckpointer())
    state = {"gate": str(gate), "notes": str(notes)}
    later = events(graph, config, Segment(graph.name, "t", state), [])
    got: list[Any] = []
    async for event in later:
        got.append(event)
        if event == {"type": "node_start", "node": "two"}:  # it has not run yet
            break
    gate.touch()
    async with stream_graph_with_tokens(graph, {}, config) as earlier:
        assert [event["type"] async for event in earlier] == ["node_start", "node_complete", "graph_complete"]
    got += [event async for event in later]
    assert [(event["type"], event.get("node")) for event in got] == [
        *(("node_start", "one"), ("node_complete", "one"), ("node_start", "two")),
        *(("restart", "two"), ("node_complete", "two"), ("graph_complete", None)),
    ]
    assert notes.read_text() == "noted\n"
    assert got[-1]["state"]["two"] == "open"


async def test_the_items_of_a_segment_come_first_once(tmp_path: Path) -> None:
    graph = load_graph(write_graph(tmp_path, GATED))
    (tmp_path / "gate").touch()
    config = Config(thread_id="t", checkpointer=MemoryCheckpointer())
    state = {"gate": str(tmp_path / "gate"), "notes": str(tmp_path / "notes")}
    segment = Segment(graph.name, "t", state, first=[{"type": "chat", "model": "m"}])
    got = [event async for event in events(graph, config, segment, [])]
    assert got[0] == {"type": "chat", "model": "m"}
    again = [event async for event in events(graph, config, segment, got[:2])]
    assert again
    assert got[0] not in again
