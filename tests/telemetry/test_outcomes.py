"""Test the spans, their attributes and the metrics of every way in which something ends: a table, row by row."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from streamcore import Chunk, Stream, StreamcoreError, Usage, stream_agent, stream_graph_with_tokens, stream_request
from streamcore.errors import BadRequestError
from streamcore.telemetry import names
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Script, Step
from streamcore.tools import tool
from tests.observe.test_answers import ASK, BUSY, CUT, REFUSAL, USAGE, WHOLE, cancel, leave, open_ended, read, stop
from tests.observe.test_trees import GRAPH, asks_for
from tests.telemetry.support import Collected, attributes

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Row:
    """One outcome of an answer, and what telemetry has of it."""

    name: str
    answers: Sequence[Script]
    outcome: str
    error: str | None = None
    events: tuple[str, ...] = ("streamcore.first_content",)
    attempts: int = 1
    usage: tuple[int, int] | None = (3, 2)
    provider: str = "scripted"
    cut: bool = True
    reader: Callable[[Stream], Awaitable[None]] = read
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


SECOND = ScriptedProvider(WHOLE, name="second")
FAILED = "streamcore.attempt.failed"
TABLE = [
    Row("finished", [WHOLE], "finished", cut=False),
    Row("refused", [REFUSAL], "refused", cut=False, usage=None),
    Row("stopped", [open_ended()], "stopped", reader=stop),
    Row("closed", [open_ended()], "closed", reader=leave),
    Row("cancelled", [open_ended()], "cancelled", "cancelled", reader=cancel),
    Row("cut", [CUT[:2]], "interrupted", "StreamInterrupted", ("streamcore.first_content", FAILED)),
    Row(
        "stalled",
        [open_ended()],
        *("timed_out", "StreamTimeout", ("streamcore.first_content", FAILED)),
        options={"timeouts": {"stall": 0.05}},
    ),
    Row("bad request", [BadRequestError("no")], "failed", "BadRequestError", (FAILED,), usage=None),
    Row(
        "retried",
        [BUSY, WHOLE],
        *("finished", None, (FAILED, "streamcore.first_content")),
        attempts=2,
        cut=False,
    ),
    Row(
        "fallback",
        [BadRequestError("no")],
        *("finished", None, (FAILED, "streamcore.fallback", "streamcore.first_content")),
        attempts=2,
        provider="second",
        cut=False,
        options={"fallback": [SECOND]},
    ),
    Row(
        "restart",
        [CUT, WHOLE],
        "finished",
        None,
        ("streamcore.first_content", FAILED, "streamcore.restart", "streamcore.first_content"),
        attempts=2,
        cut=False,
        options={"on_interrupt": "restart"},
    ),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_an_answer_has_one_span_and_its_points(row: Row) -> None:
    collected = Collected()
    with collected.observing():
        stream = stream_request(ASK, provider=ScriptedProvider(*row.answers), **row.options)
        raised: StreamcoreError | None = None
        try:
            await row.reader(stream)
        except StreamcoreError as error:
            raised = error
    assert raised is None or type(raised).__name__ == row.error
    (span,) = collected.spans
    found = attributes(span)
    assert span.name == "chat large"
    assert found[names.OUTCOME] == row.outcome
    assert found.get(names.ERROR) == row.error
    assert span.status.status_code is (StatusCode.ERROR if row.error else StatusCode.UNSET)
    assert tuple(event.name for event in span.events) == row.events
    assert found[names.PROVIDER] == row.provider
    usage = (found.get(names.INPUT_TOKENS), found.get(names.OUTPUT_TOKENS))
    assert usage == (row.usage or (None, None))
    assert (names.FIRST_CHUNK in found) is ("streamcore.first_content" in row.events)

    points = collected.points()
    ((labels, (count, _)),) = points[names.DURATION]
    assert count == 1
    assert labels.get(names.ERROR) == row.error
    assert (labels[names.PROVIDER], labels[names.REQUEST_MODEL]) == (row.provider, "large")
    tokens = {labels[names.TOKEN_TYPE]: total for labels, (_, total) in points.get(names.USAGE, [])}
    assert tokens == ({} if row.usage is None else {"input": row.usage[0], "output": row.usage[1]})
    assert sum(value for _, value in points[names.ANSWER_ATTEMPTS]) == row.attempts
    assert [value for _, value in points[names.OPEN_STREAMS]] == [0]
    assert len(points.get(names.TO_FIRST_CHUNK, [])) == ("streamcore.first_content" in row.events)
    cut = [(labels[names.OUTCOME], labels.get(names.ERROR)) for labels, _ in points.get(names.ANSWER_CUT, [])]
    assert cut == ([(row.outcome, row.error)] if row.cut else [])
    assert len(points.get(names.ANSWER_FALLBACKS, [])) == ("streamcore.fallback" in row.events)
    assert len(points.get(names.ANSWER_RESTARTS, [])) == ("streamcore.restart" in row.events)


async def test_a_tool_that_fails_has_the_class_of_its_error() -> None:
    @tool
    def broken() -> str:
        """Fail."""
        raise ValueError("no such city")

    collected = Collected()
    with collected.observing():
        await stream_agent(ASK, tools=[broken], provider=ScriptedProvider(asks_for("broken"), WHOLE)).collect()
    span = collected.span("execute_tool broken")
    assert attributes(span)[names.ERROR] == "ValueError"
    assert span.status.status_code is StatusCode.ERROR
    assert collected.path(span) == ["invoke_agent", "execute_tool broken"]
    agent = collected.span("invoke_agent")
    assert attributes(agent)[names.OUTCOME] == "finished"
    assert agent.status.status_code is StatusCode.UNSET
    kinds = {
        (labels[names.KIND], labels.get(names.OPERATION_NAME), labels[names.OUTCOME])
        for labels, _ in collected.points()[names.OPERATION_DURATION]
    }
    assert kinds == {("tool", "broken", "failed"), ("agent", None, "finished")}


async def test_an_interrupt_of_a_graph_is_no_error(graph: Path) -> None:
    collected = Collected()
    with collected.observing():
        config = {"provider": ScriptedProvider(WHOLE), "thread_id": "t1"}
        async for _ in stream_graph_with_tokens(graph, {}, config):
            pass
    spans = [(collected.path(span), attributes(span).get(names.OUTCOME)) for span in collected.spans]
    root = "invoke_workflow letters"
    assert spans == [
        ([root], "waiting"),
        ([root, "node write"], "finished"),
        ([root, "node write", "chat"], "finished"),
        ([root, "node check"], "finished"),
        ([root, "node ask"], "waiting"),
    ]
    assert attributes(collected.span(root))[names.CONVERSATION] == "t1"
    assert all(span.status.status_code is StatusCode.UNSET for span in collected.spans)


async def test_a_tool_continues_the_trace_of_the_application() -> None:
    collected = Collected()
    tracer = collected.tracers.get_tracer("application")

    @tool
    def look() -> str:
        """Look in the database."""
        with tracer.start_as_current_span("database"):
            return "seen"

    with tracer.start_as_current_span("request"), collected.observing():
        await stream_agent(ASK, tools=[look], provider=ScriptedProvider(asks_for("look"), WHOLE)).collect()
    path = collected.path(collected.span("database"))
    assert path == ["request", "invoke_agent", "execute_tool look", "database"]


async def test_content_is_on_spans_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-abcdefghijklmnopqrstuvwxyz012345"
    script: list[Step] = [f"My key is {secret}", FINISH]
    contents: list[str] = []
    for value in ("", "false", "true", "SPAN_ONLY"):
        monkeypatch.setenv(names.CAPTURE_CONTENT, value)
        collected = Collected()
        with collected.observing():
            await stream_request(ASK, provider=ScriptedProvider(script)).collect()
        found = attributes(collected.span("chat large"))
        contents.append(found.get(names.OUTPUT_MESSAGES, ""))
        assert (names.INPUT_MESSAGES in found) is (names.OUTPUT_MESSAGES in found)
    assert contents[:2] == ["", ""]
    for text in contents[2:]:
        (answer,) = json.loads(text)
        assert answer["parts"] == [{"type": "text", "content": "My key is [secret]"}]


async def test_time_per_chunk_is_a_mean_or_each() -> None:
    script: list[Step] = ["a", "b", "c", "d", FINISH]
    for per_chunk, expected in ((False, 1), (True, 3)):
        collected = Collected(per_chunk=per_chunk)
        with collected.observing():
            await stream_request(ASK, provider=ScriptedProvider(script)).collect()
        ((_, (count, _)),) = collected.points()[names.PER_CHUNK]
        assert count == expected


async def test_cached_tokens_are_part_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(input_tokens=3, output_tokens=2, cache_read_tokens=10, cache_write_tokens=5)
    collected = Collected()
    with collected.observing():
        script: list[Step] = ["a", FINISH, Chunk("usage", usage=usage)]
        await stream_request(ASK, provider=ScriptedProvider(script, name="bedrock")).collect()
    found = attributes(collected.span("chat large"))
    assert found[names.PROVIDER] == "aws.bedrock"
    assert found[names.INPUT_TOKENS] == 18
    assert (found[names.CACHE_READ], found[names.CACHE_WRITE]) == (10, 5)


def test_usage_of_the_table_is_that_of_the_script() -> None:
    assert USAGE.usage == Usage(input_tokens=3, output_tokens=2)
    assert "interrupt" in GRAPH
