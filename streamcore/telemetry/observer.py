"""Turn the events of observers into spans and metrics, by OpenTelemetry's GenAI conventions."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import metrics, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from streamcore.completion import Completion
from streamcore.observe import events
from streamcore.observe.events import Operation
from streamcore.pricing.answers import cost_of
from streamcore.pricing.counts import counts_of
from streamcore.pricing.loading import load_in_background, run_when_loaded
from streamcore.provider import provider_names, vendor
from streamcore.telemetry import content, names
from streamcore.telemetry.metrics import Metrics
from streamcore.telemetry.spans import agent_end, agent_start, answer_end, answer_start, of_cost, tool_end, tool_start

SCOPE = "streamcore"
_NO_ERROR = frozenset({"finished", "refused", "waiting", "stopped", "closed"})


@dataclass(slots=True)
class _OpenAnswer:
    """What is known of an answer that has not ended."""

    provider: str
    """The provider under which its stream is counted as open."""
    model: str
    """The model that the current attempt asks for."""
    attempts: int = 0
    last_chunk: float | None = None

    @property
    def labels(self) -> Mapping[str, str]:
        """The attributes of the time of a chunk."""
        return {names.OPERATION: "chat", names.PROVIDER: self.provider, names.REQUEST_MODEL: self.model}


class OpenTelemetryObserver:
    """Write spans and metrics; give it to `observe`, `observer=` or, for the whole process, call `instrument()`.

    Args:
        tracer_provider: where spans go; None takes OpenTelemetry's global one.
        meter_provider: where metrics go; None takes OpenTelemetry's global one.
        capture_content: put prompts, answers, arguments and results of tools on spans, without secrets; None asks
            `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`.
        per_chunk: record the time between any two chunks, which costs something for every token; else the mean of each
            answer is recorded once.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        capture_content: bool | None = None,
        per_chunk: bool = False,
    ) -> None:
        url = f"https://opentelemetry.io/schemas/{names.CONVENTIONS}"
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider, schema_url=url)
        self._metrics = Metrics(
            metrics.get_meter(SCOPE, meter_provider=meter_provider, schema_url=url), per_chunk=per_chunk
        )
        self._content = content.content_enabled() if capture_content is None else capture_content
        self._open: dict[int, trace.Span] = {}
        self._answers: dict[int, _OpenAnswer] = {}
        self._wants_chunks = per_chunk
        self._handlers: Mapping[type, Callable[[Any], None]] = {
            events.AnswerStarted: self._answer_started,
            events.AttemptStarted: self._attempt_started,
            events.AttemptEnded: self._attempt_ended,
            events.FellBack: self._fell_back,
            events.Restarted: self._restarted,
            events.ChunksArrived: self._chunks_arrived,
            events.AnswerEnded: self._answer_ended,
            events.AgentStarted: self._agent_started,
            events.AgentEnded: self._agent_ended,
            events.ToolStarted: self._tool_started,
            events.ToolEnded: self._tool_ended,
            events.GraphStarted: self._graph_started,
            events.GraphEnded: self._ended,
            events.NodeStarted: self._node_started,
            events.NodeEnded: self._ended,
            events.RunStarted: self._run_started,
            events.RunEnded: self._run_ended,
            events.ReaderStarted: self._reader_started,
            events.ReaderEnded: self._reader_ended,
        }

    @property
    def wants_chunks(self) -> bool:
        """True if the time of every chunk is recorded."""
        return self._wants_chunks

    def __call__(self, event: events.Event) -> None:
        """Receive an event."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    @contextmanager
    def activate(self, operation: Operation) -> Generator[None]:
        """Make the span of an operation the current one, for the code of tools, nodes and relays."""
        span = self._open.get(operation.id)
        if span is None:
            yield
            return
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            yield
        finally:
            otel_context.detach(token)

    def trace(self, operation: Operation) -> str:
        """Return the `traceparent` of an operation's span, which a relay stores with its run.

        A run that is only reserved has no span yet; then it is that of the current span.
        """
        span = self._open.get(operation.id)
        carrier: dict[str, str] = {}
        propagate.inject(carrier, None if span is None else trace.set_span_in_context(span))
        return carrier.get("traceparent", "")

    # -- spans -------------------------------------------------------------------------------------------------------

    def _start(
        self,
        operation: Operation,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, Any],
        parent: otel_context.Context | None = None,
    ) -> None:
        """Start a span inside that of the nearest operation that has one, else in `parent`, else in the current one."""
        above = operation.parent
        while above is not None and above.id not in self._open:
            above = above.parent
        if above is not None:
            parent = trace.set_span_in_context(self._open[above.id])
        self._open[operation.id] = self._tracer.start_span(name, parent, kind, attributes)

    def _end(self, event: Any, attributes: Mapping[str, Any] | None = None) -> None:
        span = self._open.pop(event.operation.id, None)
        if span is None:
            return
        span.set_attributes({**(attributes or {}), names.OUTCOME: event.outcome})
        if event.outcome not in _NO_ERROR:
            error: BaseException | None = getattr(event, "error", None)
            if attributes is None or names.ERROR not in attributes:
                span.set_attribute(names.ERROR, error_type(event.outcome, error))
            span.set_status(Status(StatusCode.ERROR, content.of_text(str(error)) if error is not None else None))
        span.end()

    def _note(self, operation: Operation, name: str, attributes: Mapping[str, Any]) -> None:
        span = self._open.get(operation.id)
        if span is not None:
            span.add_event(name, attributes)

    def _ended(self, event: Any) -> None:
        """End the span of an operation that has nothing else to tell."""
        self._metrics.operation_ended(event.operation, event.outcome, event.seconds)
        self._end(event)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _answer_started(self, event: events.AnswerStarted) -> None:
        load_in_background()
        provider = provider_of(event.provider)
        model = event.operation.name
        self._answers[event.operation.id] = _OpenAnswer(provider, model)
        self._metrics.answer_started(provider)
        attributes = answer_start(event.request, model, provider)
        if self._content:
            attributes |= content.of_request(event.request)
        self._start(event.operation, f"chat {model}" if model else "chat", SpanKind.CLIENT, attributes)

    def _attempt_started(self, event: events.AttemptStarted) -> None:
        answer = self._answers.get(event.operation.id)
        if answer is not None:
            answer.attempts = event.number
            if event.request.model or provider_of(event.provider) != answer.provider:
                answer.model = event.request.model or ""

    def _attempt_ended(self, event: events.AttemptEnded) -> None:
        provider, answer = provider_of(event.attempt.provider), self._answers.get(event.operation.id)
        model = (answer and answer.model) or event.attempt.model or ""
        self._metrics.attempt_ended(event, provider, model)
        if event.error is not None:
            facts = {"attempt": event.number, names.PROVIDER: provider, names.ERROR: type(event.error).__name__}
            self._note(event.operation, "streamcore.attempt.failed", facts)

    def _fell_back(self, event: events.FellBack) -> None:
        provider = provider_of(event.provider)
        self._metrics.fell_back(provider, event.error)
        self._note(event.operation, "streamcore.fallback", {names.PROVIDER: provider})

    def _restarted(self, event: events.Restarted) -> None:
        self._metrics.restarted()
        self._note(event.operation, "streamcore.restart", {})

    def _chunks_arrived(self, event: events.ChunksArrived) -> None:
        now = time.monotonic()
        content_chunks = sum(1 for chunk in event.chunks if chunk.text)
        if not content_chunks:
            return
        answer = self._answers.get(event.operation.id)
        if answer is None:
            return
        if answer.last_chunk is not None:
            self._metrics.chunk(now - answer.last_chunk, answer.labels)
        answer.last_chunk = now

    def _answer_ended(self, event: events.AnswerEnded) -> None:
        answer, provider = event.completion, provider_of(event.provider)
        opened = self._answers.pop(event.operation.id, None) or _OpenAnswer(provider, event.operation.name)
        counts = counts_of(answer.usage, cache_apart=_cache_apart(event.provider))
        model = answer.attempts[-1].model if answer.attempts else None
        attributes: dict[str, str] = {names.OPERATION: "chat", names.PROVIDER: provider}
        requested = event.operation.name or model
        if requested:
            attributes[names.REQUEST_MODEL] = requested
        if answer.model:
            attributes[names.RESPONSE_MODEL] = answer.model
        error = None if event.outcome in _NO_ERROR else error_type(event.outcome, event.error)
        facts = answer_end(event, provider, counts, max(opened.attempts, len(answer.attempts)))
        if self._content:
            facts |= content.of_answer(answer)
        try:
            self._add_cost(answer, facts, attributes)
        finally:  # a file of prices that is not valid raises
            self._end(event, facts)
            self._metrics.answer_ended(event, opened.provider, attributes, counts, error)

    def _add_cost(self, answer: Completion, facts: dict[str, Any], point: Mapping[str, str] | None) -> None:
        """Add what an answer costs to the attributes of its span, and to the metric.

        While the list of prices is being loaded, only the metric is recorded, later: a span that ended late could be
        missing in what an application flushes.
        """

        def record() -> None:
            cost = cost_of(answer)
            if cost is not None:
                facts.update(of_cost(cost))
                if point is not None:
                    self._metrics.priced(cost, point)

        run_when_loaded(record)

    # -- agents and tools --------------------------------------------------------------------------------------------

    def _agent_started(self, event: events.AgentStarted) -> None:
        name = event.operation.name
        attributes = agent_start(event, provider_of(event.provider))
        if self._content:
            attributes |= content.of_request(event.request)
        self._start(event.operation, f"invoke_agent {name}" if name else "invoke_agent", SpanKind.INTERNAL, attributes)

    def _agent_ended(self, event: events.AgentEnded) -> None:
        self._metrics.operation_ended(event.operation, event.outcome, event.seconds)
        answer = event.completion
        apart = _cache_apart(answer.attempts[-1].provider) if answer.attempts else False
        facts = agent_end(event, counts_of(answer.usage, cache_apart=apart))
        if self._content:
            facts |= content.of_answer(answer)
        try:
            self._add_cost(answer, facts, None)
        finally:
            self._end(event, facts)

    def _tool_started(self, event: events.ToolStarted) -> None:
        attributes = tool_start(event)
        if self._content:
            attributes[names.TOOL_ARGUMENTS] = content.of_text(event.call.arguments)
        self._start(event.operation, f"execute_tool {event.operation.name}", SpanKind.INTERNAL, attributes)

    def _tool_ended(self, event: events.ToolEnded) -> None:
        self._metrics.operation_ended(event.operation, event.outcome, event.seconds)
        facts = tool_end(event)
        if self._content and event.result is not None:
            facts[names.TOOL_RESULT] = content.of_text(event.result.content)
        self._end(event, facts)

    # -- graphs and relays -------------------------------------------------------------------------------------------

    def _graph_started(self, event: events.GraphStarted) -> None:
        attributes = {names.OPERATION: "invoke_workflow", names.WORKFLOW: event.operation.name}
        if event.thread is not None:
            attributes[names.CONVERSATION] = event.thread
        self._start(event.operation, f"invoke_workflow {event.operation.name}", SpanKind.INTERNAL, attributes)

    def _node_started(self, event: events.NodeStarted) -> None:
        attributes = {names.NODE: event.operation.name, names.NODE_TYPE: event.type}
        self._start(event.operation, f"node {event.operation.name}", SpanKind.INTERNAL, attributes)

    def _run_started(self, event: events.RunStarted) -> None:
        self._metrics.runs(1)
        parent = propagate.extract({"traceparent": event.trace}) if event.trace else None
        self._start(event.operation, "relay run", SpanKind.INTERNAL, {names.RUN: event.operation.name}, parent)

    def _run_ended(self, event: events.RunEnded) -> None:
        self._metrics.runs(-1)
        self._metrics.operation_ended(event.operation, event.outcome, event.seconds)
        self._end(event, {names.ITEMS: event.items})

    def _reader_started(self, event: events.ReaderStarted) -> None:
        """Start the span of a reader inside the run that it reads, perhaps another worker's, and link the request."""
        self._metrics.readers(1)
        attributes = {names.RUN: event.operation.name}
        parent = propagate.extract({"traceparent": event.trace}) if event.trace else None
        here = trace.get_current_span().get_span_context()
        links = [Link(here)] if event.trace and here.is_valid else None
        span = self._tracer.start_span("relay read", parent, SpanKind.INTERNAL, attributes, links)
        self._open[event.operation.id] = span

    def _reader_ended(self, event: events.ReaderEnded) -> None:
        self._metrics.readers(-1)
        self._end(event)


def error_type(outcome: str, error: BaseException | None) -> str:
    """Return the class of an error, or of the error that a node raised; the outcome if there is none."""
    cause = getattr(error, "cause", None) if type(error).__name__ == "NodeError" else None
    found = cause if isinstance(cause, BaseException) else error
    return outcome if found is None or isinstance(found, GeneratorExit) else type(found).__name__


@cache
def provider_of(name: str) -> str:
    """Return a provider's name in the conventions; its own name if they have none."""
    found = vendor(name) if name in provider_names() else None
    return name if found is None else found.telemetry_name or found.name


@cache
def _cache_apart(name: str) -> bool:
    found = vendor(name) if name in provider_names() else None
    return found is not None and found.cache_apart
