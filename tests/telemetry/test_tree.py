"""Test one trace over serve, relay, graph, agent and tool in two worker processes, with a real receiver of OTLP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.telemetry.otlp import tree
from tests.telemetry.two_workers import CLIENT, SPANS, TRACE, spans_of_one_run

pytestmark = [pytest.mark.long, pytest.mark.real]


def test_a_run_that_two_workers_serve_is_one_tree(tmp_path: Path) -> None:
    spans = spans_of_one_run(tmp_path)
    assert {span.trace for span in spans} == {TRACE}
    assert len(spans) == SPANS
    found = [(depth, span.name, span.worker) for depth, span in tree(spans, CLIENT)]
    reader = (1, "relay read", "worker 2")
    assert found.count(reader) == 1
    found.remove(reader)
    assert found == [
        (0, "relay run", "worker 1"),
        (1, "invoke_workflow trip", "worker 1"),
        (2, "node plan", "worker 1"),
        (3, "chat", "worker 1"),
        (2, "node advise", "worker 1"),
        (3, "invoke_agent advise", "worker 1"),
        (4, "chat", "worker 1"),
        (4, "execute_tool weather", "worker 1"),
        (5, "look up the weather", "worker 1"),
        (4, "chat", "worker 1"),
    ]
