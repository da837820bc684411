"""Test the spans, their attributes and the metrics of every way in which something ends: a table, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from streamcore import Chunk, Stream, StreamcoreError, Usage, stream_agent, stream_graph_with_tokens, stream_request
from streamcore.errors import BadRequestError
from streamcore.telemetry import names
from streamcore.testing import FINISH, ScriptedProvider
from streamcore.testing.scripted import Script, Step
from streamcore.tools import tool
from tests.observe.test_answers import ASK, BUSY, CUT, REFUSAL, USAGE, WHOLE, cancel, leave, open_ended, read, stop
from tests.observe.test_trees import GRAPH, asks_for
from tests.support import DEADLINE
from tests.telemetry.otlp import receiver
from tests.telemetry.support import Collected, attributes

pytestmark = pytest.mark.anyio


ANSWERED = {names.RESPONSE_ID: "r", names.RESPONSE_MODEL: "large-1", names.FINISH_REASONS: ("stop",)}


@dataclass(frozen=True)
class Row:
    """One outcome of an answer, and what telemetry has of it."""

    name: str
    answers: Sequence[Script]
    outcome: str
    error: str | None = None
    attempts: tuple[tuple[str, str | None], ...] = (("scripted", None),)
    """The provider and the error of each attempt."""
    usage: tuple[int, int] | None = (3, 2)
    content: int = 1
    """How many chunks of content the last attempt has."""
    answered: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The attributes that come from the vendor's answer."""
    restarts: int = 0
    cut: bool = True
    reader: Callable[[Stream], Awaitable[None]] = read
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def provider(self) -> str:
        return self.attempts[-1][0]

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """The provider of each fallback, and the error before it."""
        pairs = pairwise(self.attempts)
        return [(after[0], str(before[1])) for before, after in pairs if after[0] != before[0]]

    def attributes(self) -> dict[str, Any]:
        """Return all attributes of the span, without the time until the first content."""
        usage = {} if self.usage is None else {names.INPUT_TOKENS: self.usage[0], names.OUTPUT_TOKENS: self.usage[1]}
        return {
            names.OPERATION: "chat",
            names.PROVIDER: self.provider,
            names.STREAM: True,
            names.REQUEST_MODEL: "large",
            names.TEMPERATURE: 0.7,
            names.ATTEMPTS: len(self.attempts),
            names.OUTCOME: self.outcome,
            **({} if self.error is None else {names.ERROR: self.error}),
            **self.answered,
            **usage,
        }

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Return all events of the span."""
        found: list[tuple[str, dict[str, Any]]] = []
        for number, (provider, error) in enumerate(self.attempts, 1):
            if number > 1 and provider != self.attempts[number - 2][0]:
                found.append(("streamcore.fallback", {names.PROVIDER: provider}))
            if error in FAILURES:
                facts = {"attempt": number, names.PROVIDER: provider, names.ERROR: error}
                found.append(("streamcore.attempt.failed", facts))
        return [*found, *[("streamcore.restart", {})] * self.restarts]

    def points(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return all points of all metrics: sums, values, and of histograms the counts, and the sums of tokens."""
        labels = {names.OPERATION: "chat", names.PROVIDER: self.provider, names.REQUEST_MODEL: "large"}
        if names.RESPONSE_MODEL in self.answered:
            labels[names.RESPONSE_MODEL] = self.answered[names.RESPONSE_MODEL]
        cause = {} if self.error is None else {names.ERROR: self.error}
        # A fallback chooses its model itself.
        models = ["large" if name == self.attempts[0][0] else "large-1" for name, _ in self.attempts]
        attempts = [
            ({names.PROVIDER: name, names.REQUEST_MODEL: model} | ({names.ERROR: error} if error in FAILURES else {}))
            for model, (name, error) in zip(models, self.attempts, strict=True)
        ]
        found: dict[str, list[tuple[dict[str, Any], Any]]] = {
            names.DURATION: [({**labels, **cause}, 1)],
            names.ANSWER_ATTEMPTS: [(labels, 1) for labels in attempts],
            names.OPEN_STREAMS: [({names.PROVIDER: self.attempts[0][0]}, 0)],
            names.RELAY_BYTES: [({}, 0)],
        }
        if self.usage is not None:
            counts = zip(("input", "output"), self.usage, strict=True)
            found[names.USAGE] = [({**labels, names.TOKEN_TYPE: kind}, (1, count)) for kind, count in counts]
        if self.content:
            found[names.TO_FIRST_CHUNK] = [(labels, 1)]
        if self.content > 1:
            found[names.PER_CHUNK] = [(labels, 1)]
        if self.cut:
            cut = {names.PROVIDER: self.provider, names.OUTCOME: self.outcome}
            found[names.ANSWER_CUT] = [({**cut, **cause}, 1)]
        if self.fallbacks:
            found[names.ANSWER_FALLBACKS] = [
                ({names.PROVIDER: provider, names.ERROR: error}, 1) for provider, error in self.fallbacks
            ]
        if self.restarts:
            found[names.ANSWER_RESTARTS] = [({}, self.restarts)]
        return found


SECOND = ScriptedProvider(WHOLE, name="second")
FAILURES = frozenset({"StreamInterrupted", "StreamTimeout", "BadRequestError", "OverloadedError"})
FINISHED: Mapping[str, Any] = {"cut": False, "content": 2, "answered": ANSWERED}
TABLE = [
    Row("finished", [WHOLE], "finished", **FINISHED),
    Row("refused", [REFUSAL], "refused", cut=False, usage=None, answered={names.FINISH_REASONS: ("refusal",)}),
    Row("stopped", [open_ended()], "stopped", reader=stop),
    Row("closed", [open_ended()], "closed", reader=leave),
    Row("cancelled", [open_ended()], "cancelled", "cancelled", reader=cancel),
    Row("cut", [CUT[:2]], "interrupted", "StreamInterrupted", (("scripted", "StreamInterrupted"),)),
    Row(
        "stalled",
        [open_ended()],
        *("timed_out", "StreamTimeout", (("scripted", "StreamTimeout"),)),
        options={"timeouts": {"stall": 0.05}},
    ),
    Row(
        "bad request",
        [BadRequestError("no")],
        *("failed", "BadRequestError", (("scripted", "BadRequestError"),)),
        content=0,
        usage=None,
    ),
    Row(
        "retried",
        [BUSY, WHOLE],
        *("finished", None, (("scripted", "OverloadedError"), ("scripted", None))),
        **FINISHED,
    ),
    Row(
        "fallback",
        [BadRequestError("no")],
        *("finished", None, (("scripted", "BadRequestError"), ("second", None))),
        options={"fallback": [SECOND]},
        **FINISHED,
    ),
    Row(
        "restart",
        [CUT, WHOLE],
        *("finished", None, (("scripted", "OverloadedError"), ("scripted", None))),
        restarts=1,
        options={"on_interrupt": "restart"},
        **FINISHED,
    ),
]


async def run(row: Row) -> None:
    """Read the answer of a row to its end."""
    stream = stream_request(ASK, provider=ScriptedProvider(*row.answers), **row.options)
    raised: StreamcoreError | None = None
    try:
        await row.reader(stream)
    except StreamcoreError as error:
        raised = error
    assert raised is None or type(raised).__name__ == row.error


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_an_answer_has_one_span_and_its_points(row: Row) -> None:
    collected = Collected()
    with collected.observing():
        await run(row)
    (span,) = collected.spans
    found = dict(attributes(span))
    assert (span.name, span.kind) == ("chat large", SpanKind.CLIENT)
    assert span.status.status_code is (StatusCode.ERROR if row.error else StatusCode.UNSET)
    first = found.pop(names.FIRST_CHUNK, None)
    assert (first is not None) is (row.content > 0)
    assert first is None or first >= 0
    assert found == row.attributes()
    assert [(event.name, dict(event.attributes or {})) for event in span.events] == row.events()
    assert timeless(collected.points()) == row.points()


async def test_the_table_arrives_over_otlp() -> None:
    with receiver() as collector:
        exporter = OTLPMetricExporter(collector.metrics_url, timeout=DEADLINE)
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        collected = Collected(reader)
        spans = OTLPSpanExporter(collector.url, timeout=DEADLINE)
        collected.tracers.add_span_processor(SimpleSpanProcessor(spans))
        with collected.observing():
            for row in TABLE:
                await run(row)
        reader.force_flush(DEADLINE * 1000)
        exporter.shutdown()  # pyright: ignore[reportUnknownMemberType]
        collected.tracers.shutdown()
        found = [{**span.attributes} for span in sorted(collector.spans, key=lambda span: span.start)]
        points = collector.points
    for one in found:
        one.pop(names.FIRST_CHUNK, None)
    assert found == [row.attributes() for row in TABLE]
    assert points == collected.points()


def timeless(points: Mapping[str, list[tuple[dict[str, Any], Any]]]) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Return points without the seconds: of histograms of time only the count."""
    timed = {name for name, metric in names.METRICS.items() if metric.unit == "s"}
    return {
        name: [(labels, value[0] if name in timed else value) for labels, value in found]
        for name, found in points.items()
    }


async def test_a_tool_that_fails_has_the_class_of_its_error() -> None:
    @tool
    def broken() -> str:
        """Fail."""
        raise ValueError("no such city")

    collected = Collected()
    with collected.observing():
        await stream_agent(ASK, tools=[broken], provider=ScriptedProvider(asks_for("broken"), WHOLE)).collect()
    call = {
        names.OPERATION: "execute_tool",
        names.TOOL: "broken",
        names.TOOL_TYPE: "function",
        names.TOOL_CALL_ID: "c1",
        names.TOOL_DESCRIPTION: "Fail.",
        names.ERROR: "ValueError",
        names.OUTCOME: "failed",
    }
    agent = {
        names.OPERATION: "invoke_agent",
        names.PROVIDER: "scripted",
        names.REQUEST_MODEL: "large",
        names.INPUT_TOKENS: 3,
        names.OUTPUT_TOKENS: 2,
        names.FINISH_REASONS: ("stop",),
        names.OUTCOME: "finished",
    }
    spans = [(collected.path(span), span.kind, span.status.status_code) for span in collected.spans]
    inner, client = SpanKind.INTERNAL, SpanKind.CLIENT
    assert spans == [
        (["invoke_agent"], inner, StatusCode.UNSET),
        (["invoke_agent", "chat large"], client, StatusCode.UNSET),
        (["invoke_agent", "execute_tool broken"], inner, StatusCode.ERROR),
        (["invoke_agent", "chat large"], client, StatusCode.UNSET),
    ]
    assert attributes(collected.span("execute_tool broken")) == call
    assert attributes(collected.span("invoke_agent")) == agent
    points = timeless(collected.points())
    assert points[names.OPERATION_DURATION] == [
        ({names.KIND: "tool", names.OPERATION_NAME: "broken", names.OUTCOME: "failed"}, 1),
        ({names.KIND: "agent", names.OUTCOME: "finished"}, 1),
    ]
    assert [count for _, count in points[names.DURATION]] == [1, 1]


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
    workflow = {names.OPERATION: "invoke_workflow", names.WORKFLOW: "letters", names.CONVERSATION: "t1"}
    assert attributes(collected.span(root)) == {**workflow, names.OUTCOME: "waiting"}
    assert attributes(collected.span("node ask")) == {
        names.NODE: "ask",
        names.NODE_TYPE: "interrupt",
        names.OUTCOME: "waiting",
    }
    assert all(span.status.status_code is StatusCode.UNSET for span in collected.spans)
    ended = [("node", "write", "finished"), ("node", "check", "finished"), ("node", "ask", "waiting")]
    assert timeless(collected.points())[names.OPERATION_DURATION] == [
        ({names.KIND: kind, names.OPERATION_NAME: name, names.OUTCOME: outcome}, 1)
        for kind, name, outcome in [*ended, ("graph", "letters", "waiting")]
    ]


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
